// Another FileSystem whose syncs, and writes, are in a test's hands.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "tests/support/forwarding_file_system.h"

namespace taskwal {

class WatchedSyncs : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  // Called in place of each sync, with the file as the target has it. Set while nobody syncs.
  std::function<Status(WritableFile& file)> on_sync = [](WritableFile& file) {
    return file.Sync();
  };
  // Called before each write, with none of its bytes written. Set while nobody writes.
  std::function<void()> on_write = [] {};

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    auto file = ForwardingFileSystem::OpenWritable(path, create);
    if (!file.ok()) return file;
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file).value()));
  }

 private:
  class File final : public WritableFile {
   public:
    File(WatchedSyncs& fs, std::unique_ptr<WritableFile> file) : fs_(fs), file_(std::move(file)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      fs_.on_write();
      return file_->Write(offset, bytes);
    }
    Status Sync() override { return fs_.on_sync(*file_); }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      const Status written = Write(offset, bytes);
      return written.ok() ? Sync() : written;
    }
    Status Truncate(std::uint64_t size) override { return file_->Truncate(size); }

   private:
    WatchedSyncs& fs_;
    const std::unique_ptr<WritableFile> file_;
  };
};

}  // namespace taskwal

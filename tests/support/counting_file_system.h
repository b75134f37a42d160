// Another FileSystem whose calls are counted, and the bytes that they read and write: everybody's,
// or those of the thread that made the counter alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/forwarding_file_system.h"

namespace taskwal {

class CountingFileSystem final : public ForwardingFileSystem {
 public:
  enum class Whose : std::uint8_t { kEverybodys, kMakers };
  explicit CountingFileSystem(FileSystem& target, Whose whose = Whose::kEverybodys)
      : ForwardingFileSystem(target), whose_(whose) {}

  struct Counts {
    std::uint64_t calls = 0;  // on the file system and on what it opened for reading
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
  };
  [[nodiscard]] Counts counts() const {
    return {calls_.load(), bytes_read_.load(), bytes_written_.load()};
  }

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    CountCall();
    auto opened = ForwardingFileSystem::OpenWritable(path, create);
    if (!opened.ok()) return opened.status();
    return std::unique_ptr<WritableFile>(
        std::make_unique<CountingWriter>(*this, std::move(opened).value()));
  }
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    CountCall();
    auto opened = ForwardingFileSystem::OpenReadable(path);
    if (!opened.ok()) return opened.status();
    return std::unique_ptr<ReadableFile>(
        std::make_unique<CountingFile>(*this, std::move(opened).value()));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    CountCall();
    return ForwardingFileSystem::Rename(from, to);
  }
  Status Remove(const std::string& path) override {
    CountCall();
    return ForwardingFileSystem::Remove(path);
  }
  Status SyncDirectory(const std::string& path) override {
    CountCall();
    return ForwardingFileSystem::SyncDirectory(path);
  }
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    CountCall();
    return ForwardingFileSystem::List(path);
  }
  Result<FileStat> Stat(const std::string& path) override {
    CountCall();
    return ForwardingFileSystem::Stat(path);
  }

 private:
  class CountingFile final : public ReadableFile {
   public:
    CountingFile(CountingFileSystem& counter, std::unique_ptr<ReadableFile> target)
        : counter_(counter), target_(std::move(target)) {}
    Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const override {
      counter_.CountCall();
      auto count = target_->Read(offset, into);
      if (count.ok() && counter_.IsCounted()) counter_.bytes_read_ += *count;
      return count;
    }
    Result<std::uint64_t> Size() const override {
      counter_.CountCall();
      return target_->Size();
    }

   private:
    CountingFileSystem& counter_;
    const std::unique_ptr<ReadableFile> target_;
  };

  class CountingWriter final : public WritableFile {
   public:
    CountingWriter(CountingFileSystem& counter, std::unique_ptr<WritableFile> target)
        : counter_(counter), target_(std::move(target)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      if (counter_.IsCounted()) counter_.bytes_written_ += bytes.size();
      return target_->Write(offset, bytes);
    }
    Status Sync() override { return target_->Sync(); }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      if (counter_.IsCounted()) counter_.bytes_written_ += bytes.size();
      return target_->WriteAndSync(offset, bytes);
    }
    Status Truncate(std::uint64_t size) override { return target_->Truncate(size); }

   private:
    CountingFileSystem& counter_;
    const std::unique_ptr<WritableFile> target_;
  };

  [[nodiscard]] bool IsCounted() const {
    return whose_ == Whose::kEverybodys || std::this_thread::get_id() == maker_;
  }
  void CountCall() {
    if (IsCounted()) ++calls_;
  }

  const Whose whose_;
  const std::thread::id maker_ = std::this_thread::get_id();
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> bytes_read_{0};
  std::atomic<std::uint64_t> bytes_written_{0};
};

}  // namespace taskwal

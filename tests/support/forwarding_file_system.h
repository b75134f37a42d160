// Another FileSystem with its calls passed on: derive from it and override the one to watch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"

namespace taskwal {

class ForwardingFileSystem : public FileSystem {
 public:
  explicit ForwardingFileSystem(FileSystem& target) : target_(target) {}

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    return target_.OpenWritable(path, create);
  }
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    return target_.OpenReadable(path);
  }
  Result<std::unique_ptr<RingFile>> CreateRing(const std::string& path,
                                               std::uint64_t ring_bytes) override {
    return target_.CreateRing(path, ring_bytes);
  }
  Result<std::unique_ptr<RingFile>> OpenRing(const std::string& path) override {
    return target_.OpenRing(path);
  }
  Status Rename(const std::string& from, const std::string& to) override {
    return target_.Rename(from, to);
  }
  Status Exchange(const std::string& a, const std::string& b) override {
    return target_.Exchange(a, b);
  }
  Status Remove(const std::string& path) override { return target_.Remove(path); }
  Status SyncDirectory(const std::string& path) override { return target_.SyncDirectory(path); }
  Status MakeDirectories(const std::string& path) override { return target_.MakeDirectories(path); }
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    return target_.List(path);
  }
  Result<FileStat> Stat(const std::string& path) override { return target_.Stat(path); }
  Result<DiskSpace> Space(const std::string& path) override { return target_.Space(path); }
  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    return target_.Lock(path);
  }
  Result<Uuid> BootId() override { return target_.BootId(); }

 private:
  FileSystem& target_;
};

}  // namespace taskwal

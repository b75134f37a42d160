// A log directory in memory-backed storage that a fuzzer fills with one file per run.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "base/check.h"
#include "base/file_system.h"

namespace taskwal {

class FuzzDirectory {
 public:
  FuzzDirectory() {
    const std::filesystem::path memory = "/dev/shm";
    const auto parent =
        std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    path_ = (parent / "taskwal-fuzz-XXXXXX").string();
    TASKWAL_CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~FuzzDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  void Write(const std::string& name, std::span<const std::byte> content) {
    auto file = FileSystem::Real().OpenWritable(path_ + "/" + name, true);
    TASKWAL_CHECK(file.ok());
    TASKWAL_CHECK((*file)->Truncate(0).ok());
    TASKWAL_CHECK((*file)->Write(0, content).ok());
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace taskwal

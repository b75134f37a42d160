// Pieces of the machine's file system that its parts share: descriptors, errno as Status, files.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/file_system.h"
#include "taskwal/status.h"

namespace taskwal {

// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd();

  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// "cannot <what>: <text of error> (errno N)" under the code that the errno stands for; and what to
// name instead of a directory, or of what is none.
Status ErrnoStatus(std::string_view what, int error);

// open(2) with O_CLOEXEC, gone on with after EINTR. `what` is the verb of the message.
Result<UniqueFd> OpenFd(const std::string& path, int flags, std::string_view what, mode_t mode = 0);

// pwrite(2) until everything is written.
Status WriteFully(int fd, const std::string& path, std::uint64_t offset,
                  std::span<const std::byte> bytes);
// pread(2) until `into` is full or the file ends.
Result<std::size_t> ReadFully(int fd, const std::string& path, std::uint64_t offset,
                              std::span<std::byte> into);

std::unique_ptr<WritableFile> MakePosixWritable(UniqueFd fd, std::string path);
std::unique_ptr<ReadableFile> MakePosixReadable(UniqueFd fd, std::string path);

}  // namespace taskwal

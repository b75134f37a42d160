// A write and its fdatasync as one linked request through io_uring, for one file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace taskwal {

// Process-wide: whether io_uring may be used (SetIoUringAllowed) and the kernel has not refused it.
bool IoUringUsable();

// Not thread-safe. The kernel queue is made at the first call.
class IoUringQueue {
 public:
  struct Outcome {
    enum Kind : std::uint8_t { kDone, kWriteFailed, kSyncFailed, kUsePlainCalls };
    Kind kind = kUsePlainCalls;
    int error = 0;  // errno of the failed half
  };

  IoUringQueue();
  ~IoUringQueue();
  IoUringQueue(const IoUringQueue&) = delete;
  IoUringQueue& operator=(const IoUringQueue&) = delete;

  // kUsePlainCalls: the bytes may be written in part, and no sync was attempted.
  Outcome WriteAndSync(int fd, std::uint64_t offset, std::span<const std::byte> bytes);

 private:
  struct Ring;
  bool Open();

  std::unique_ptr<Ring> ring_;
  bool refused_ = false;
};

}  // namespace taskwal

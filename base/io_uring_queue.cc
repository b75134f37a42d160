#include "base/io_uring_queue.h"

#include <liburing.h>

#include <atomic>
#include <cerrno>
#include <limits>

#include "base/check.h"
#include "base/posix_file_system.h"

namespace taskwal {
namespace {

std::atomic<bool> allowed{true};
std::atomic<bool> refused_by_kernel{false};

// Completions carry which half of the request they answer.
constexpr std::uint64_t kWriteTag = 0;
constexpr std::uint64_t kSyncTag = 1;
constexpr unsigned kRequests = 2;

// Errors that say nothing about the file: plain calls find out.
bool IsAboutTheQueue(int error) {
  return error == EINTR || error == EAGAIN || error == EINVAL || error == EOPNOTSUPP ||
         error == ECANCELED || error == ENOMEM;
}

IoUringQueue::Outcome Judge(const int (&results)[kRequests], std::size_t size) {
  using Outcome = IoUringQueue::Outcome;
  const int written = results[kWriteTag];
  const int synced = results[kSyncTag];
  if (written < 0 && !IsAboutTheQueue(-written)) return {Outcome::kWriteFailed, -written};
  // A short write breaks the link, so that the sync was cancelled.
  if (written < 0 || static_cast<std::size_t>(written) < size) return {};
  if (synced == 0) return {Outcome::kDone, 0};
  // Only a sync that never began may be repeated: the kernel tells a lost write once.
  if (synced == -ECANCELED) return {};
  return {Outcome::kSyncFailed, -synced};
}

}  // namespace

void SetIoUringAllowed(bool value) { allowed.store(value); }

bool IoUringUsable() { return allowed.load() && !refused_by_kernel.load(); }

struct IoUringQueue::Ring {
  ~Ring() {
    if (open) io_uring_queue_exit(&kernel);
  }
  io_uring kernel{};
  bool open = false;
};

IoUringQueue::IoUringQueue() = default;
IoUringQueue::~IoUringQueue() = default;

bool IoUringQueue::Open() {
  if (refused_) return false;
  if (ring_) return true;
  auto ring = std::make_unique<Ring>();
  const int error = -io_uring_queue_init(kRequests, &ring->kernel, 0);
  if (error == 0) {
    ring->open = true;
    ring_ = std::move(ring);
    return true;
  }
  // Containers and kernel.io_uring_disabled forbid it for good; ENOMEM (a limit) is one file's.
  if (error == EPERM || error == ENOSYS) refused_by_kernel.store(true);
  refused_ = true;
  return false;
}

IoUringQueue::Outcome IoUringQueue::WriteAndSync(int fd, std::uint64_t offset,
                                                 std::span<const std::byte> bytes) {
  if (bytes.size() > std::numeric_limits<int>::max() || !Open()) return {};
  io_uring* kernel = &ring_->kernel;
  io_uring_sqe* write = io_uring_get_sqe(kernel);
  io_uring_sqe* sync = io_uring_get_sqe(kernel);
  io_uring_prep_write(write, fd, bytes.data(), static_cast<unsigned>(bytes.size()), offset);
  io_uring_sqe_set_flags(write, IOSQE_IO_LINK);
  io_uring_sqe_set_data64(write, kWriteTag);
  io_uring_prep_fsync(sync, fd, IORING_FSYNC_DATASYNC);
  io_uring_sqe_set_data64(sync, kSyncTag);

  const int submitted = io_uring_submit_and_wait(kernel, kRequests);
  int results[kRequests] = {-ECANCELED, -ECANCELED};
  // The kernel reads `bytes` until it has answered, so every accepted request is waited for.
  for (int answered = 0; answered < submitted;) {
    io_uring_cqe* answer = nullptr;
    const int error = -io_uring_wait_cqe(kernel, &answer);
    if (error == EINTR || error == EAGAIN) continue;
    TASKWAL_CHECK(error == 0);
    results[io_uring_cqe_get_data64(answer)] = answer->res;
    io_uring_cqe_seen(kernel, answer);
    ++answered;
  }
  if (submitted != static_cast<int>(kRequests)) {
    // Requests left in the queue must never reach the kernel later.
    ring_.reset();
    refused_ = true;
  }
  return Judge(results, bytes.size());
}

}  // namespace taskwal

#include "base/posix_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <system_error>

#include "base/io_uring_queue.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/whole_read.h"

namespace taskwal {
namespace {

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    return WriteFully(fd_.get(), path_, offset, bytes);
  }

  // Never repeated here: after a failed fdatasync a second one answers OK although data is gone.
  Status Sync() override {
    if (::fdatasync(fd_.get()) == 0) return Status::Ok();
    return ErrnoStatus("sync " + path_, errno);
  }

  Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
    if (auto outcome = ThroughQueue(offset, bytes)) return *std::move(outcome);
    TASKWAL_TRY(Write(offset, bytes));
    return Sync();
  }

  Status Truncate(std::uint64_t size) override {
    while (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
      if (errno != EINTR) return ErrnoStatus(fmt::format("resize {} to {}", path_, size), errno);
    }
    return Status::Ok();
  }

 private:
  // Nothing where plain calls must do it: io_uring is refused, in use by another thread, or wrote
  // only a part. Writing the same bytes again is harmless.
  std::optional<Status> ThroughQueue(std::uint64_t offset, std::span<const std::byte> bytes) {
    if (!IoUringUsable() || !queue_mutex_.TryLock()) return std::nullopt;
    const IoUringQueue::Outcome outcome = queue_.WriteAndSync(fd_.get(), offset, bytes);
    queue_mutex_.Unlock();
    switch (outcome.kind) {
      case IoUringQueue::Outcome::kDone:
        return Status::Ok();
      case IoUringQueue::Outcome::kWriteFailed:
        return ErrnoStatus(fmt::format("write {} at {}", path_, offset), outcome.error);
      case IoUringQueue::Outcome::kSyncFailed:
        return ErrnoStatus("sync " + path_, outcome.error);
      case IoUringQueue::Outcome::kUsePlainCalls:
        break;
    }
    return std::nullopt;
  }

  const UniqueFd fd_;
  const std::string path_;
  Mutex queue_mutex_;  // only ever tried, so that no thread waits behind another's sync
  IoUringQueue queue_ GUARDED_BY(queue_mutex_);
};

class PosixReadableFile final : public ReadableFile {
 public:
  PosixReadableFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const override {
    return ReadFully(fd_.get(), path_, offset, into);
  }

  Result<std::uint64_t> Size() const override {
    struct stat found {};
    if (::fstat(fd_.get(), &found) != 0) return ErrnoStatus("read the size of " + path_, errno);
    return static_cast<std::uint64_t>(found.st_size);
  }

 private:
  const UniqueFd fd_;
  const std::string path_;
};

StatusCode CodeOf(int error) {
  if (error == ENOENT) return StatusCode::kNotFound;
  if (error == ENOSPC || error == EDQUOT) return StatusCode::kUnavailable;
  if (error == EMFILE || error == ENFILE) return StatusCode::kOverloaded;
  return StatusCode::kIoError;
}

std::string_view AdviceFor(int error) {
  switch (error) {
    case EISDIR: return ": name a file";
    case ENOTDIR: return ": name a directory";
    case EACCES:
    case EPERM: return ": give this user the right to it, or name another";
    case EROFS: return ": name one that can be written";
    default: return "";
  }
}

// What was to be opened, or what it was to be made in, is not there.
std::string_view AdviceOnAbsent(int flags) {
  if ((flags & O_CREAT) != 0) return ": make its directory, or name another";
  return (flags & O_DIRECTORY) != 0 ? ": name a directory that is there"
                                    : ": name a file that is there";
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

Status ErrnoStatus(std::string_view what, int error) {
  return {CodeOf(error), fmt::format("cannot {}: {} (errno {}){}", what,
                                     std::generic_category().message(error), error,
                                     AdviceFor(error))};
}

Result<UniqueFd> OpenFd(const std::string& path, int flags, std::string_view what, mode_t mode) {
  while (true) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return UniqueFd(fd);
    if (errno == EINTR) continue;
    const int error = errno;
    const Status failed = ErrnoStatus(fmt::format("{} {}", what, path), error);
    if (error != ENOENT) return failed;
    return Status(failed.code(), failed.message() + std::string(AdviceOnAbsent(flags)));
  }
}

Status WriteFully(int fd, const std::string& path, std::uint64_t offset,
                  std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    // A write of nothing without an error would repeat for ever.
    const int error = count == 0 ? EIO : errno;
    if (count <= 0) return ErrnoStatus(fmt::format("write {} at {}", path, offset), error);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return Status::Ok();
}

Result<std::size_t> ReadFully(int fd, const std::string& path, std::uint64_t offset,
                              std::span<std::byte> into) {
  const auto read_some = [&](std::uint64_t from,
                             std::span<std::byte> part) -> Result<std::size_t> {
    while (true) {
      ssize_t count = ::pread(fd, part.data(), part.size(), static_cast<off_t>(from));
      // It comes in its own order.
      if (count < 0 && errno == ESPIPE) count = ::read(fd, part.data(), part.size());
      if (count >= 0) return static_cast<std::size_t>(count);
      if (errno != EINTR) return ErrnoStatus(fmt::format("read {} at {}", path, from), errno);
    }
  };
  return ReadWhole(offset, into, read_some);
}

std::unique_ptr<WritableFile> MakePosixWritable(UniqueFd fd, std::string path) {
  return std::make_unique<PosixWritableFile>(std::move(fd), std::move(path));
}

std::unique_ptr<ReadableFile> MakePosixReadable(UniqueFd fd, std::string path) {
  return std::make_unique<PosixReadableFile>(std::move(fd), std::move(path));
}

}  // namespace taskwal

#include "base/posix_ring.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "base/status_macros.h"

namespace taskwal {
namespace {

// Owns a stretch of address space, whatever is mapped into it.
class PosixRingFile final : public RingFile {
 public:
  PosixRingFile(std::byte* start, std::uint64_t ring_bytes)
      : start_(start), ring_bytes_(ring_bytes) {}
  ~PosixRingFile() override { ::munmap(start_, kRingHeaderBytes + 2 * ring_bytes_); }

  std::span<std::byte> header() override { return {start_, kRingHeaderBytes}; }
  std::byte* ring() override { return start_ + kRingHeaderBytes; }
  std::uint64_t ring_bytes() const override { return ring_bytes_; }

 private:
  std::byte* const start_;
  const std::uint64_t ring_bytes_;
};

std::uint64_t PageBytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

bool IsRingSize(std::uint64_t bytes) { return std::has_single_bit(bytes) && bytes >= PageBytes(); }

// A store into a page that has no block behind it on a full disk is SIGBUS: so every block is
// allocated before the file is mapped.
Status Allocate(int fd, const std::string& path, std::uint64_t bytes) {
  int error = EINTR;
  while (error == EINTR) error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0) return Status::Ok();
  return ErrnoStatus(fmt::format("allocate {} bytes for {}", bytes, path), error);
}

struct Part {
  std::byte* at;
  std::uint64_t bytes;
  std::uint64_t offset;  // in the file
};

Status MapPart(const Part& part, int fd, RingAccess access, const std::string& path) {
  const int protection = access == RingAccess::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* got = ::mmap(part.at, part.bytes, protection, MAP_SHARED | MAP_FIXED, fd,
                     static_cast<off_t>(part.offset));
  if (got != MAP_FAILED) return Status::Ok();
  return ErrnoStatus(fmt::format("map {} at {}", path, part.offset), errno);
}

Result<std::unique_ptr<RingFile>> FillAndMap(const std::string& path, std::uint64_t ring_bytes) {
  TASKWAL_ASSIGN(UniqueFd fd, OpenFd(path, O_RDWR | O_CREAT | O_TRUNC, "create", 0600));
  TASKWAL_TRY(Allocate(fd.get(), path, kRingHeaderBytes + ring_bytes));
  return MapRing(std::move(fd), path, ring_bytes, RingAccess::kReadWrite);
}

// On a full disk a look at a hole may be SIGBUS as well (tmpfs gives it a page): what somebody
// copied sparsely is read into memory.
Result<UniqueFd> CopyToMemory(const UniqueFd& file, const std::string& path, std::uint64_t size) {
  UniqueFd memory(::memfd_create("ring", MFD_CLOEXEC));
  if (memory.get() < 0) return ErrnoStatus("make room for a copy of " + path, errno);
  std::vector<std::byte> bytes(size);
  TASKWAL_ASSIGN(const std::size_t count, ReadFully(file.get(), path, 0, bytes));
  bytes.resize(count);
  TASKWAL_TRY(WriteFully(memory.get(), path, 0, bytes));
  return memory;
}

}  // namespace

Result<std::unique_ptr<RingFile>> MapRing(UniqueFd fd, const std::string& path,
                                          std::uint64_t ring_bytes, RingAccess access) {
  const std::uint64_t total = kRingHeaderBytes + 2 * ring_bytes;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* space = ::mmap(nullptr, total, PROT_NONE, kFlags, -1, 0);
  if (space == MAP_FAILED) return ErrnoStatus("reserve address space for " + path, errno);
  auto* start = static_cast<std::byte*>(space);
  auto ring = std::make_unique<PosixRingFile>(start, ring_bytes);
  const std::uint64_t file_bytes = kRingHeaderBytes + ring_bytes;
  TASKWAL_TRY(MapPart({start, file_bytes, 0}, fd.get(), access, path));
  TASKWAL_TRY(MapPart({start + file_bytes, ring_bytes, kRingHeaderBytes}, fd.get(), access, path));
  return std::unique_ptr<RingFile>(std::move(ring));
}

Result<std::unique_ptr<RingFile>> CreatePosixRing(const std::string& path,
                                                  std::uint64_t ring_bytes) {
  if (!IsRingSize(ring_bytes)) {
    return Status::InvalidArgument(fmt::format(
        "cannot create {}: {} bytes are no power of two of whole pages", path, ring_bytes));
  }
  // Crash here: a temporary file is left, which the next creation truncates.
  const std::string temporary = path + ".tmp";
  auto ring = FillAndMap(temporary, ring_bytes);
  if (ring.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    ring = ErrnoStatus("rename " + temporary + " to " + path, errno);
  }
  if (!ring.ok()) ::unlink(temporary.c_str());
  return ring;
}

Result<std::unique_ptr<RingFile>> OpenPosixRing(const std::string& path) {
  TASKWAL_ASSIGN(UniqueFd fd, OpenFd(path, O_RDONLY, "open"));
  struct stat found {};
  if (::fstat(fd.get(), &found) != 0) return ErrnoStatus("read the size of " + path, errno);
  const auto size = static_cast<std::uint64_t>(found.st_size);
  if (size < kRingHeaderBytes || !IsRingSize(size - kRingHeaderBytes)) {
    return Status::Corruption(fmt::format("{} has {} bytes, which no ring has", path, size));
  }
  const bool has_holes = static_cast<std::uint64_t>(found.st_blocks) * 512 < size;
  if (has_holes) {
    TASKWAL_ASSIGN(fd, CopyToMemory(fd, path, size));
  }
  return MapRing(std::move(fd), path, size - kRingHeaderBytes, RingAccess::kRead);
}

}  // namespace taskwal

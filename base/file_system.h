// The fault seam: every file operation of the product goes through FileSystem, which is the
// machine's (posix_file_system.h) or a simulated one that fails, crashes and forgets what was not
// synced.
//
// All calls may be made from any thread. Failures are kIoError (kNotFound where the file is absent,
// kUnavailable for no space: ENOSPC, EDQUOT; kOverloaded where no descriptor is left: EMFILE,
// ENFILE), the message naming the path, the call and the errno.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal {

// One open file description. A sync failure is told once per description: so whoever syncs opens
// its own before anybody writes.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // All of it, or an error (short writes and EINTR are gone on with).
  virtual Status Write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Status Sync() = 0;  // fdatasync
  // Write and Sync as one request where the implementation can (io_uring), else one after another.
  virtual Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Status Truncate(std::uint64_t size) = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Bytes read: fewer than asked only at the end. Of a pipe: what comes next, whatever the offset.
  virtual Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const = 0;
  virtual Result<std::uint64_t> Size() const = 0;
};

// A shared file mapping that survives the death of the process. The ring part is mapped twice in a
// row, so that ring()[i] and ring()[i + ring_bytes] are the same byte and no record ever wraps.
class RingFile {
 public:
  virtual ~RingFile() = default;
  virtual std::span<std::byte> header() = 0;  // 4096 bytes
  virtual std::byte* ring() = 0;              // 2 x ring_bytes of address space
  virtual std::uint64_t ring_bytes() const = 0;
};

// Held while it lives; released by the kernel when the process dies.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct FileStat {
  std::uint64_t size = 0;
  std::uint64_t inode = 0;
  std::uint64_t born = 0;  // birth time, ns since 1970; 0 where the file system keeps none
  Time modified{};
};

struct DiskSpace {
  std::uint64_t total = 0;
  std::uint64_t available = 0;
  // No file can be made, whatever is available. False where the file system counts none.
  bool lacks_inodes = false;
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Opens for writing; `create` makes it when absent (mode 0600), never truncates.
  virtual Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                             bool create) = 0;
  virtual Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) = 0;
  // `ring_bytes` (a power of two, whole pages) must be what the file was made with: it is allocated
  // for real on creation, so that no later store meets a full disk.
  virtual Result<std::unique_ptr<RingFile>> CreateRing(const std::string& path,
                                                       std::uint64_t ring_bytes) = 0;
  // What a dead or a living process left there, to be read only; changes nothing.
  virtual Result<std::unique_ptr<RingFile>> OpenRing(const std::string& path) = 0;

  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // Swaps the two names, at once. Fails where the file system cannot.
  virtual Status Exchange(const std::string& a, const std::string& b);
  virtual Status Remove(const std::string& path) = 0;
  virtual Status SyncDirectory(const std::string& path) = 0;
  // Mode 0700, parents included; what was made is on disk on return.
  virtual Status MakeDirectories(const std::string& path) = 0;
  virtual Result<std::vector<DirectoryEntry>> List(const std::string& path) = 0;  // sorted by name
  virtual Result<FileStat> Stat(const std::string& path) = 0;
  virtual Result<DiskSpace> Space(const std::string& path) = 0;
  // kUnavailable when another process holds it; the message names its process id.
  virtual Result<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;
  // Another boot means that the page cache was lost.
  virtual Result<Uuid> BootId() = 0;

  static FileSystem& Real();
};

// The whole file; kNotFound when absent. Where no size is told (a pipe, /proc): 256 MiB at most.
Result<std::string> ReadFile(FileSystem& fs, const std::string& path);
// Temp file, sync, rename, directory sync: the old content or the new, never a mixture.
Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content);
// The same on a disk without room: written over `room`, a file nobody reads, which then swaps names
// with `path`, so that what the old content took is room for the next, beside what this one does
// not need. kNotFound where there is no such file.
Status WriteFileInPlaceOf(FileSystem& fs, const std::string& room, const std::string& path,
                          std::string_view content);

}  // namespace taskwal

#include "base/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <utility>

#include "base/posix_file.h"
#include "base/posix_ring.h"
#include "base/status_macros.h"

namespace taskwal {
namespace {

// Closing the descriptor gives the lock back.
class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  const UniqueFd fd_;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The process id that the holder left in the lock file; "another process" where there is none yet.
std::string HolderOf(int fd, const std::string& path) {
  std::array<std::byte, 16> bytes{};
  const auto size = ReadFully(fd, path, 0, bytes);
  const std::string_view text = AsText(std::span(bytes).first(size.ok() ? *size : 0));
  int pid = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), pid).ec != std::errc{}) {
    return "another process";
  }
  return fmt::format("process {}", pid);
}

Status SyncDirectoryAt(const std::string& path) {
  TASKWAL_ASSIGN(const UniqueFd fd, OpenFd(path, O_RDONLY | O_DIRECTORY, "open directory"));
  if (::fsync(fd.get()) != 0) return ErrnoStatus("sync directory " + path, errno);
  return Status::Ok();
}

bool IsDanglingLink(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) != 0 && errno == ENOENT &&
         ::lstat(path.c_str(), &found) == 0 && S_ISLNK(found.st_mode);
}

Status ListError(const std::string& path, int error) {
  const Status failed = ErrnoStatus("list " + path, error);
  if (error != ENOENT) return failed;
  return {failed.code(), failed.message() + ": name a directory that is there"};
}

Status MakeDirectory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return SyncDirectoryAt(".");
    return SyncDirectoryAt(slash == 0 ? "/" : path.substr(0, slash));
  }
  const int error = errno;
  struct stat found {};
  // Any error is fine where the directory is there: a parent may stand on a read-only file system.
  if (::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) return Status::Ok();
  if (error == EEXIST && IsDanglingLink(path)) {
    return Status::IoError("cannot create directory " + path +
                           ": it is a link to nothing: make what it points to, or name another");
  }
  if (error == EEXIST) {
    return Status::IoError("cannot create directory " + path +
                           ": a file of that name is there: name another");
  }
  const Status failed = ErrnoStatus("create directory " + path, error);
  return error == ENOENT ? Status(failed.code(), failed.message() + ": name another") : failed;
}

std::uint64_t Nanoseconds(const statx_timestamp& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u + time.tv_nsec;
}

bool IsDirectory(DIR* directory, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
  struct stat found {};
  return ::fstatat(::dirfd(directory), entry.d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISDIR(found.st_mode);
}

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    TASKWAL_ASSIGN(UniqueFd fd, OpenFd(path, O_RDWR | (create ? O_CREAT : 0), "open", 0600));
    return MakePosixWritable(std::move(fd), path);
  }

  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    TASKWAL_ASSIGN(UniqueFd fd, OpenFd(path, O_RDONLY, "open"));
    return MakePosixReadable(std::move(fd), path);
  }

  Result<std::unique_ptr<RingFile>> CreateRing(const std::string& path,
                                               std::uint64_t ring_bytes) override {
    return CreatePosixRing(path, ring_bytes);
  }

  Result<std::unique_ptr<RingFile>> OpenRing(const std::string& path) override {
    return OpenPosixRing(path);
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return Status::Ok();
    return ErrnoStatus("rename " + from + " to " + to, errno);
  }

  Status Exchange(const std::string& a, const std::string& b) override {
    const long done =
        ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
    if (done == 0) return Status::Ok();
    return ErrnoStatus("exchange " + a + " and " + b, errno);
  }

  Status Remove(const std::string& path) override {
    if (std::remove(path.c_str()) == 0) return Status::Ok();
    return ErrnoStatus("remove " + path, errno);
  }

  Status SyncDirectory(const std::string& path) override { return SyncDirectoryAt(path); }

  Status MakeDirectories(const std::string& path) override {
    for (std::size_t end = 0; end != std::string::npos;) {
      end = path.find('/', end + 1);
      const std::string part = path.substr(0, end);
      if (!part.empty() && part.back() != '/') TASKWAL_TRY(MakeDirectory(part));
    }
    return Status::Ok();
  }

  Result<std::vector<DirectoryEntry>> List(const std::string& path) override {
    const std::unique_ptr<DIR, CloseDirectory> directory(::opendir(path.c_str()));
    if (!directory) return ListError(path, errno);
    std::vector<DirectoryEntry> entries;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(directory.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      entries.push_back({std::string(name), IsDirectory(directory.get(), *entry)});
    }
    if (errno != 0) return ErrnoStatus("list " + path, errno);
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    return entries;
  }

  Result<FileStat> Stat(const std::string& path) override {
    struct statx found {};
    if (::statx(AT_FDCWD, path.c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) {
      return ErrnoStatus("stat " + path, errno);
    }
    FileStat stat;
    stat.size = found.stx_size;
    stat.inode = found.stx_ino;
    if ((found.stx_mask & STATX_BTIME) != 0) stat.born = Nanoseconds(found.stx_btime);
    stat.modified = Time(std::chrono::microseconds(Nanoseconds(found.stx_mtime) / 1000));
    return stat;
  }

  Result<DiskSpace> Space(const std::string& path) override {
    struct statvfs found {};
    if (::statvfs(path.c_str(), &found) != 0) return ErrnoStatus("read space of " + path, errno);
    const std::uint64_t unit = found.f_frsize;
    // Some count no inodes: they make them as they go.
    return DiskSpace{found.f_blocks * unit, found.f_bavail * unit,
                     found.f_files > 0 && found.f_favail == 0};
  }

  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    TASKWAL_ASSIGN(UniqueFd fd, OpenFd(path, O_RDWR | O_CREAT, "open", 0600));
    // flock belongs to the description: a second open of the same process is refused too.
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return ErrnoStatus("lock " + path, errno);
      return Status::Unavailable(fmt::format("{} is in use by {}", path, HolderOf(fd.get(), path)));
    }
    const std::string pid = fmt::format("{}\n", ::getpid());
    IgnoreStatus(WriteFully(fd.get(), path, 0, std::as_bytes(std::span(pid))),
                 "the number only serves a message, and a full disk must not stop recovery");
    return std::unique_ptr<FileLock>(std::make_unique<PosixFileLock>(std::move(fd)));
  }

  Result<Uuid> BootId() override {
    const std::string path = "/proc/sys/kernel/random/boot_id";
    TASKWAL_ASSIGN(const UniqueFd fd, OpenFd(path, O_RDONLY, "open"));
    std::array<std::byte, 36> bytes{};
    TASKWAL_ASSIGN(const std::size_t size, ReadFully(fd.get(), path, 0, bytes));
    const auto id = Uuid::Parse(AsText(std::span(bytes).first(size)));
    if (!id) return Status::IoError(path + " holds no boot id");
    return *id;
  }
};

}  // namespace

FileSystem& FileSystem::Real() {
  // Never destroyed: a call that a shutdown left behind may use it while the process ends.
  static auto* real = new PosixFileSystem;
  return *real;
}

}  // namespace taskwal

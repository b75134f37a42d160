// A FileSystem in memory that fails, crashes and forgets what was not synced, all from a seed.
//
//   SimulatedFileSystem fs(seed);
//   fs.FailNth(3, {.call = SimulatedCall::kSync});  // the third sync from now on fails, once
//   fs.CrashAfter(7);                               // the process dies in its 7th call from now on
//   … run the code under test; drop its objects …
//   fs.Kill();             // the process died: the page cache, and with it the rings, stay
//   fs.PowerLoss(random);  // the machine died: unsynced sectors, ring pages, names go by odds
//
// A handle belongs to the process that opened it: after Kill or PowerLoss its calls fail with
// kIoError and its mapping changes nothing. The file system outlives all handles. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "base/random.h"
#include "tests/support/simulated_disk.h"

namespace taskwal {

// The calls that are counted and can fail. WriteAndSync is a kWrite and then a kSync.
enum class SimulatedCall : std::uint8_t {
  kOpenWritable, kOpenReadable, kCreateRing, kOpenRing, kRead, kSize, kWrite, kSync, kTruncate,
  kRename, kRemove, kSyncDirectory, kMakeDirectories, kList, kStat, kSpace, kLock, kBootId,
  kExchange,
};

struct SimulatedFault {
  std::optional<SimulatedCall> call{};  // absent: calls of every kind
  std::string path_part{};              // only calls on a path that holds this text
  bool sticky = false;                  // every further call fails too, not just one
  Status status = Status::IoError("injected fault: Input/output error (errno 5)");
};

class SimulatedFileSystem final : public FileSystem {
 public:
  // The clock stamps `modified`; without one that is a constant.
  explicit SimulatedFileSystem(std::uint64_t seed = 1, Clock* clock = nullptr);
  ~SimulatedFileSystem() override;

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override;
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override;
  Result<std::unique_ptr<RingFile>> CreateRing(const std::string& path,
                                               std::uint64_t ring_bytes) override;
  Result<std::unique_ptr<RingFile>> OpenRing(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Exchange(const std::string& a, const std::string& b) override;
  Status Remove(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status MakeDirectories(const std::string& path) override;
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override;
  Result<FileStat> Stat(const std::string& path) override;
  Result<DiskSpace> Space(const std::string& path) override;
  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  Result<Uuid> BootId() override;

  // --- faults --------------------------------------------------------------------------------
  // The n-th call (from 1) that matches from now on fails. A failed write leaves any prefix of its
  // bytes behind; a failed sync loses each unsynced sector or not, and counts them all as clean;
  // any other call does nothing.
  void FailNth(std::uint64_t n, SimulatedFault fault);
  void ClearFaults();
  // The process dies in its n-th call (from 1) from now on, which may have had its effect; that and
  // every later call fails with kIoError until Kill or PowerLoss starts the next process.
  void CrashAfter(std::uint64_t n);
  // How many calls of this process have failed by a fault.
  [[nodiscard]] std::uint64_t failed(SimulatedCall call) const;
  // Calls so far that could fail; to know when N has passed the end.
  [[nodiscard]] std::uint64_t calls() const;
  [[nodiscard]] bool crashed() const;
  // Growing beyond it is kUnavailable, after the part of a write that fits.
  void SetCapacity(std::uint64_t bytes);
  // From now on (`lacks`: until told otherwise) no file can be made, whatever the capacity.
  void SetLacksInodes(bool lacks);

  // One in so many reads gives a part of what it is asked for, and is gone on with; 0: none.
  void SetShortReads(std::uint64_t one_in);

  // From here on what faults and crashes leave behind is drawn from this seed.
  void Reseed(std::uint64_t seed);

  void Kill();
  void PowerLoss(Random& random, const PowerLossOdds& odds = {});
  // Of all power cuts and calls so far.
  [[nodiscard]] DiskFates fates() const;

  // --- for tests: neither counted nor failing; the path must exist ----------------------------
  void Corrupt(const std::string& path, std::uint64_t offset, std::uint8_t mask);
  void TruncateFile(const std::string& path, std::uint64_t size);
  [[nodiscard]] bool Exists(const std::string& path) const;
  [[nodiscard]] std::string Content(const std::string& path) const;
  // Content of every file under `directory`, by full path.
  [[nodiscard]] std::map<std::string, std::string> Dump(const std::string& directory) const;
  // As `cp -a`, synced: the copies have other inode numbers and birth times.
  void CopyTree(const std::string& from, const std::string& to);
  // Everything under `path`, synced, and with it all that was not synced yet.
  void RemoveTree(const std::string& path);

 private:
  class Writable;
  class Readable;
  class LockHandle;
  using File = SimulatedDisk::File;

  enum class Fate : std::uint8_t { kLives, kFails, kDies, kDead };
  struct Outcome {
    Fate fate = Fate::kLives;
    Status status;
  };
  struct ArmedFault {
    SimulatedFault fault;
    std::uint64_t n = 0;
    std::uint64_t seen = 0;
  };

  Outcome Begin(SimulatedCall call, const std::string& path) REQUIRES(mutex_);
  Outcome BeginOn(std::uint64_t process, SimulatedCall call, const std::string& path)
      REQUIRES(mutex_);
  bool TakesEffect(const Outcome& outcome) REQUIRES(mutex_);
  Result<std::size_t> ReadFrom(const SimulatedFile& file, std::uint64_t offset,
                               std::span<std::byte> into) REQUIRES(mutex_);
  Status WriteTo(const File& file, std::uint64_t process, const std::string& path,
                 std::uint64_t offset, std::span<const std::byte> bytes) REQUIRES(mutex_);
  Status SyncOf(const File& file, std::uint64_t process, const std::string& path,
                std::uint64_t* errors_seen) REQUIRES(mutex_);
  std::uint64_t RoomFor(std::uint64_t bytes) const REQUIRES(mutex_);
  Result<File> FindOrCreate(const std::string& path, bool create) REQUIRES(mutex_);
  File Existing(const std::string& path) const REQUIRES(mutex_);
  Time TouchTime() REQUIRES(mutex_);
  void StartNextProcess() REQUIRES(mutex_);

  Clock* const clock_;
  mutable Mutex mutex_;
  SimulatedDisk disk_ GUARDED_BY(mutex_);
  Random random_ GUARDED_BY(mutex_);
  Random for_reads_ GUARDED_BY(mutex_);  // that come short
  std::uint64_t short_reads_one_in_ GUARDED_BY(mutex_) = 0;
  DiskFates fates_ GUARDED_BY(mutex_);
  Uuid boot_id_ GUARDED_BY(mutex_);
  std::uint64_t process_ GUARDED_BY(mutex_) = 1;
  std::map<std::uint64_t, std::uint64_t> locks_ GUARDED_BY(mutex_);  // inode -> process
  std::vector<ArmedFault> faults_ GUARDED_BY(mutex_);
  std::map<SimulatedCall, std::uint64_t> failed_ GUARDED_BY(mutex_);
  std::uint64_t calls_ GUARDED_BY(mutex_) = 0;
  std::uint64_t crash_at_ GUARDED_BY(mutex_) = 0;  // in calls_; 0: never
  bool crashed_ GUARDED_BY(mutex_) = false;
  std::uint64_t capacity_ GUARDED_BY(mutex_) = 1ull << 40;
  bool lacks_inodes_ GUARDED_BY(mutex_) = false;
};

}  // namespace taskwal

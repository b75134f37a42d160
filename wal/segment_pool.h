// The files of a log directory besides the one being written: spares made ahead of need (filled
// with zeros to the end, not only allocated: an fdatasync then costs one data write and one flush),
// the segments already closed, what may be retired, and whether the disk has room.
//
// Any thread. One mutex over the lists; no file is touched under it.
#pragma once

#include <chrono>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::wal {

struct ClosedSegment {
  std::uint64_t number = 0;
  Lsn first_lsn = 0;    // 0: made before this open and not looked at yet
  Lsn last_lsn = 0;     // meaningful where first_lsn is; below first_lsn: holds no record
  std::uint64_t bytes = 0;
  Time closed_at{};
  bool has_header = true;  // false: damaged, or could not be read; first_lsn is a guess
};

struct PoolOptions {
  std::string directory;
  std::uint64_t segment_bytes = 0;     // as large as a segment gets
  std::uint64_t quota_bytes = 0;
  std::uint64_t retention_bytes = 0;
  std::chrono::milliseconds retention{0};
};

class SegmentPool {
 public:
  SegmentPool(FileSystem& fs, Clock& clock, PoolOptions options);

  // Finds the spares a former process left, and the reserve file.
  Status Open(const std::vector<std::uint64_t>& segments);

  // --- spares ---------------------------------------------------------------------------------
  struct Spare {
    std::string name;
    std::uint64_t bytes = 0;
  };
  // A filled file of at least `bytes`: one made ahead, else made now. kUnavailable: no space.
  Result<Spare> Take(std::uint64_t bytes);
  // One that was taken and not used.
  void GiveBack(Spare spare);
  // Makes one ahead where there is none of this size. True when it did. kUnavailable: no space.
  Result<bool> MakeAhead(std::uint64_t bytes);
  // What Take would have to fill: 0 where a spare is ready.
  [[nodiscard]] std::uint64_t Lacking(std::uint64_t bytes) const EXCLUDES(mutex_);
  // False where Take is bound to fail: no spare has that size, and the disk itself says that it has
  // not what is lacking.
  [[nodiscard]] bool MayTake(std::uint64_t bytes) const;
  // The reserve stays: the next open may find the disk full.
  void RemoveSpares();

  // --- closed segments, oldest first ------------------------------------------------------------
  void AddClosed(const ClosedSegment& segment);
  [[nodiscard]] std::vector<ClosedSegment> Closed() const;
  // What is known of an older one, once somebody read its header or footer.
  void Learn(const ClosedSegment& segment);
  [[nodiscard]] std::uint64_t closed_count() const;
  [[nodiscard]] std::uint64_t closed_bytes() const;

  // Segments from the oldest on that hold nothing above `flushed` and that retention no longer
  // keeps
  // (`all`: space is short, retention does not count). Those stay in the list until Drop.
  [[nodiscard]] std::vector<ClosedSegment> Retirable(Lsn flushed, bool all) const;
  // Removes the file, or makes it a spare or the reserve where that helps. After STATE stopped
  // counting on it.
  Status Drop(const ClosedSegment& segment);

  // --- room ------------------------------------------------------------------------------------
  // Bytes that the log may still take: up to its quota, and on the disk beside max(2 segments, 5 %,
  // 256 MiB capped to a quarter of it), which stay free: an embedded database on the same disk
  // needs room to take the backlog. Negative: that much is lacking.
  struct RoomLeft {
    std::int64_t of_quota = 0;
    std::int64_t on_disk = 0;

    [[nodiscard]] std::int64_t least() const { return std::min(of_quota, on_disk); }
  };
  [[nodiscard]] RoomLeft Room(Lsn flushed, std::uint64_t active_bytes,
                              std::uint64_t next_bytes) const;
  [[nodiscard]] std::uint64_t spare_bytes() const;
  [[nodiscard]] std::uint64_t UnflushedBytes(Lsn flushed) const;
  // The reserve file has room for a STATE that a full disk has none for (WriteState), and for a
  // small segment to open the log with. It is made again of the next segment that is dropped. One
  // at a time: of what changes the reserve, WriteState and Drop.
  //
  // What STATE and TARGETS may come to by now.
  void KeepForState(std::uint64_t bytes);
  [[nodiscard]] bool lacks_reserve() const;
  Status MakeReserve();
  // The part for the segment, to whoever needs it.
  void GiveUpReserve();
  // All of it becomes a spare: opening needs a file, and the disk has neither room nor a name left.
  void TurnReserveIntoSpare();
  // It was written over, or looked for in vain.
  void NoteReserveUsed();

 private:
  Status Fill(const std::string& name, std::uint64_t from, std::uint64_t to);
  bool MakeReserveOf(const ClosedSegment& segment);
  void RemoveSurplus(std::vector<Spare>* spares);
  std::uint64_t NextSpareNumber() EXCLUDES(mutex_);
  [[nodiscard]] std::uint64_t ReserveWanted() const REQUIRES(mutex_);
  [[nodiscard]] Status CheckSpace(std::uint64_t bytes) const;

  FileSystem& fs_;
  Clock& clock_;
  const PoolOptions options_;

  mutable Mutex mutex_;
  std::vector<Spare> spares_ GUARDED_BY(mutex_);
  std::uint64_t next_spare_ GUARDED_BY(mutex_) = 1;
  std::vector<ClosedSegment> closed_ GUARDED_BY(mutex_);
  std::uint64_t reserve_bytes_ GUARDED_BY(mutex_) = 0;  // less than there should be: used
  std::uint64_t kept_for_state_ GUARDED_BY(mutex_);     // of it, what is not given up
  bool is_reserve_used_ GUARDED_BY(mutex_) = false;  // as the disk was full
};

// Sizes in force on this disk: a ring takes at most 1/8 of it, a segment 1/16, so that a small disk
// gets a small log instead of none.
struct LogSizes {
  std::uint64_t ring_bytes = 0;
  std::uint64_t segment_bytes = 0;
};
LogSizes FitToDisk(const DiskSpace& space, std::uint64_t ring_bytes, std::uint64_t segment_bytes);

}  // namespace taskwal::wal

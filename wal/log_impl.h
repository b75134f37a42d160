// The parts of a Log and how they are held together. For log.cc and log_space.cc only.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "wal/log.h"
#include "wal/log_writer.h"
#include "wal/segment_pool.h"

namespace taskwal::wal {

struct Log::Impl {
  Impl(FileSystem& fs, Clock& clock, const LogOptions& options, LogStart start,
       const LogSizes& sizes);

  static LogWriter::Config WriterConfig(const LogOptions& options, const LogStart& start,
                                        const LogSizes& sizes);
  Status MakeFiles(const std::vector<RecordView>& rescued, Lsn next_lsn, std::uint64_t ring_bytes);
  Status StartWriter(const std::vector<RecordView>& rescued, Lsn next_lsn);
  Status MakeRing(const std::string& path, std::uint64_t bytes, Lsn next_lsn);
  [[nodiscard]] bool has_ring() const { return large_bytes_ > 0; }
  Status SaveState() REQUIRES(retire_mutex_) EXCLUDES(state_mutex_);
  Status EndCleanly(const std::function<std::uint64_t()>& turns);

  Status StartThreads();
  void StopThreads();
  void RunWriter(const std::stop_token& stop);
  void RunMaintenance(const std::stop_token& stop);

  Result<Reservation> ReserveLarge(const RecordHeader& header, std::size_t body_bytes,
                                   std::uint8_t flags, const Deadline& deadline);
  Result<RingBuffer::Claim> ClaimSlowly(const RecordHeader& header, std::size_t body_bytes,
                                        std::uint8_t flags, const Deadline& deadline);
  bool ClaimDisk(std::uint64_t bytes);
  [[nodiscard]] bool HasDiskFor(std::uint64_t bytes) const {
    return bytes == 0 || large_claimed_.load() + bytes <= large_limit_.load();
  }
  [[nodiscard]] bool LacksRoomForLarge() const { return large_wanted_.load() != 0; }
  Status MakeRoomAlone(Monotonic now, std::uint64_t large_bytes);
  void AwaitRoom(std::chrono::nanoseconds most);

  // --- log_space.cc
  std::vector<Uuid> Identities() const EXCLUDES(state_mutex_);
  bool MaintenanceStep();
  bool LearnOlderSegments(Lsn next_first);
  bool LearnOlderSegments() { return LearnOlderSegments(writer_.open_first_lsn()); }
  bool MakeAhead();
  [[nodiscard]] bool HasRoomAhead(std::uint64_t bytes) const;
  void NoteSegmentMade(const Status& made) EXCLUDES(retire_mutex_);
  [[nodiscard]] std::string WhyFull() const;
  void CheckSpace();
  Status NoteUnsealed(std::uint64_t number);
  void LookAtSpace() EXCLUDES(retire_mutex_);
  [[nodiscard]] std::string ReasonOf(const SegmentPool::RoomLeft& room) const;
  void GiveUpDirectory() EXCLUDES(retire_mutex_);
  Status RetireNow(Lsn flushed, bool all);
  std::vector<ClosedSegment> ClosedNewestFirst();
  Status LookupIn(std::uint64_t segment, std::vector<std::uint64_t> offsets, std::uint64_t key,
                  Lsn from, Lsn void_from, const std::function<bool(const RecordView&)>& visit,
                  bool* go_on);
  Status LookupInClosed(std::uint64_t segment, std::uint64_t key, Lsn from, Lsn void_from,
                        const std::function<bool(const RecordView&)>& visit, bool* go_on);
  [[nodiscard]] bool Holds(std::uint64_t segment) const;
  Result<std::vector<std::uint64_t>> FramesOf(std::uint64_t segment, std::uint64_t key);

  FileSystem& fs_;
  Clock& clock_;
  const LogOptions options_;
  std::unique_ptr<FileLock> lock_;
  SegmentPool pool_;
  LogWriter writer_;
  std::uint64_t large_bytes_ = 0;     // a body above it does not go through the ring
  std::uint64_t rescued_ = 0;

  std::atomic<bool> is_short_{false};
  // The last segment could not be made, whatever room the disk says it has: it lacks an inode, or
  // somebody's quota is used up.
  std::atomic<bool> lacks_segment_{false};
  // Room on disk for records that do not go through the ring, so that none gets an LSN without it.
  // All three are sums over the log's life, as LogWriter::large_written() is: the last look at the
  // space allows claims up to the limit, whatever part of them is written meanwhile.
  std::atomic<std::uint64_t> large_claimed_{0};
  std::atomic<std::uint64_t> large_limit_{0};
  std::atomic<std::uint64_t> large_wanted_{0};  // a limit that was not there; 0: none
  std::atomic<bool> is_closed_{false};
  std::atomic<Lsn> flushed_lsn_;

  mutable Mutex state_mutex_;
  LogState state_ GUARDED_BY(state_mutex_);

  // Held over the I/O of retiring and of changing STATE, so that these follow one another.
  Mutex retire_mutex_;
  std::string target_list_ GUARDED_BY(retire_mutex_);  // as it stands in TARGETS
  Monotonic next_space_check_ GUARDED_BY(retire_mutex_){};
  Monotonic next_make_ahead_ GUARDED_BY(retire_mutex_){};
  std::map<std::uint16_t, Lsn> needed_from_ GUARDED_BY(retire_mutex_);  // by target: see KeepFrom
  // Retired, and not known to be gone for good; whether they were removed.
  std::map<std::uint64_t, bool> leaving_ GUARDED_BY(retire_mutex_);
  // Another process may have the directory: nothing is written there any more.
  bool is_ended_ GUARDED_BY(retire_mutex_) = false;

  mutable Mutex reason_mutex_;  // a leaf
  std::string short_reason_ GUARDED_BY(reason_mutex_);  // of is_short_
  Status unmade_ GUARDED_BY(reason_mutex_);             // of lacks_segment_

  Mutex wake_mutex_;
  CondVar wake_;
  CondVar maintenance_wake_;
  bool wake_writer_ GUARDED_BY(wake_mutex_) = false;

  Mutex close_mutex_;
  std::optional<Status> close_status_ GUARDED_BY(close_mutex_);

  // Last, so that they end before what they use.
  std::jthread writer_thread_;
  std::jthread maintenance_thread_;
};

}  // namespace taskwal::wal

// Ring -> frame -> segment -> sync, by several lanes at once, acknowledged strictly in log order.
//
//   lane:  gather (under the mutex: frames are placed in LSN order) ─▶ write, sync (no lock) ─▶
//   complete
//
// Callers that wait for durability lead the commits themselves: whoever finds a lane idle takes all
// that is published and writes it, the others ride along. The durable position is the end of the
// gap-free prefix of synced frames. A background thread writes what nobody waits for.
//
// When a write or sync fails the page cache can no longer be trusted: that file is condemned for
// every lane, and everything not known to be durable is written again to a fresh segment
// (log_rewrite.cc).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "metrics/histogram.h"
#include "wal/frame.h"
#include "wal/log.h"
#include "wal/ring_buffer.h"
#include "wal/segment_file.h"
#include "wal/segment_pool.h"
#include "wal/wait_buckets.h"

namespace taskwal::wal {

class DirectWriter;

class LogWriter {
 public:
  struct Config {
    std::string directory;
    Uuid wal_id;
    std::vector<Uuid> wal_ids;  // its own and the former ones: for reading back
    std::uint32_t partitions = 16;
    std::uint64_t epoch = 0;
    std::uint64_t segment_bytes = 0;
    std::uint64_t segment_records_max = 0;
    std::uint64_t frame_bytes = 0;
    bool compression = false;
    std::uint32_t sync_lanes = 2;
    std::chrono::milliseconds sync_interval{0};
    bool has_writer_thread = false;  // somebody calls Step
    void (*index_keys)(const RecordView&, std::vector<std::uint64_t>*) = nullptr;
    std::uint64_t next_segment = 1;
    Lsn next_lsn = 1;
    std::uint64_t stamp = 0;
  };

  LogWriter(FileSystem& fs, Clock& clock, SegmentPool& pool, Config config);
  ~LogWriter();

  // Writes what a killed process left, synced, and opens the segment that appends go to. Once,
  // before anything else; `ring` continues behind the records.
  Status Start(const std::vector<RecordView>& rescued);
  // Before a second Start: what the disk may still have room for.
  void UseSmallSegment(std::uint64_t bytes) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    next_bytes_ = std::min(next_bytes_, bytes);
  }
  void SetRing(std::unique_ptr<RingBuffer> ring) { ring_ = std::move(ring); }
  [[nodiscard]] RingBuffer& ring() { return *ring_; }
  [[nodiscard]] const RingBuffer& ring() const { return *ring_; }

  // A body too large for the ring, kept until it is written; its slot is published already or will
  // be.
  void KeepLarge(Lsn lsn, std::unique_ptr<std::byte[]> body, std::size_t bytes) EXCLUDES(mutex_);
  // Bytes of those that stand in files; only grows.
  [[nodiscard]] std::uint64_t large_written() const {
    return large_written_.load(std::memory_order_acquire);
  }

  Status WaitDurable(Lsn lsn, const Deadline& deadline) EXCLUDES(mutex_);
  Status WaitWritten(Lsn lsn, const Deadline& deadline) EXCLUDES(mutex_);
  // kIoError where a failed write or sync of this process has cost it.
  [[nodiscard]] Status CheckKept(Lsn lsn) const EXCLUDES(mutex_);
  bool WaitForMore(Lsn lsn, const Deadline& deadline) EXCLUDES(mutex_);
  void WakeReaders() EXCLUDES(mutex_);
  // Sleeps until room may have come free in the ring; at most as long as `most`.
  void WaitForRoom(std::chrono::nanoseconds most) EXCLUDES(mutex_);

  // One turn of the background writer; true when something was written or synced.
  bool Step() EXCLUDES(mutex_);
  // Seals one full segment whose frames are all on disk (syncing it first). True when it did
  // something.
  bool SealStep() EXCLUDES(mutex_);
  // Writes and syncs everything published, seals everything. No appends may come any more.
  Status Close() EXCLUDES(mutex_);
  // Every waiter gets kClosed; nothing is written any more.
  void Abandon() EXCLUDES(mutex_);

  [[nodiscard]] Lsn written_lsn() const { return written_lsn_.load(std::memory_order_acquire); }
  [[nodiscard]] Lsn durable_lsn() const { return durable_lsn_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t epoch() const { return config_.epoch; }
  [[nodiscard]] std::uint64_t stamp() const { return stamp_.load(std::memory_order_relaxed); }
  void RaiseStamp(std::uint64_t seen);
  [[nodiscard]] Status health() const EXCLUDES(mutex_);
  [[nodiscard]] bool is_broken() const { return is_broken_.load(std::memory_order_acquire); }

  // Frames of the open segments (not yet sealed) that hold the key, newest first.
  struct Place {
    std::uint64_t segment = 0;
    std::uint64_t offset = 0;
    Lsn void_from = 0;  // records from here on stand in a later segment
  };
  std::vector<Place> FindInOpenSegments(std::uint64_t key) EXCLUDES(mutex_);
  // First LSN of the oldest open segment; closed ones end before it.
  [[nodiscard]] Lsn open_first_lsn() const EXCLUDES(mutex_);
  [[nodiscard]] bool HasOpen(std::uint64_t segment) const EXCLUDES(mutex_);

  struct Figures {
    std::uint64_t open_segments = 0, open_bytes = 0, bytes_written = 0, writes = 0, syncs = 0,
                  lost = 0;
    std::uint64_t next_segment_bytes = 0;
  };
  [[nodiscard]] Figures figures() const EXCLUDES(mutex_);
  // Of the open segments that hold anything above `flushed`.
  [[nodiscard]] std::uint64_t UnflushedBytes(Lsn flushed) const EXCLUDES(mutex_);
  [[nodiscard]] LatencySummary sync_time() const { return sync_time_.Summary(); }
  void ResetTimes() { sync_time_.Reset(); }
  // Size of the next segment, for making it ahead.
  [[nodiscard]] std::uint64_t next_segment_bytes() const EXCLUDES(mutex_);
  // Called (no lock held) when a segment could not be made for want of space, and when it could
  // again.
  void SetSpaceCallback(std::function<void(const Status& made)> callback) {
    on_space_ = std::move(callback);
  }
  // Called (no lock held) before each segment but the first.
  void SetRollCallback(std::function<void()> callback) { on_roll_ = std::move(callback); }
  // Called (no lock held) when a caller that cannot wait for the disk wants a write or a sync of
  // Step.
  void SetAskCallback(std::function<void()> callback) { on_ask_ = std::move(callback); }
  // Called before a segment is closed without a footer; where it fails, the segment stays open and
  // is told of again.
  void SetUnsealedCallback(std::function<Status(std::uint64_t number)> callback) {
    on_unsealed_ = std::move(callback);
  }

 private:
  // A frame between placing and being durable.
  struct Entry {
    Lsn last_lsn = 0;
    RingPosition ring_end;
    SegmentFile* segment = nullptr;
    bool is_written = false;
    bool is_synced = false;
    bool needs_sync = false;    // holds a record of level `disk`
    std::uint32_t syncing = 0;  // bit per lane whose sync under way covers it
    Monotonic placed_at;
  };
  // Lane 0 is the background writer's, lane 1 the sealer's; the others are led by waiting callers.
  static constexpr std::uint32_t kWriterLane = 0;
  static constexpr std::uint32_t kSealerLane = 1;
  static constexpr std::uint32_t kFirstCallerLane = 2;
  static constexpr std::uint32_t kNoLane = UINT32_MAX;
  struct Lane {
    bool busy = false;
    FrameBuilder builder;
    std::vector<std::uint64_t> keys;
  };
  // What one commit does outside the mutex.
  struct Work {
    std::uint32_t lane = 0;
    SegmentFile* segment = nullptr;  // of the frame; null: no frame
    std::uint64_t serial = 0;        // of its entry
    std::span<const std::byte> bytes;
    std::uint64_t offset = 0;
    std::vector<SegmentFile*> to_sync;  // in log order, the frame's own segment last
    SegmentFile* failed = nullptr;
  };
  struct OpenSegment {
    std::unique_ptr<SegmentFile> file;
    std::uint32_t users = 0;  // lanes writing or syncing it
    bool sealing = false;
    bool ends_idle = false;   // with an idle frame, which nobody has synced
  };

  // --- one commit -------------------------------------------------------------------------------
  Status Commit(std::uint32_t lane, bool sync) EXCLUDES(mutex_);
  Status SyncSegment(std::uint32_t lane, SegmentFile* segment) EXCLUDES(mutex_);
  Status Gather(std::uint32_t lane, Work* work) REQUIRES(mutex_);
  bool FillFrame(Lane& lane, RingPosition* end, bool* needs_sync) REQUIRES(mutex_);
  Status MakeRoom(std::uint64_t frame_bytes) REQUIRES(mutex_);
  std::uint64_t RoomWanted() REQUIRES(mutex_);
  std::uint64_t RoomForWaiting() REQUIRES(mutex_);
  [[nodiscard]] std::uint64_t RecordsLeft() const REQUIRES(mutex_);
  void PlaceFrame(std::uint32_t lane, const RingPosition& end, bool needs_sync, Work* work)
      REQUIRES(mutex_);
  void PlanSyncs(const SegmentFile* only, Work* work) REQUIRES(mutex_);
  void Perform(Work* work);
  void PerformUntimed(Work* work);
  Status Conclude(const Work& work) EXCLUDES(mutex_);
  Status Complete(const Work& work) REQUIRES(mutex_);
  void MarkSynced(const Work& work) REQUIRES(mutex_);
  void Advance() REQUIRES(mutex_);
  void ReleaseRing() REQUIRES(mutex_);
  void ReleaseUpTo(const RingPosition& end) REQUIRES(mutex_);

  // --- segments ---------------------------------------------------------------------------------
  // Not published yet.
  Result<std::unique_ptr<SegmentFile>> MakeSegment(std::uint64_t number, Lsn first_lsn,
                                                   std::uint64_t bytes);
  Result<std::unique_ptr<SegmentFile>> MakeNextSegment(std::uint64_t number, Lsn first_lsn,
                                                       std::uint64_t bytes);
  void GiveBackSpare(const SegmentFile& segment);  // where it has not got its name
  Status Roll(std::uint64_t frame_bytes) REQUIRES(mutex_);
  OpenSegment* FindOpen(const SegmentFile* file) REQUIRES(mutex_);
  bool IsSettled(const OpenSegment& segment) const REQUIRES(mutex_);
  Status SealFront() REQUIRES(mutex_);
  bool WriteIdleFrame() REQUIRES(mutex_);

  // --- after a failed write or sync (log_rewrite.cc)
  // ------------------------------------------------
  Status RewriteAfterFailure() REQUIRES(mutex_);
  Status CopyUnsynced(Lsn from, Lsn to, const std::vector<std::uint64_t>& segments,
                      const RingPosition& released, DirectWriter* writer,
                      std::vector<LsnRange>* lost);
  Status CopyFromFiles(Lsn* next, Lsn to, const std::vector<std::uint64_t>& segments,
                       DirectWriter* writer, std::vector<LsnRange>* lost);
  std::uint64_t NoteLost(const std::vector<LsnRange>& lost) REQUIRES(mutex_);
  void AdoptRewritten(std::vector<std::unique_ptr<SegmentFile>> segments, Lsn end) REQUIRES(mutex_);
  void Break(const Status& why) REQUIRES(mutex_);

  // --- waiting ----------------------------------------------------------------------------------
  // A lane that nobody leads, marked busy; kNoLane where all are taken.
  std::uint32_t TakeLane() REQUIRES(mutex_);
  Status LeadCommit(std::uint32_t lane, bool sync) REQUIRES(mutex_);
  Result<bool> LeadOrEnter(Lsn lsn, const Deadline& deadline, WaitBuckets::Place* place,
                           std::chrono::nanoseconds* most) REQUIRES(mutex_);
  bool IsUnderWay(Lsn lsn, bool sync) REQUIRES(mutex_);
  Lsn CoveredLsn() const REQUIRES(mutex_);
  [[nodiscard]] std::chrono::nanoseconds TimeAwake() const;
  bool IsWorthOverlapping() const REQUIRES(mutex_);
  [[nodiscard]] bool IsWorthLeading(Lsn lsn) const REQUIRES(mutex_);
  Status CheckUsable() const REQUIRES(mutex_);
  bool WantsSync() REQUIRES(mutex_);
  [[nodiscard]] bool MayLead(const Deadline& deadline) const;
  [[nodiscard]] bool IsAsked() const REQUIRES(mutex_);

  FileSystem& fs_;
  Clock& clock_;
  SegmentPool& pool_;
  const Config config_;
  std::unique_ptr<RingBuffer> ring_;
  std::function<void(const Status&)> on_space_;
  std::function<void()> on_roll_;
  std::function<void()> on_ask_;
  std::function<Status(std::uint64_t)> on_unsealed_;

  std::atomic<Lsn> written_lsn_{0};
  std::atomic<Lsn> durable_lsn_{0};
  std::atomic<std::uint64_t> stamp_{0};
  std::atomic<bool> is_broken_{false};
  std::atomic<bool> has_lost_{false};
  std::atomic<std::uint64_t> large_written_{0};
  Histogram sync_time_;  // of commits that sync, their write included
  std::atomic<std::int64_t> recent_sync_ns_{0};  // the same, moving average

  mutable Mutex mutex_;
  std::vector<Lane> lanes_ GUARDED_BY(mutex_);
  std::deque<OpenSegment> open_ GUARDED_BY(mutex_);    // in log order; the last one takes frames
  std::deque<Entry> entries_ GUARDED_BY(mutex_);       // beyond the durable position
  std::uint64_t first_serial_ GUARDED_BY(mutex_) = 0;  // of entries_.front()
  std::size_t written_count_ GUARDED_BY(mutex_) = 0;   // written prefix of entries_
  std::size_t released_count_ GUARDED_BY(mutex_) = 0;  // of these, given back to the ring
  RingPosition cursor_ GUARDED_BY(mutex_);             // next to be gathered
  std::map<Lsn, std::pair<std::unique_ptr<std::byte[]>, std::size_t>> large_ GUARDED_BY(mutex_);
  std::uint64_t next_number_ GUARDED_BY(mutex_) = 1;
  std::uint64_t next_bytes_ GUARDED_BY(mutex_) = 0;  // of the next segment
  std::uint64_t lacked_bytes_ GUARDED_BY(mutex_) = 0;  // of one that could not be made
  Lsn named_lsn_ GUARDED_BY(mutex_) = 0;             // highest synced LSN a frame has named
  Monotonic last_work_ GUARDED_BY(mutex_){};
  Monotonic roll_retry_at_ GUARDED_BY(mutex_){};  // no space before: do not try at every call
  Status roll_status_ GUARDED_BY(mutex_);
  bool is_rolling_ GUARDED_BY(mutex_) = false;
  bool is_rewriting_ GUARDED_BY(mutex_) = false;
  bool is_naming_ GUARDED_BY(mutex_) = false;     // an idle frame is being written
  bool is_abandoned_ GUARDED_BY(mutex_) = false;
  Lsn asked_lsn_ GUARDED_BY(mutex_) = 0;  // the highest that the writer's Step is to sync
  Lsn asked_written_lsn_ GUARDED_BY(mutex_) = 0;  // and to write
  std::uint32_t busy_lanes_ GUARDED_BY(mutex_) = 0;
  Status broken_ GUARDED_BY(mutex_);
  std::vector<LsnRange> lost_ GUARDED_BY(mutex_);  // declared so by this process
  Figures figures_ GUARDED_BY(mutex_);
  // Callers whose wait the last commit ended, its leader among them.
  std::atomic<std::uint32_t> last_group_{1};
  WaitBuckets waiting_;  // under mutex_, but for sleeping and waking
  CondVar lanes_idle_;   // rolling, rewriting or a busy lane ended
  CondVar more_written_;
  std::uint32_t more_waiters_ GUARDED_BY(mutex_) = 0;
  CondVar room_;
  std::uint32_t room_waiters_ GUARDED_BY(mutex_) = 0;
};

}  // namespace taskwal::wal

// LogWriter: those who wait, the background writer's turn, and the end.
#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "wal/log_writer.h"

namespace taskwal::wal {

namespace {

// A stop request has no handle on the sleepers: those that have one look up this often.
constexpr auto kStopPoll = std::chrono::milliseconds(5);
constexpr auto kCoveredPoll = std::chrono::milliseconds(100);
// How long closing waits for the next record to be on the disk.
constexpr auto kCloseWait = std::chrono::seconds(5);
constexpr auto kMorePoll = std::chrono::seconds(1);
// A neighbour that has claimed and not yet published does not wake anybody.
constexpr auto kPublishPoll = std::chrono::microseconds(200);
// How often a leader lets others run before it gathers, while fewer are back than the last commit
// released: a small part of what a sync takes.
constexpr int kGroupYields = 100;
constexpr std::uint64_t kOverlapFactor = 3;
// Of one waiter; and the least that a sync counts for.
constexpr std::chrono::microseconds kWakeCost{4};
constexpr std::chrono::microseconds kSyncAtLeast{100};
constexpr std::chrono::milliseconds kAwakeMax{1};

Monotonic NextLook(const Deadline& deadline, Monotonic now) {
  if (!deadline.stop.stop_possible()) return deadline.at;
  return std::min(deadline.at, now + kStopPoll);
}

bool IsOver(const Deadline& deadline, Monotonic now) {
  return now >= deadline.at || deadline.stop.stop_requested();
}

}  // namespace

std::uint32_t LogWriter::TakeLane() {
  if (is_rolling_ || is_rewriting_) return kNoLane;
  for (std::uint32_t lane = kFirstCallerLane; lane < lanes_.size(); ++lane) {
    if (lanes_[lane].busy) continue;
    lanes_[lane].busy = true;
    return lane;
  }
  return kNoLane;
}

// The mutex is given up meanwhile.
Status LogWriter::LeadCommit(std::uint32_t lane, bool sync) {
  const Lsn wanted = sync ? CoveredLsn() + last_group_ : 0;
  mutex_.Unlock();
  // Those that the last commit has just woken are on their way back: leading at once would sync
  // for one and keep the rest waiting (PostgreSQL's commit_siblings). A lone caller never yields.
  for (int i = 0; i < kGroupYields && ring_->end_lsn() < wanted; ++i) std::this_thread::yield();
  const Status status = Commit(lane, sync);
  mutex_.Lock();
  return status;
}

// Whether some lane is busy with the frame of `lsn`, or has done what is to be done and waits for
// the frames before it.
bool LogWriter::IsUnderWay(Lsn lsn, bool sync) {
  if (lsn >= cursor_.next_lsn) return false;
  const auto entry = std::lower_bound(entries_.begin(), entries_.end(), lsn,
                                      [](const Entry& e, Lsn l) { return e.last_lsn < l; });
  if (entry == entries_.end()) return false;
  if (!sync) return true;
  // Every frame up to this one must be on its way to the disk.
  return std::all_of(entries_.begin(), entry + 1,
                     [](const Entry& e) { return e.is_synced || e.syncing != 0; });
}

// Whether a commit has something to do for it now: what another lane is still writing can be synced
// by nobody.
bool LogWriter::IsWorthLeading(Lsn lsn) const {
  if (lsn >= cursor_.next_lsn) return true;
  for (const Entry& entry : entries_) {
    if (entry.is_written && !entry.is_synced && entry.syncing == 0) return true;
    if (entry.last_lsn >= lsn) break;
  }
  return false;
}

// Up to here every record is durable or has a sync under way.
Lsn LogWriter::CoveredLsn() const {
  Lsn covered = durable_lsn();
  for (const Entry& entry : entries_) {
    if (!entry.is_synced && entry.syncing == 0) return covered;
    covered = entry.last_lsn;
  }
  return covered;
}

// Whether a second commit beside those under way pays: when far more waits to be gathered than they
// carry. A smaller one would split the group into more syncs than the device has to spare.
bool LogWriter::IsWorthOverlapping() const {
  const Lsn covered = CoveredLsn();
  const Lsn carried = covered - durable_lsn();
  return ring_->end_lsn() - covered >= kOverlapFactor * carried;
}

// A device may take its time, and whoever leads cannot be called back: one that may want to leave
// lets the writer do it.
bool LogWriter::MayLead(const Deadline& deadline) const {
  if (!config_.has_writer_thread) return true;
  return deadline.at == Monotonic::max() && !deadline.stop.stop_possible();
}

// How long a waiter had better stay awake. Waking them costs some microseconds each, one after the
// other, while the device stands idle: where that comes to more than a sync takes, they let each
// other run instead (RocksDB's adaptive yield in its write queue).
std::chrono::nanoseconds LogWriter::TimeAwake() const {
  const std::chrono::nanoseconds sync(recent_sync_ns_.load(std::memory_order_relaxed));
  // As many as the last time, though they are still on their way.
  const auto waking = std::max(waiting_.sleepers(), last_group_.load()) * kWakeCost;
  if (waking < std::max<std::chrono::nanoseconds>(sync, kSyncAtLeast)) return {};
  return std::min<std::chrono::nanoseconds>(2 * sync + waking, kAwakeMax);
}

Status LogWriter::WaitDurable(Lsn lsn, const Deadline& deadline) {
  while (durable_lsn() < lsn) {
    WaitBuckets::Place place;
    std::chrono::nanoseconds most{};
    bool is_asked = false;
    {
      MutexLock lock(mutex_);
      TASKWAL_ASSIGN(const bool must_sleep, LeadOrEnter(lsn, deadline, &place, &most));
      if (!must_sleep) continue;
      is_asked = asked_lsn_ >= lsn && IsAsked();
    }
    if (is_asked) on_ask_();
    waiting_.Sleep(place, most, TimeAwake());
  }
  return Status::Ok();
}

// One look of a caller that waits: leads a commit where it may; true where it must sleep instead,
// for as long as `most`.
Result<bool> LogWriter::LeadOrEnter(Lsn lsn, const Deadline& deadline, WaitBuckets::Place* place,
                                    std::chrono::nanoseconds* most) {
  if (durable_lsn() >= lsn) return false;
  TASKWAL_TRY(CheckUsable());
  const bool is_patient = MayLead(deadline);
  const bool may_lead = is_patient && !IsUnderWay(lsn, true) && IsWorthLeading(lsn) &&
                        IsWorthOverlapping();
  const std::uint32_t lane = may_lead ? TakeLane() : kNoLane;
  if (lane != kNoLane) {
    waiting_.Leave(lsn);
    const Status led = LeadCommit(lane, true);
    if (durable_lsn() >= lsn) return false;
    // No space for the next segment: the log waits until there is.
    if (!led.ok() && led.code() != StatusCode::kUnavailable) return led;
    if (led.ok() && lsn < cursor_.next_lsn) return false;
  }
  const Monotonic now = clock_.Now();
  if (IsOver(deadline, now)) {
    waiting_.Leave(lsn);
    return Status::Unavailable("not on disk by the deadline");
  }
  // Without a sync under way that covers it nobody is bound to wake this caller: all lanes are
  // taken or rolling, a neighbour has not published yet, or there is no space.
  const bool is_covered = IsUnderWay(lsn, true);
  Monotonic look = std::min(NextLook(deadline, now), now + (is_covered ? kCoveredPoll : kStopPoll));
  if (lsn >= cursor_.next_lsn && lane != kNoLane) look = std::min(look, now + kPublishPoll);
  *most = look - now;
  if (!is_covered && !is_patient) asked_lsn_ = std::max(asked_lsn_, lsn);
  *place = is_covered || !is_patient ? waiting_.Enter(lsn) : waiting_.EnterToLead(lsn);
  return true;
}

Status LogWriter::WaitWritten(Lsn lsn, const Deadline& deadline) {
  if (written_lsn() >= lsn) return Status::Ok();
  const bool is_patient = MayLead(deadline);
  MutexLock lock(mutex_);
  while (written_lsn() < lsn) {
    TASKWAL_TRY(CheckUsable());
    const bool is_under_way = IsUnderWay(lsn, false);
    const std::uint32_t lane = is_patient && !is_under_way ? TakeLane() : kNoLane;
    if (lane != kNoLane) {
      const Lsn before = cursor_.next_lsn;
      const Status led = LeadCommit(lane, false);
      // A frame may have been full before it came to this record.
      if (led.ok() && cursor_.next_lsn > std::min(before, lsn)) continue;
      if (!led.ok() && led.code() != StatusCode::kUnavailable) return led;
    }
    const Monotonic now = clock_.Now();
    if (IsOver(deadline, now)) return Status::Unavailable("not written by the deadline");
    if (!is_patient && !is_under_way) {
      asked_written_lsn_ = std::max(asked_written_lsn_, lsn);
      mutex_.Unlock();
      on_ask_();
      mutex_.Lock();
      if (written_lsn() >= lsn) break;
    }
    ++more_waiters_;
    more_written_.WaitFor(mutex_, std::min(NextLook(deadline, now), now + kStopPoll) - now);
    --more_waiters_;
  }
  return Status::Ok();
}

bool LogWriter::WaitForMore(Lsn lsn, const Deadline& deadline) {
  MutexLock lock(mutex_);
  while (written_lsn() <= lsn) {
    const Monotonic now = clock_.Now();
    if (IsOver(deadline, now) || !CheckUsable().ok()) return false;
    const Monotonic look = std::min(deadline.at, now + kMorePoll);
    ++more_waiters_;
    const bool in_time = more_written_.WaitFor(mutex_, look - now);
    --more_waiters_;
    // As long as told, whatever a clock that is not the machine's says by now.
    if (!in_time && look == deadline.at) return written_lsn() > lsn;
  }
  return true;
}

// Under the mutex: whoever is between its look at the stop and its sleep has not let go of it.
void LogWriter::WakeReaders() {
  MutexLock lock(mutex_);
  more_written_.NotifyAll();
}

void LogWriter::WaitForRoom(std::chrono::nanoseconds most) {
  MutexLock lock(mutex_);
  ++room_waiters_;
  room_.WaitFor(mutex_, most);
  --room_waiters_;
}

bool LogWriter::WantsSync() {
  const bool has_interval = config_.sync_interval.count() > 0;
  const Monotonic old = clock_.Now() - config_.sync_interval;
  bool has_unsynced = false;
  for (const Entry& entry : entries_) {
    if (!entry.is_written) continue;
    if (!entry.is_synced && entry.syncing == 0) {
      if (has_interval && entry.placed_at <= old) return true;
      has_unsynced = true;
    }
    // Level `disk` with nobody waiting (appended now, waited for later) is not left lying, neither
    // for its own sync nor for that of what stands before it.
    if (entry.needs_sync && has_unsynced) return true;
  }
  return false;
}

// Something can be done for those who have asked: for what a neighbour has not published yet, or is
// still writing, it cannot.
bool LogWriter::IsAsked() const {
  if (asked_lsn_ <= CoveredLsn()) return false;
  if (IsWorthLeading(std::min(asked_lsn_, cursor_.next_lsn - 1))) return true;
  RecordView record;
  std::uint8_t flags = 0;
  RingPosition next;
  return asked_lsn_ >= cursor_.next_lsn && ring_->Read(cursor_, &record, &flags, &next);
}

bool LogWriter::Step() {
  bool wants_sync = false;
  const Lsn written_before = written_lsn();
  {
    MutexLock lock(mutex_);
    if (!CheckUsable().ok() || is_rolling_ || is_rewriting_) return false;
    RecordView record;
    std::uint8_t flags;
    RingPosition next;
    const bool has_more = ring_->Read(cursor_, &record, &flags, &next);
    // Callers that wait write for themselves; the writer helps when they cannot keep up.
    const bool is_led = waiting_.sleepers() > 0 && asked_written_lsn_ < cursor_.next_lsn &&
                        ring_->used_bytes() < ring_->ring_bytes() / 4;
    wants_sync = WantsSync() || IsAsked();
    if (!wants_sync && (!has_more || is_led)) return WriteIdleFrame();
  }
  const Status status = Commit(kWriterLane, wants_sync);
  if (!status.ok()) return false;
  return wants_sync || written_lsn() > written_before;
}

Status LogWriter::Close() {
  // For as long as records reach the disk, however slowly. One that stays full must not hold up the
  // end: what is not written is kept by the ring.
  for (bool is_written = false; !is_written;) {
    const Lsn before = durable_lsn();
    const Status written = WaitDurable(ring_->end_lsn(), {clock_.Now() + kCloseWait, {}});
    is_written = written.ok();
    if (!is_written && durable_lsn() == before) return written;
  }
  MutexLock lock(mutex_);
  for (;;) {
    while (busy_lanes_ > 0 || is_rolling_ || is_rewriting_ ||
           (!open_.empty() && open_.front().sealing)) {
      lanes_idle_.WaitFor(mutex_, kStopPoll);
    }
    TASKWAL_TRY(CheckUsable());
    if (open_.empty()) break;
    TASKWAL_TRY(SealFront());
  }
  is_abandoned_ = true;
  waiting_.WakeAll();
  more_written_.NotifyAll();
  return Status::Ok();
}

void LogWriter::Abandon() {
  MutexLock lock(mutex_);
  is_abandoned_ = true;
  while (busy_lanes_ > 0 || is_rolling_ || is_rewriting_) lanes_idle_.WaitFor(mutex_, kStopPoll);
  waiting_.WakeAll();
  more_written_.NotifyAll();
  room_.NotifyAll();
}

Status LogWriter::health() const {
  MutexLock lock(mutex_);
  return broken_;
}

std::vector<LogWriter::Place> LogWriter::FindInOpenSegments(std::uint64_t key) {
  MutexLock lock(mutex_);
  std::vector<Place> places;
  Lsn void_from = UINT64_MAX;
  for (auto segment = open_.rbegin(); segment != open_.rend(); ++segment) {
    SegmentFile& file = *segment->file;
    for (const std::uint64_t offset : file.index().Find(key)) {
      places.push_back({file.number(), offset, void_from});
    }
    void_from = std::min(void_from, file.first_lsn());
  }
  return places;
}

bool LogWriter::HasOpen(std::uint64_t segment) const {
  MutexLock lock(mutex_);
  return std::any_of(open_.begin(), open_.end(), [&](const OpenSegment& open) {
    return open.file->number() == segment;
  });
}

Lsn LogWriter::open_first_lsn() const {
  MutexLock lock(mutex_);
  return open_.empty() ? written_lsn() + 1 : open_.front().file->first_lsn();
}

LogWriter::Figures LogWriter::figures() const {
  MutexLock lock(mutex_);
  Figures figures = figures_;
  figures.open_segments = open_.size();
  for (const OpenSegment& segment : open_) figures.open_bytes += segment.file->used_bytes();
  figures.next_segment_bytes = next_bytes_;
  return figures;
}

std::uint64_t LogWriter::UnflushedBytes(Lsn flushed) const {
  MutexLock lock(mutex_);
  std::uint64_t sum = 0;
  for (const OpenSegment& segment : open_) {
    if (segment.file->last_lsn() > flushed) sum += segment.file->used_bytes();
  }
  return sum;
}

std::uint64_t LogWriter::next_segment_bytes() const {
  MutexLock lock(mutex_);
  // One of less is of no use to a record that waits for more, and no sign of room for it.
  return std::max(next_bytes_, lacked_bytes_);
}

}  // namespace taskwal::wal

#include "wal/log_writer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "wal/direct_writer.h"

namespace taskwal::wal {

namespace {

constexpr auto kIdleFrameAfter = std::chrono::milliseconds(10);
constexpr auto kRollRetry = std::chrono::milliseconds(20);

}  // namespace

LogWriter::LogWriter(FileSystem& fs, Clock& clock, SegmentPool& pool, Config config)
    : fs_(fs),
      clock_(clock),
      pool_(pool),
      config_(std::move(config)),
      stamp_(config_.stamp),
      lanes_(config_.sync_lanes + kFirstCallerLane),
      next_number_(config_.next_segment),
      next_bytes_(std::min(kFirstSegmentBytes, config_.segment_bytes)) {}

LogWriter::~LogWriter() = default;

Status LogWriter::Start(const std::vector<RecordView>& rescued) {
  durable_lsn_.store(config_.next_lsn - 1, std::memory_order_release);
  std::uint64_t body_bytes = 0;
  for (const RecordView& record : rescued) body_bytes += sizeof(RecordPrefix) + record.body.size();
  std::uint64_t number = config_.next_segment;
  const std::uint64_t first_bytes = next_segment_bytes();
  // Room for all that was rescued at once, so that the first segment is not full from the start.
  std::uint64_t wanted =
      AlignUp(kSegmentHeaderBytes + body_bytes + body_bytes / 8, kSegmentHeaderBytes);
  DirectWriter writer(
      fs_, config_.directory,
      [&](Lsn first_lsn, std::uint64_t frame_bytes) {
        const std::uint64_t bytes =
            std::max({first_bytes, kSegmentHeaderBytes + frame_bytes, std::exchange(wanted, 0)});
        return MakeSegment(number++, first_lsn, bytes);
      },
      {config_.frame_bytes, config_.index_keys}, config_.next_lsn);
  Status written;
  for (auto record = rescued.begin(); written.ok() && record != rescued.end(); ++record) {
    written = writer.Add(*record);
  }
  if (written.ok()) written = writer.Finish();
  if (!written.ok()) {
    for (const auto& segment : writer.TakeSegments()) GiveBackSpare(*segment);
    return written;
  }
  const Lsn end = config_.next_lsn + rescued.size() - 1;
  MutexLock lock(mutex_);
  next_number_ = number;
  RaiseStamp(writer.stamp_max());
  for (auto& segment : writer.TakeSegments()) open_.push_back({std::move(segment), 0, false});
  cursor_ = {0, end + 1};
  written_lsn_.store(end, std::memory_order_release);
  durable_lsn_.store(end, std::memory_order_release);
  last_work_ = clock_.Now();
  return Status::Ok();
}

void LogWriter::KeepLarge(Lsn lsn, std::unique_ptr<std::byte[]> body, std::size_t bytes) {
  MutexLock lock(mutex_);
  large_.emplace(lsn, std::pair(std::move(body), bytes));
}

void LogWriter::RaiseStamp(std::uint64_t seen) {
  std::uint64_t known = stamp_.load(std::memory_order_relaxed);
  while (known < seen && !stamp_.compare_exchange_weak(known, seen, std::memory_order_relaxed)) {
  }
}

// --- one commit
// ------------------------------------------------------------------------------------

// Writes what is published as one frame; syncs it, and what is written before it, where asked. The
// sync needs no room: where the next segment has none, what is written is synced all the same.
Status LogWriter::Commit(std::uint32_t lane, bool sync) {
  Work work;
  work.lane = lane;
  Status gathered;
  {
    MutexLock lock(mutex_);
    gathered = Gather(lane, &work);
    if (sync && (gathered.ok() || gathered.code() == StatusCode::kUnavailable)) {
      PlanSyncs(nullptr, &work);
    }
    if (work.segment == nullptr && work.to_sync.empty()) {
      lanes_[lane].busy = false;
      return gathered;
    }
    ++busy_lanes_;
  }
  Perform(&work);
  const Status concluded = Conclude(work);
  return concluded.ok() ? gathered : concluded;
}

Status LogWriter::SyncSegment(std::uint32_t lane, SegmentFile* segment) {
  Work work;
  work.lane = lane;
  {
    MutexLock lock(mutex_);
    while (is_rewriting_) lanes_idle_.Wait(mutex_);
    TASKWAL_TRY(CheckUsable());
    PlanSyncs(segment, &work);
    if (work.to_sync.empty()) return Status::Ok();
    ++busy_lanes_;
  }
  Perform(&work);
  return Conclude(work);
}

// Gives the lane back, and wakes whom the commit concerns once the mutex is free.
Status LogWriter::Conclude(const Work& work) {
  WaitBuckets::Wakeups due;
  Status result;
  {
    MutexLock lock(mutex_);
    const Lsn durable_before = durable_lsn();
    result = Complete(work);
    lanes_[work.lane].busy = false;
    const std::uint32_t woken = waiting_.AddSleepers(durable_before, durable_lsn(), &due);
    if (durable_lsn() > durable_before) last_group_ = 1 + woken;
    waiting_.AddLeader(CoveredLsn(), &due);
  }
  waiting_.Notify(due);
  return result;
}

// Takes what is published and places it, in LSN order.
Status LogWriter::Gather(std::uint32_t lane, Work* work) {
  while (is_rolling_ || is_rewriting_ || is_naming_) lanes_idle_.Wait(mutex_);
  TASKWAL_TRY(CheckUsable());
  RecordView record;
  std::uint8_t flags;
  RingPosition next;
  if (!ring_->Read(cursor_, &record, &flags, &next)) return Status::Ok();
  TASKWAL_TRY(MakeRoom(RoomWanted()));
  RingPosition end;
  bool needs_sync = false;
  if (FillFrame(lanes_[lane], &end, &needs_sync)) PlaceFrame(lane, end, needs_sync, work);
  return Status::Ok();
}

Status LogWriter::CheckUsable() const {
  if (!broken_.ok()) return broken_;
  if (is_abandoned_) return Status::Closed("the log is closed");
  return Status::Ok();
}

// A frame of the usual size, or of the one record that is larger. A segment of few records is small
// and filled to its end.
std::uint64_t LogWriter::RoomWanted() {
  RecordView record;
  std::uint8_t flags = 0;
  RingPosition next;
  std::uint64_t body = config_.segment_records_max > 0 ? 0 : config_.frame_bytes;
  if (ring_->Read(cursor_, &record, &flags, &next)) {
    std::uint64_t bytes = record.body.size();
    if ((flags & kSlotLarge) != 0) bytes = large_.at(record.lsn).second;
    body = std::max(body, sizeof(RecordPrefix) + bytes);
  }
  return AlignUp(sizeof(FrameHeader) + body, kSectorBytes);
}

// For a frame of what waits, as far as a new segment takes it.
std::uint64_t LogWriter::RoomForWaiting() {
  RingPosition at = cursor_;
  RecordView record;
  std::uint8_t flags = 0;
  RingPosition next;
  const RingBuffer::Limit limit = ring_->Claimed();
  std::uint64_t body = 0;
  for (std::uint64_t count = 0; count < config_.segment_records_max &&
                                ring_->ReadUpTo(limit, at, &record, &flags, &next);
       ++count, at = next) {
    const bool is_large = (flags & kSlotLarge) != 0;
    const std::uint64_t bytes = is_large ? large_.at(record.lsn).second : record.body.size();
    if (count > 0 && body + sizeof(RecordPrefix) + bytes > config_.frame_bytes) break;
    body += sizeof(RecordPrefix) + bytes;
  }
  return AlignUp(sizeof(FrameHeader) + body, kSectorBytes);
}

bool LogWriter::FillFrame(Lane& lane, RingPosition* end, bool* needs_sync) {
  lane.builder.Reset(cursor_.next_lsn);
  lane.keys.clear();
  RingPosition at = cursor_;
  RecordView record;
  std::uint8_t flags;
  RingPosition next;
  const RingBuffer::Limit limit = ring_->Claimed();
  const std::uint64_t records_max = RecordsLeft();
  // The first record has room; what came since may have none.
  const std::uint64_t body_max =
      std::min(config_.frame_bytes, open_.back().file->room() - sizeof(FrameHeader));
  while (lane.builder.count() < records_max &&
         ring_->ReadUpTo(limit, at, &record, &flags, &next)) {
    if ((flags & kSlotLarge) != 0) {
      const auto& [body, bytes] = large_.at(record.lsn);
      record.body = {body.get(), bytes};
    }
    const std::uint64_t grown =
        lane.builder.body_bytes() + sizeof(RecordPrefix) + record.body.size();
    if (lane.builder.count() > 0 && grown > body_max) break;
    lane.builder.Add(record.header, record.body);
    AppendKeys(config_.index_keys, record, &lane.keys);
    *needs_sync = *needs_sync || (flags & kSlotNeedsSync) != 0;
    at = next;
  }
  *end = at;
  return lane.builder.count() > 0;
}

void LogWriter::PlaceFrame(std::uint32_t lane_number, const RingPosition& end, bool needs_sync,
                           Work* work) {
  Lane& lane = lanes_[lane_number];
  const std::uint64_t bytes = lane.builder.Pack(config_.compression);
  OpenSegment& segment = open_.back();
  const Lsn last = lane.builder.last_lsn();
  work->segment = segment.file.get();
  work->offset = segment.file->Place(bytes, last, lane.builder.count(), lane.builder.stamp_max());
  for (const std::uint64_t key : lane.keys) segment.file->index().Add(key, work->offset);
  RaiseStamp(lane.builder.stamp_max());
  named_lsn_ = durable_lsn();
  // The checksum is made here, still under the mutex: `synced_lsn` must not run ahead of the order
  // of the frames. It costs what reading the bytes once costs.
  work->bytes = lane.builder.Finish(
      {segment.file->seed(), work->offset, segment.file->header().epoch, named_lsn_});
  work->serial = first_serial_ + entries_.size();
  entries_.push_back({last, end, work->segment, false, false, needs_sync, 0, clock_.Now()});
  ++segment.users;
  segment.ends_idle = false;  // the sync of this frame is that of an idle one before it, too
  cursor_ = end;
  figures_.bytes_written += work->bytes.size();
  ++figures_.writes;
}

// Segments with written frames that are not synced yet, in log order; the lane's own frame counts.
void LogWriter::PlanSyncs(const SegmentFile* only, Work* work) {
  const std::uint32_t bit = 1u << work->lane;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const bool is_own = work->segment != nullptr && first_serial_ + i == work->serial;
    if (entry.is_synced || (!entry.is_written && !is_own)) continue;
    if (only != nullptr && entry.segment != only) continue;
    entry.syncing |= bit;
    if (!work->to_sync.empty() && work->to_sync.back() == entry.segment) continue;
    work->to_sync.push_back(entry.segment);
  }
  for (SegmentFile* segment : work->to_sync) ++FindOpen(segment)->users;
  figures_.syncs += work->to_sync.size();
}

// The I/O of a commit, without the mutex. Crash anywhere in here: unacknowledged frames, found or
// cut.
void LogWriter::Perform(Work* work) {
  if (work->to_sync.empty()) return PerformUntimed(work);
  const Monotonic start = clock_.Now();
  PerformUntimed(work);
  const std::chrono::nanoseconds spent = clock_.Now() - start;
  sync_time_.Record(spent);
  // Two lanes may end at once: one of them is then not counted.
  const std::int64_t recent = recent_sync_ns_.load(std::memory_order_relaxed);
  recent_sync_ns_.store(recent + (spent.count() - recent) / 8, std::memory_order_relaxed);
}

void LogWriter::PerformUntimed(Work* work) {
  const auto run = [&](SegmentFile* segment, const Status& status) {
    if (status.ok()) return true;
    Logger().error("event=log_write_failed segment={} error=\"{}\"", segment->number(),
                   status.message());
    segment->failed.store(true, std::memory_order_release);
    work->failed = segment;
    return false;
  };
  const bool own_sync = work->segment != nullptr && !work->to_sync.empty();
  for (SegmentFile* segment : work->to_sync) {
    if (segment == work->segment) continue;
    if (!run(segment, segment->lane(work->lane).Sync())) return;
  }
  if (work->segment == nullptr) return;
  WritableFile& file = work->segment->lane(work->lane);
  run(work->segment, own_sync ? file.WriteAndSync(work->offset, work->bytes)
                              : file.Write(work->offset, work->bytes));
}

Status LogWriter::Complete(const Work& work) {
  --busy_lanes_;
  lanes_idle_.NotifyAll();
  if (work.segment != nullptr) {
    --FindOpen(work.segment)->users;
    if (work.failed == nullptr) entries_[work.serial - first_serial_].is_written = true;
  }
  for (SegmentFile* segment : work.to_sync) --FindOpen(segment)->users;
  MarkSynced(work);
  last_work_ = clock_.Now();
  Advance();
  Status result;
  const auto is_failed = [](const Entry& e) {
    return e.segment->failed.load(std::memory_order_acquire);
  };
  if (std::any_of(entries_.begin(), entries_.end(), is_failed)) result = RewriteAfterFailure();
  if (more_waiters_ > 0) more_written_.NotifyAll();
  return result;
}

void LogWriter::MarkSynced(const Work& work) {
  if (work.to_sync.empty()) return;
  const std::uint32_t bit = 1u << work.lane;
  for (Entry& entry : entries_) {
    if ((entry.syncing & bit) == 0) continue;
    entry.syncing &= ~bit;
    // Looked at behind the sync: another lane's descriptor may have been told of a lost page that
    // this one was not.
    const bool is_clear = !entry.segment->failed.load(std::memory_order_acquire);
    entry.is_synced = entry.is_synced || (work.failed == nullptr && is_clear);
  }
}

void LogWriter::Advance() {
  while (written_count_ < entries_.size() && entries_[written_count_].is_written) {
    written_lsn_.store(entries_[written_count_].last_lsn, std::memory_order_release);
    ++written_count_;
  }
  ReleaseRing();
  while (!entries_.empty() && entries_.front().is_written && entries_.front().is_synced) {
    durable_lsn_.store(entries_.front().last_lsn, std::memory_order_release);
    entries_.pop_front();
    ++first_serial_;
    --written_count_;
    --released_count_;
  }
}

// Space goes back once its records have reached their level: written, or durable for `disk`. What
// is synced behind a frame that is not may have to be written again with it.
void LogWriter::ReleaseRing() {
  const std::size_t before = released_count_;
  std::size_t durable = 0;
  while (durable < written_count_ && entries_[durable].is_synced) ++durable;
  while (released_count_ < written_count_ &&
         (released_count_ < durable || !entries_[released_count_].needs_sync)) {
    ++released_count_;
  }
  if (released_count_ == before) return;
  ReleaseUpTo(entries_[released_count_ - 1].ring_end);
  if (room_waiters_ > 0) room_.NotifyAll();
}

void LogWriter::ReleaseUpTo(const RingPosition& end) {
  ring_->Release(end);
  const auto behind = large_.lower_bound(end.next_lsn);
  for (auto large = large_.begin(); large != behind; large = large_.erase(large)) {
    large_written_.fetch_add(large->second.second, std::memory_order_release);
  }
}

// --- segments
// --------------------------------------------------------------------------------------

Result<std::unique_ptr<SegmentFile>> LogWriter::MakeSegment(std::uint64_t number, Lsn first_lsn,
                                                            std::uint64_t bytes) {
  TASKWAL_ASSIGN(const SegmentPool::Spare spare, pool_.Take(bytes));
  SegmentFile::Plan plan;
  plan.directory = config_.directory;
  plan.spare = spare.name;
  plan.bytes = spare.bytes;
  plan.lanes = config_.sync_lanes + kFirstCallerLane;
  plan.header = SegmentFile::MakeHeader(config_.wal_id, number, config_.epoch, config_.partitions);
  plan.header.first_lsn = first_lsn;
  plan.header.synced_lsn = std::min(durable_lsn(), first_lsn - 1);
  plan.header.stamp = stamp();
  auto made = SegmentFile::Create(fs_, plan);
  const StatusCode code = made.status().code();
  const bool only_lacks = code == StatusCode::kOverloaded || code == StatusCode::kUnavailable;
  if (only_lacks) pool_.GiveBack(spare);
  return made;
}

Result<std::unique_ptr<SegmentFile>> LogWriter::MakeNextSegment(std::uint64_t number, Lsn first_lsn,
                                                                std::uint64_t bytes) {
  TASKWAL_ASSIGN(std::unique_ptr<SegmentFile> segment, MakeSegment(number, first_lsn, bytes));
  const Status published = segment->Publish(fs_, config_.directory);
  if (published.ok()) return segment;
  GiveBackSpare(*segment);
  return published;
}

void LogWriter::GiveBackSpare(const SegmentFile& segment) {
  if (!segment.spare().empty()) pool_.GiveBack({segment.spare(), segment.bytes()});
}

// How many more the segment takes by count.
std::uint64_t LogWriter::RecordsLeft() const {
  if (config_.segment_records_max == 0) return UINT64_MAX;
  const std::uint64_t records = open_.back().file->records();
  return config_.segment_records_max - std::min(records, config_.segment_records_max);
}

Status LogWriter::MakeRoom(std::uint64_t frame_bytes) {
  const SegmentFile& segment = *open_.back().file;
  const bool is_condemned = segment.failed.load(std::memory_order_acquire);
  if (RecordsLeft() > 0 && !is_condemned && segment.HasRoom(frame_bytes)) return Status::Ok();
  if (clock_.Now() < roll_retry_at_) return roll_status_;
  return Roll(frame_bytes);
}

// Makes the next segment. The mutex is given up meanwhile; `is_rolling_` keeps everybody from
// placing.
Status LogWriter::Roll(std::uint64_t frame_bytes) {
  is_rolling_ = true;
  const std::uint64_t number = next_number_++;
  const Lsn first_lsn = cursor_.next_lsn;
  const bool is_full_by_count = RecordsLeft() == 0;
  const Status lacked = roll_status_;
  if (config_.segment_records_max > 0) frame_bytes = std::max(frame_bytes, RoomForWaiting());
  if (is_full_by_count) {
    // What it did not use was filled for nothing.
    const std::uint64_t used = AlignUp(open_.back().file->used_bytes(), kSegmentHeaderBytes);
    next_bytes_ = std::min(2 * used, config_.segment_bytes);
  }
  const std::uint64_t bytes = std::max(next_bytes_, kSegmentHeaderBytes + frame_bytes);
  mutex_.Unlock();
  if (on_roll_) on_roll_();
  // Filled in vain again and again, it would take from others on the disk the little they have.
  const bool may_have = lacked.ok() || pool_.MayTake(bytes);
  auto made = may_have ? MakeNextSegment(number, first_lsn, bytes)
                       : Result<std::unique_ptr<SegmentFile>>(lacked);
  const bool lacks_space = made.status().code() == StatusCode::kUnavailable;
  if (on_space_ && (lacks_space || (made.ok() && !lacked.ok()))) on_space_(made.status());
  if (made.status().code() == StatusCode::kOverloaded) {
    // No descriptors are left. Some come free: the log waits as it does for space.
    if (lacked.ok()) Logger().warn("event=roll_delayed error=\"{}\"", made.status().message());
    made = Status::Unavailable(made.status().message());
  }
  mutex_.Lock();
  is_rolling_ = false;
  lanes_idle_.NotifyAll();
  if (!made.ok()) {
    roll_status_ = made.status();
    lacked_bytes_ = bytes;
    roll_retry_at_ = clock_.Now() + kRollRetry;
    // No space: the log waits, full, until there is some. Anything else would not get better.
    if (made.status().code() != StatusCode::kUnavailable) Break(made.status());
    return made.status();
  }
  roll_status_ = Status::Ok();
  lacked_bytes_ = 0;
  if (!is_full_by_count) next_bytes_ = std::min(next_bytes_ * 2, config_.segment_bytes);
  open_.push_back({std::move(made).value(), 0, false});
  return Status::Ok();
}

LogWriter::OpenSegment* LogWriter::FindOpen(const SegmentFile* file) {
  for (OpenSegment& segment : open_) {
    if (segment.file.get() == file) return &segment;
  }
  TASKWAL_CHECK(false && "a segment in use is open");
}

bool LogWriter::SealStep() {
  SegmentFile* oldest;
  {
    MutexLock lock(mutex_);
    if (is_rewriting_ || !CheckUsable().ok() || open_.size() < 2) return false;
    oldest = open_.front().file.get();
    if (IsSettled(open_.front())) return SealFront().ok();
    if (open_.front().users > 0) return false;  // the lane under way, or the next turn
  }
  return SyncSegment(kSealerLane, oldest).ok();
}

bool LogWriter::IsSettled(const OpenSegment& segment) const {
  return segment.users == 0 && (entries_.empty() || entries_.front().segment != segment.file.get());
}

// Seals the oldest open segment and hands it to the pool. The mutex is given up for the I/O.
Status LogWriter::SealFront() {
  OpenSegment& front = open_.front();
  if (front.sealing) return Status::Unavailable("it is being sealed");
  front.sealing = true;
  SegmentFile* file = front.file.get();
  const Lsn void_from = open_.size() > 1 ? open_[1].file->first_lsn() : file->last_lsn() + 1;
  // A condemned file gets no footer: what counts of it ends where the next segment begins.
  const bool is_condemned = file->failed.load(std::memory_order_acquire);
  const bool ends_idle = front.ends_idle;
  mutex_.Unlock();
  Result<std::uint64_t> bytes = file->bytes();
  Status noted;
  if (!is_condemned) bytes = file->Seal(config_.directory, ends_idle);
  if (!bytes.ok()) {
    // Its records are on disk; without a footer it is merely slower to read.
    Logger().warn("event=seal_failed segment={} error=\"{}\"", file->number(),
                  bytes.status().message());
    file->failed.store(true, std::memory_order_release);
    bytes = file->bytes();
  }
  const bool is_unsealed = file->failed.load(std::memory_order_acquire);
  if (is_unsealed && on_unsealed_) noted = on_unsealed_(file->number());
  if (!noted.ok()) {
    mutex_.Lock();
    open_.front().sealing = false;
    return noted;
  }
  file->CloseFiles();
  pool_.AddClosed({file->number(), file->first_lsn(), std::min(file->last_lsn(), void_from - 1),
                   *bytes, clock_.WallNow()});
  mutex_.Lock();
  TASKWAL_CHECK(open_.front().file.get() == file);
  open_.pop_front();
  return Status::Ok();
}

// So that the last commits are known to be synced even when no other frame follows them.
bool LogWriter::WriteIdleFrame() {
  const Lsn durable = durable_lsn();
  if (durable <= named_lsn_ || !entries_.empty() || busy_lanes_ > 0 || is_rolling_) return false;
  if (clock_.Now() - last_work_ < kIdleFrameAfter) return false;
  // Behind it comes the footer, written without the mutex: a frame now would land on top of it.
  if (open_.back().sealing) return false;
  SegmentFile* file = open_.back().file.get();
  if (!file->HasRoom(kSectorBytes) || file->failed.load(std::memory_order_acquire)) return false;
  const std::uint64_t offset = file->Place(kSectorBytes, file->last_lsn(), 0, 0);
  FrameBuilder& builder = lanes_[kWriterLane].builder;
  builder.Reset(cursor_.next_lsn);
  const auto bytes = builder.Finish({file->seed(), offset, file->header().epoch, durable});
  named_lsn_ = durable;
  open_.back().ends_idle = true;
  ++busy_lanes_;
  // A frame placed behind it could be on disk before it: after a crash reading would end at the
  // hole, and what was acknowledged behind it would be gone.
  is_naming_ = true;
  ++figures_.writes;
  figures_.bytes_written += bytes.size();
  mutex_.Unlock();
  const Status written = file->lane(kWriterLane).Write(offset, bytes);
  mutex_.Lock();
  --busy_lanes_;
  is_naming_ = false;
  lanes_idle_.NotifyAll();
  if (!written.ok()) file->failed.store(true, std::memory_order_release);
  return true;
}

}  // namespace taskwal::wal

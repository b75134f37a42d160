// Log: finding records again, retiring segments, keeping room.
#include <algorithm>

#include "base/logging.h"
#include "base/status_macros.h"
#include "wal/direct_writer.h"
#include "wal/log_directory.h"
#include "wal/log_impl.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {

namespace {

constexpr auto kSpaceCheckEvery = std::chrono::milliseconds(100);
constexpr auto kMakeAheadRetry = std::chrono::milliseconds(200);
constexpr int kLearnAtOnce = 64;

}  // namespace

// --- background
// ------------------------------------------------------------------------------------

bool Log::Impl::MaintenanceStep() {
  CheckSpace();
  bool has_worked = writer_.SealStep();
  // What is left of a disk that runs full is for whoever has to make room on it: the database may
  // lie there, too.
  const bool lacks_segment = lacks_segment_.load(std::memory_order_relaxed);
  if (is_short_.load(std::memory_order_relaxed) && !lacks_segment) {
    pool_.RemoveSpares();
  } else {
    has_worked = MakeAhead() || has_worked;
  }
  return LearnOlderSegments() || has_worked;
}

// True when it made something.
bool Log::Impl::MakeAhead() {
  const Monotonic now = clock_.Now();
  if (pool_.lacks_reserve()) {
    MutexLock lock(retire_mutex_);
    if (is_ended_ || now < next_make_ahead_) return false;
    if (!pool_.MakeReserve().ok()) next_make_ahead_ = now + kMakeAheadRetry;
  } else {
    MutexLock lock(retire_mutex_);
    if (now < next_make_ahead_) return false;
  }
  const std::uint64_t bytes = writer_.next_segment_bytes();
  const bool may_have = pool_.MayTake(bytes) && (lacks_segment_.load() || HasRoomAhead(bytes));
  const Result<bool> made = may_have ? pool_.MakeAhead(bytes) : Result<bool>(false);
  if (!may_have || made.status().code() == StatusCode::kUnavailable) {
    MutexLock lock(retire_mutex_);
    next_make_ahead_ = now + kMakeAheadRetry;
  }
  // The look at the space tells of it. A file filled in vain would take from others on the disk the
  // little they have, and so do spares that are too small.
  if (!may_have) {
    if (is_short_.load(std::memory_order_relaxed)) pool_.RemoveSpares();
    return false;
  }
  const bool lacks_space = made.status().code() == StatusCode::kUnavailable;
  if (lacks_space || (made.ok() && lacks_segment_.load())) NoteSegmentMade(made.status());
  return made.ok() && *made;
}

// One that is made ahead of need must not be what makes the disk short: it would be given up, and
// made again with the room that this gives.
bool Log::Impl::HasRoomAhead(std::uint64_t bytes) const {
  const auto lacking = static_cast<std::int64_t>(pool_.Lacking(bytes));
  return lacking == 0 || pool_.Room(0, 0, bytes).on_disk >= lacking;
}

// Told before the room is needed where it can be: what is in the log buffer then still has a
// segment to go to.
void Log::Impl::NoteSegmentMade(const Status& made) {
  {
    MutexLock lock(reason_mutex_);
    unmade_ = made;
  }
  lacks_segment_.store(!made.ok());
  LookAtSpace();
}

std::string Log::Impl::WhyFull() const {
  MutexLock lock(reason_mutex_);
  // Large records wait for more than the others.
  return short_reason_.empty() ? "its quota or the disk is used up" : short_reason_;
}

// Sizes and LSNs of segments made before this open, a few at a time: opening does not wait for it.
bool Log::Impl::LearnOlderSegments(Lsn next_first) {
  const std::vector<ClosedSegment> closed = pool_.Closed();
  const std::vector<Uuid> ids = Identities();
  int learned = 0;
  for (auto segment = closed.rbegin(); segment != closed.rend() && learned < kLearnAtOnce;
       ++segment) {
    if (segment->first_lsn != 0) {
      next_first = segment->first_lsn;
      continue;
    }
    ClosedSegment known = *segment;
    const auto stat = fs_.Stat(JoinPath(options_.directory, SegmentName(known.number)));
    const auto reader = SegmentReader::Open(fs_, options_.directory, known.number, ids);
    // It cannot be read for now: whoever needs it looks into it, and is told.
    const bool is_unreadable = !reader.ok() && reader.status().code() != StatusCode::kNotFound;
    if (is_unreadable && next_first > flushed_lsn_.load() + 1) break;
    // A file without a usable header counts as holding what its neighbours leave open.
    known.has_header = reader.ok() && (*reader)->header_state() == HeaderState::kValid;
    known.first_lsn = known.has_header ? (*reader)->header().first_lsn : next_first;
    known.last_lsn = next_first - 1;
    if (stat.ok()) {
      known.bytes = stat->size;
      known.closed_at = stat->modified;
    }
    next_first = known.first_lsn;
    pool_.Learn(known);
    ++learned;
  }
  return learned > 0;
}

void Log::Impl::CheckSpace() {
  const Monotonic now = clock_.Now();
  {
    MutexLock lock(retire_mutex_);
    if (now < next_space_check_ && !LacksRoomForLarge()) return;
    next_space_check_ = now + kSpaceCheckEvery;
  }
  LookAtSpace();
}

void Log::Impl::LookAtSpace() {
  // Asked for before the disk is: what is written by now, its answer counts.
  const std::uint64_t written = writer_.large_written();
  const Lsn flushed = flushed_lsn_.load(std::memory_order_relaxed);
  const auto look = [&] {
    return pool_.Room(flushed, writer_.UnflushedBytes(flushed), writer_.next_segment_bytes());
  };
  const auto wanted = static_cast<std::int64_t>(large_wanted_.exchange(0) - written);
  SegmentPool::RoomLeft room = look();
  // A disk without inodes, or under somebody's quota, has room by its own account.
  const bool lacks_segment = lacks_segment_.load();
  if ((lacks_segment || room.least() < std::max<std::int64_t>(wanted, 0)) &&
      !pool_.Retirable(flushed, true).empty()) {
    // What is kept for inspection goes first when space is short.
    IgnoreStatus(RetireNow(flushed, true), "told by the next look at the space");
    room = look();
  }
  // Only where that is enough: while a record waits for more, spares are of use to the others.
  const auto spare = static_cast<std::int64_t>(pool_.spare_bytes());
  if (room.of_quota >= wanted && room.on_disk >= 0 && room.on_disk < wanted &&
      room.on_disk + spare >= wanted) {
    pool_.RemoveSpares();
    room = look();
  }
  const bool is_short = room.least() < 0 || lacks_segment;
  large_limit_.store(written +
                     static_cast<std::uint64_t>(std::max<std::int64_t>(room.least(), 0)));
  const std::string reason = is_short ? ReasonOf(room) : std::string();
  {
    MutexLock lock(reason_mutex_);
    short_reason_ = reason;
  }
  if (is_short == is_short_.exchange(is_short, std::memory_order_relaxed)) return;
  if (is_short) {
    Logger().warn("event=log_full directory={} reason=\"{}\"", options_.directory, reason);
  } else {
    Logger().warn("event=log_has_room directory={}", options_.directory);
  }
}

std::string Log::Impl::ReasonOf(const SegmentPool::RoomLeft& room) const {
  const auto space = fs_.Space(options_.directory);
  if (space.ok() && space->lacks_inodes) return "no inodes left on " + options_.directory;
  if (room.of_quota < 0) return "its quota is used up (quota_bytes)";
  if (room.on_disk < 0) return "the disk of " + options_.directory + " is used up";
  MutexLock lock(reason_mutex_);
  return unmade_.message();
}

std::vector<Uuid> Log::Impl::Identities() const {
  MutexLock lock(state_mutex_);
  return IdentitiesOf(state_);
}

// --- retiring
// --------------------------------------------------------------------------------------

Status Log::Retire(Lsn flushed, const std::vector<Lsn>& watermarks, std::uint16_t target) {
  Impl& impl = *impl_;
  Lsn lowest = 0;
  {
    MutexLock lock(impl.state_mutex_);
    NoteFlushed(target, flushed, watermarks, &impl.state_);
    lowest = impl.state_.flushed_lsn;
    // Under the lock: two targets' calls must not store their positions in the other order.
    impl.flushed_lsn_.store(lowest, std::memory_order_relaxed);
  }
  {
    MutexLock lock(impl.retire_mutex_);
    impl.needed_from_.erase(target);
  }
  const Status retired = impl.RetireNow(lowest, false);
  const bool is_awaited =
      impl.is_short_.load(std::memory_order_relaxed) || impl.LacksRoomForLarge();
  if (retired.ok() && is_awaited) impl.LookAtSpace();
  return retired;
}

void Log::KeepFrom(Lsn lsn, std::uint16_t target) {
  MutexLock lock(impl_->retire_mutex_);
  impl_->needed_from_[target] = lsn;
}

Status Log::Impl::RetireNow(Lsn flushed, bool all) {
  MutexLock lock(retire_mutex_);
  if (is_ended_) return Status::Closed("the log is closed");
  // What was asked for may be older than a setback of the database.
  flushed = std::min(flushed, flushed_lsn_.load(std::memory_order_relaxed));
  for (const auto& [target, from] : needed_from_) flushed = std::min(flushed, from - 1);
  const std::vector<ClosedSegment> going = pool_.Retirable(flushed, all);
  if (going.empty()) return Status::Ok();
  Lsn first_before = 0;
  std::vector<std::uint64_t> unsealed_before;
  {
    MutexLock state_lock(state_mutex_);
    first_before = state_.first_lsn;
    unsealed_before = state_.unsealed;
    state_.first_lsn = std::max(state_.first_lsn, going.back().last_lsn + 1);
    // Those that go now stay named until they are gone.
    std::vector<std::uint64_t> unsealed;
    for (const std::uint64_t number : unsealed_before) {
      const bool is_gone = number < going.front().number && !leaving_.contains(number);
      if (!is_gone) unsealed.push_back(number);
    }
    state_.unsealed = std::move(unsealed);
  }
  // Crash behind it: files that STATE no longer counts on; they are passed over.
  const Status saved = SaveState();
  if (!saved.ok()) {
    // What is not on disk must not be believed: a database that goes back is brought these again.
    MutexLock state_lock(state_mutex_);
    state_.first_lsn = first_before;
    state_.unsealed = std::move(unsealed_before);
    return saved;
  }
  for (const ClosedSegment& segment : going) {
    bool& is_dropped = leaving_[segment.number];
    TASKWAL_TRY(pool_.Drop(segment));
    is_dropped = true;
  }
  TASKWAL_TRY(fs_.SyncDirectory(options_.directory));
  std::erase_if(leaving_, [](const auto& segment) { return segment.second; });
  return Status::Ok();
}

// Before any later segment is sealed: opening looks for unsealed ones only behind the last that is.
Status Log::Impl::NoteUnsealed(std::uint64_t number) {
  MutexLock lock(retire_mutex_);
  {
    MutexLock state_lock(state_mutex_);
    auto& unsealed = state_.unsealed;
    if (std::find(unsealed.begin(), unsealed.end(), number) == unsealed.end()) {
      unsealed.push_back(number);
    }
  }
  return SaveState();
}

LogState Log::state() const {
  MutexLock lock(impl_->state_mutex_);
  return impl_->state_;
}

Status Log::SetState(const std::function<void(LogState*)>& change) {
  Impl& impl = *impl_;
  MutexLock lock(impl.retire_mutex_);
  if (impl.is_ended_) return Status::Closed("the log is closed");
  LogState before;
  {
    MutexLock state_lock(impl.state_mutex_);
    before = impl.state_;
    change(&impl.state_);
  }
  Status saved = impl.SaveState();
  if (!saved.ok()) {
    // What is not on disk must not be believed either: the next try writes it again.
    MutexLock state_lock(impl.state_mutex_);
    impl.state_ = before;
  }
  return saved;
}

std::uint64_t Log::epoch() const {
  MutexLock lock(impl_->state_mutex_);
  return impl_->state_.epoch;
}

Lsn Log::first_lsn() const {
  MutexLock lock(impl_->state_mutex_);
  return impl_->state_.first_lsn;
}

LogStats Log::GetStats() const {
  const Impl& impl = *impl_;
  const LogWriter::Figures figures = impl.writer_.figures();
  LogStats stats;
  stats.end_lsn = end_lsn();
  stats.written_lsn = written_lsn();
  stats.durable_lsn = durable_lsn();
  stats.rescued = impl.rescued_;
  stats.lost = figures.lost;
  stats.segments = impl.pool_.closed_count() + figures.open_segments;
  stats.segments_active = figures.open_segments;
  const Lsn flushed = impl.flushed_lsn_.load(std::memory_order_relaxed);
  for (const ClosedSegment& segment : impl.pool_.Closed()) {
    const bool is_known = segment.first_lsn != 0;
    stats.segments_flushing += is_known && segment.last_lsn > flushed ? 1 : 0;
  }
  stats.sync_time = impl.writer_.sync_time();
  stats.log_bytes = impl.pool_.closed_bytes() + figures.open_bytes;
  stats.unflushed_bytes =
      impl.pool_.UnflushedBytes(flushed) + impl.writer_.UnflushedBytes(flushed);
  stats.bytes_written = figures.bytes_written;
  stats.writes = figures.writes;
  stats.syncs = figures.syncs;
  stats.ring_utilization = static_cast<double>(impl.writer_.ring().used_bytes()) /
                           static_cast<double>(impl.writer_.ring().ring_bytes());
  stats.full = impl.is_short_.load(std::memory_order_relaxed);
  if (stats.full) stats.full_reason = impl.WhyFull();
  stats.lacks_segment = stats.full && impl.lacks_segment_.load();
  return stats;
}

void Log::ResetTimes() { impl_->writer_.ResetTimes(); }

// --- finding records
// -------------------------------------------------------------------------------

Status Log::Lookup(std::uint64_t key, Lsn from,
                   const std::function<bool(const RecordView&)>& visit,
                   const Deadline& deadline) {
  Impl& impl = *impl_;
  const Lsn end = end_lsn();
  if (written_lsn() < end) {
    const Status written = WaitWritten(end, deadline);
    // Read-only, it still answers from what stands in its files.
    if (!written.ok() && !impl.writer_.is_broken()) return written;
  }
  // Closed ones are listed before the open ones are searched: one that is sealed meanwhile is then
  // in neither twice nor never, as the list is taken again behind.
  const std::vector<LogWriter::Place> places = impl.writer_.FindInOpenSegments(key);
  bool go_on = true;
  for (const LogWriter::Place& place : places) {
    const Lsn below = std::min(place.void_from, end + 1);
    const Status looked =
        impl.LookupIn(place.segment, {place.offset}, key, from, below, visit, &go_on);
    if (!looked.ok() && impl.Holds(place.segment)) return looked;
    if (!go_on) return Status::Ok();
  }
  // What came since would be visited behind older records: a reading above may have taken long.
  Lsn void_from = std::min(impl.writer_.open_first_lsn(), end + 1);
  for (const ClosedSegment& segment : impl.ClosedNewestFirst()) {
    if (segment.first_lsn > end) continue;
    if (void_from <= from) break;  // everything older ends below
    const bool was_searched =
        std::any_of(places.begin(), places.end(),
                    [&](const LogWriter::Place& p) { return p.segment == segment.number; });
    if (!was_searched) {
      const Status looked =
          impl.LookupInClosed(segment.number, key, from, void_from, visit, &go_on);
      if (!looked.ok() && impl.Holds(segment.number)) return looked;
      if (!go_on) return Status::Ok();
    }
    if (segment.first_lsn != 0) void_from = std::min(void_from, segment.first_lsn);
  }
  return Status::Ok();
}

Status Log::Impl::LookupInClosed(std::uint64_t segment, std::uint64_t key, Lsn from, Lsn void_from,
                                 const std::function<bool(const RecordView&)>& visit,
                                 bool* go_on) {
  TASKWAL_ASSIGN(std::vector<std::uint64_t> offsets, FramesOf(segment, key));
  return LookupIn(segment, std::move(offsets), key, from, void_from, visit, go_on);
}

// A segment that was retired (and recycled) while it was read cannot be read, and need not be: what
// it held is settled.
bool Log::Impl::Holds(std::uint64_t segment) const {
  if (writer_.HasOpen(segment)) return true;
  const std::vector<ClosedSegment> closed = pool_.Closed();
  return std::any_of(closed.begin(), closed.end(),
                     [&](const ClosedSegment& c) { return c.number == segment; });
}

std::vector<ClosedSegment> Log::Impl::ClosedNewestFirst() {
  while (LearnOlderSegments()) {
  }
  std::vector<ClosedSegment> closed = pool_.Closed();
  std::reverse(closed.begin(), closed.end());
  return closed;
}

// Offsets of the frames of a closed segment that hold the key, newest first: from its footer; where
// it has none, all its frames.
Result<std::vector<std::uint64_t>> Log::Impl::FramesOf(std::uint64_t segment, std::uint64_t key) {
  const std::vector<Uuid> ids = Identities();
  std::vector<std::uint64_t> offsets;
  TASKWAL_ASSIGN(const std::unique_ptr<SegmentReader> reader,
                 SegmentReader::Open(fs_, options_.directory, segment, ids));
  const Result<SegmentReader::Footer> footer = reader->ReadFooter();
  if (footer.ok()) {
    const auto& index = footer->index;
    auto entry = std::lower_bound(index.begin(), index.end(), key,
                                  [](const FooterEntry& e, std::uint64_t k) { return e.key < k; });
    for (; entry != index.end() && entry->key == key; ++entry) {
      offsets.push_back(entry->sector * kSectorBytes);
    }
  } else {
    Frame frame;
    for (;;) {
      TASKWAL_ASSIGN(const SegmentEvent event, reader->Next(&frame));
      if (event.kind == SegmentEvent::Kind::kEnd) break;
      if (event.kind == SegmentEvent::Kind::kFrame) offsets.push_back(event.offset);
    }
  }
  std::reverse(offsets.begin(), offsets.end());
  return offsets;
}

Status Log::Impl::LookupIn(std::uint64_t segment, std::vector<std::uint64_t> offsets,
                           std::uint64_t key, Lsn from, Lsn void_from,
                           const std::function<bool(const RecordView&)>& visit, bool* go_on) {
  if (offsets.empty()) return Status::Ok();
  const std::vector<Uuid> ids = Identities();
  TASKWAL_ASSIGN(const std::unique_ptr<SegmentReader> reader,
                 SegmentReader::Open(fs_, options_.directory, segment, ids));
  Frame frame;
  std::vector<std::uint64_t> keys;
  for (const std::uint64_t offset : offsets) {
    reader->SeekTo(offset);
    TASKWAL_ASSIGN(const SegmentEvent event, reader->NextHere(&frame));
    if (event.kind != SegmentEvent::Kind::kFrame) {
      return Status::Corruption(SegmentName(segment) + " at " + std::to_string(offset) +
                                ": no valid frame where the index names one");
    }
    std::vector<RecordView> found;
    FrameRecords records(frame.header, frame.raw);
    for (RecordView record; records.Next(&record);) {
      if (record.lsn < from || record.lsn >= void_from) continue;
      keys.clear();
      AppendKeys(options_.index_keys, record, &keys);
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) found.push_back(record);
    }
    for (auto record = found.rbegin(); record != found.rend(); ++record) {
      *go_on = visit(*record);
      if (!*go_on) return Status::Ok();
    }
  }
  return Status::Ok();
}

}  // namespace taskwal::wal

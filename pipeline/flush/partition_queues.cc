#include "pipeline/flush/partition_queues.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "storage/operation.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;

constexpr Lsn kNoLimit = UINT64_MAX;
constexpr auto kLongestWait = std::chrono::hours(1);

bool IsBarrierType(std::uint8_t type) {
  return storage::IsBarrier(static_cast<storage::OperationType>(type));
}

std::size_t BytesOf(std::span<const std::byte> body) { return sizeof(QueuedRecord) + body.size(); }

}  // namespace

// What was taken in and not counted yet is read again.
void PartitionQueues::KeepAccount(const Queue& before, Queue* fresh) {
  fresh->counted = before.counted;
  fresh->seen = before.seen;
  fresh->owed = before.owed;
  for (const QueuedRecord& record : before.records) {
    if (record.lsn > before.counted) ++fresh->owed;
  }
}

PartitionQueues::PartitionQueues(const Limits& limits)
    : limits_(limits),
      queues_(limits.partitions),
      worker_states_(limits.partitions),
      workers_(std::clamp(limits.workers, 1u, limits.partitions)),
      batch_records_(std::max(limits.batch_records, 1u)) {}

void PartitionQueues::Reset(const std::vector<Lsn>& start, const std::vector<Lsn>& stored) {
  TASKWAL_CHECK(start.size() == limits_.partitions && stored.size() == limits_.partitions);
  MutexLock lock(mutex_);
  for (std::uint32_t p = 0; p < limits_.partitions; ++p) {
    Queue fresh;
    fresh.start = start[p];
    fresh.stored = stored[p];
    KeepAccount(queues_[p], &fresh);
    queues_[p] = std::move(fresh);
  }
  Queue barriers;
  KeepAccount(barriers_, &barriers);
  // A barrier moves all partitions at once: where one is behind it, it has not happened.
  barriers.start = *std::min_element(start.begin(), start.end());
  barriers_ = std::move(barriers);
  for (WorkerState& worker : worker_states_) {
    worker.held = 0;
    worker.has_given_up = false;
  }
  next_lsn_ = barriers_.start + 1;
  bytes_ = 0;
  beyond_ = {};
  stopped_.reset();
  awaits_.reset();
  is_interrupted_ = false;
  Changed();
}

void PartitionQueues::KnowAsSettled(Lsn to) {
  MutexLock lock(mutex_);
  for (Queue& queue : queues_) queue.counted = std::max(queue.counted, to);
  barriers_.counted = std::max(barriers_.counted, to);
}

// --- the reader --------------------------------------------------------------------------------

PartitionQueues::Offered PartitionQueues::Offer(const wal::RecordView& record, Monotonic now) {
  const std::uint32_t partition = wal::PartitionOf(record.header.key, limits_.partitions);
  const bool is_barrier = IsBarrierType(record.header.type);
  MutexLock lock(mutex_);
  Queue& queue = is_barrier ? barriers_ : queues_[partition];
  if (record.lsn <= queue.start) return FoundSettled(&queue, record.lsn);
  if (record.lsn <= queue.offered) return Offered::kTaken;
  const bool is_wanted = is_barrier || (!queue.is_behind && HasRoom(queue));
  const Room room{record.lsn, BytesOf(record.body)};
  if (!stopped_ && is_wanted && !MayEnter(room, {})) stopped_ = room;
  if (!stopped_ && is_wanted) {
    Push(&queue, partition, record, now);
    return Offered::kTaken;
  }
  if (!stopped_ && !queue.is_behind) {
    queue.is_behind = true;
    queue.resume = record.lsn;
    queue.needs = room.bytes;
  }
  if (record.lsn > queue.seen) {
    queue.seen = record.lsn;
    ++queue.owed;
  }
  return Offered::kTaken;
}

PartitionQueues::Offered PartitionQueues::FoundSettled(Queue* queue, Lsn lsn) {
  if (lsn <= queue->counted) return Offered::kKnown;
  See(queue, lsn);
  queue->counted = lsn;
  return Offered::kFoundSettled;
}

// It is taken in, or counted.
void PartitionQueues::See(Queue* queue, Lsn lsn) {
  if (lsn > queue->seen) {
    queue->seen = lsn;
  } else if (lsn > queue->counted && queue->owed > 0) {
    --queue->owed;
  }
}

std::uint64_t PartitionQueues::TakeLost(Lsn next, std::optional<Lsn> late_from) {
  MutexLock lock(mutex_);
  const Lsn offered = stopped_ ? std::min(next, stopped_->lsn) : next;
  const Lsn passed = late_from ? next_lsn_ : offered;
  std::uint64_t lost = 0;
  for (Queue& queue : queues_) {
    const bool catches_up = late_from && queue.resume >= *late_from && !queue.is_full &&
                            std::max(queue.resume, next) >= next_lsn_;
    // After a setback of the database what was seen before lies ahead of the reader, too.
    const bool has_passed = queue.seen < passed && (!queue.is_behind || catches_up);
    if (has_passed) lost += std::exchange(queue.owed, 0);
  }
  if (barriers_.seen < passed) lost += std::exchange(barriers_.owed, 0);
  return lost;
}

std::uint64_t PartitionQueues::Unsettled() const {
  MutexLock lock(mutex_);
  std::uint64_t records = UnsettledIn(barriers_);
  for (const Queue& queue : queues_) records += UnsettledIn(queue);
  return records;
}

// What is counted and not dropped yet stands in front.
std::uint64_t PartitionQueues::UnsettledIn(const Queue& queue) {
  const auto first = std::upper_bound(
      queue.records.begin(), queue.records.end(), queue.counted,
      [](Lsn counted, const QueuedRecord& record) { return counted < record.lsn; });
  return queue.owed + static_cast<std::uint64_t>(queue.records.end() - first);
}

void PartitionQueues::AdvanceTo(Lsn next) {
  MutexLock lock(mutex_);
  next_lsn_ = stopped_ ? stopped_->lsn : next;
  awaits_ = std::exchange(stopped_, std::nullopt);
  Changed();
}

bool PartitionQueues::is_blocked() const {
  MutexLock lock(mutex_);
  if (barriers_.bytes >= limits_.partition_bytes) return true;
  if (awaits_ && !MayEnter(*awaits_, {})) return true;
  return std::all_of(queues_.begin(), queues_.end(), [](const Queue& q) { return q.is_behind; });
}

Lsn PartitionQueues::next_lsn() const {
  MutexLock lock(mutex_);
  return next_lsn_;
}

// --- the catch-up reader -----------------------------------------------------------------------

std::optional<Lsn> PartitionQueues::CatchUpFrom() const {
  MutexLock lock(mutex_);
  std::optional<Lsn> from;
  for (const Queue& queue : queues_) {
    // Not at the first free byte: each turn reads what lies between the partitions' positions
    // again.
    if (!queue.is_behind || queue.bytes > limits_.partition_bytes / 2) continue;
    if (!MayEnter({queue.resume, queue.needs}, {})) continue;
    if (!from || queue.resume < *from) from = queue.resume;
  }
  return from;
}

bool PartitionQueues::has_left_behind() const {
  MutexLock lock(mutex_);
  return std::any_of(queues_.begin(), queues_.end(), [](const Queue& q) { return q.is_behind; });
}

bool PartitionQueues::HasMissed(std::uint64_t key, Lsn lsn) const {
  MutexLock lock(mutex_);
  const Queue& queue = queues_[wal::PartitionOf(key, limits_.partitions)];
  const auto has_taken = [&](const Queue& one) { return lsn <= std::max(one.offered, one.start); };
  return !has_taken(queue) && !has_taken(barriers_) && lsn > queue.stored;
}

void PartitionQueues::OfferLate(Lsn from, const wal::RecordView& record, Monotonic now) {
  if (IsBarrierType(record.header.type)) return;
  const std::uint32_t partition = wal::PartitionOf(record.header.key, limits_.partitions);
  MutexLock lock(mutex_);
  Queue& queue = queues_[partition];
  // One whose position lies before this turn's gets its records in order from a later turn.
  if (!queue.is_behind || queue.is_full) return;
  if (queue.resume < from || queue.resume > record.lsn) return;
  const Room room{record.lsn, BytesOf(record.body)};
  if (HasRoom(queue) && MayEnter(room, from)) {
    Push(&queue, partition, record, now);
    queue.resume = record.lsn + 1;
    queue.needs = 0;
  } else {
    queue.resume = record.lsn;
    queue.needs = room.bytes;
    queue.is_full = true;
  }
}

void PartitionQueues::AdvanceLate(Lsn from, Lsn to) {
  MutexLock lock(mutex_);
  for (Queue& queue : queues_) {
    if (!queue.is_behind) continue;
    const bool was_served = queue.resume >= from && !queue.is_full;
    queue.is_full = false;
    if (!was_served) continue;
    if (queue.resume <= to) {
      queue.resume = to + 1;
      queue.needs = 0;
    }
    if (queue.resume >= next_lsn_) queue.is_behind = false;
  }
  Changed();
}

// --- workers -----------------------------------------------------------------------------------

std::optional<Monotonic> PartitionQueues::DueAt(std::uint32_t worker, Monotonic now) const {
  MutexLock lock(mutex_);
  const bool has_barrier = !barriers_.records.empty();
  if (worker == 0 && IsBarrierReady()) return now;
  const Lsn limit = TakeLimit();
  std::size_t records = 0;
  std::size_t bytes = 0;
  std::optional<Monotonic> oldest;
  for (std::uint32_t p = 0; p < limits_.partitions; ++p) {
    const Queue& queue = queues_[p];
    if (queue.records.empty() || queue.records.front().lsn > limit) continue;
    if (!MayTake(worker, p)) continue;
    records += queue.records.size();
    bytes += queue.bytes;
    const Monotonic queued_at = queue.records.front().queued_at;
    if (!oldest || queued_at < *oldest) oldest = queued_at;
  }
  if (!oldest) return std::nullopt;
  const bool is_enough = records >= limits_.due_records || bytes >= limits_.batch_bytes;
  if (has_barrier || !awaited_.empty() || is_enough) return now;
  return std::min(*oldest + limits_.due_age, worker_states_[worker].last_flush + limits_.linger);
}

bool PartitionQueues::MayTake(std::uint32_t worker, std::uint32_t partition) const {
  const std::uint32_t holder = queues_[partition].holder;
  if (queues_[partition].is_aside) return false;
  if (holder != kNobody) return holder == worker;
  const std::uint32_t owner = partition % workers_;
  if (owner == worker) return true;
  if (worker >= workers_) return false;
  return worker_states_[owner].has_given_up ||
         (limits_.work_stealing && worker_states_[owner].held > 0);
}

std::vector<QueuedRecord*> PartitionQueues::Take(std::uint32_t worker, bool* is_full) {
  bool unwanted = false;
  if (is_full == nullptr) is_full = &unwanted;
  *is_full = false;
  MutexLock lock(mutex_);
  if (worker == 0 && IsBarrierReady()) return {&barriers_.records.front()};
  std::vector<QueuedRecord*> batch = TakeMerged(worker, is_full);
  WorkerState& state = worker_states_[worker];
  state.has_given_up = false;
  for (const QueuedRecord* record : batch) {
    Queue& queue = queues_[record->partition];
    if (queue.holder == worker) continue;
    queue.holder = worker;
    ++state.held;
  }
  return batch;
}

void PartitionQueues::SetAside(const QueuedRecord& record) {
  MutexLock lock(mutex_);
  QueueOf(record).is_aside = true;
}

void PartitionQueues::TakeUp(const QueuedRecord& record) {
  MutexLock lock(mutex_);
  QueueOf(record).is_aside = false;
}

PartitionQueues::Queue& PartitionQueues::QueueOf(const QueuedRecord& record) {
  return IsBarrierType(record.type) ? barriers_ : queues_[record.partition];
}

void PartitionQueues::Release(std::uint32_t worker, bool gives_up) {
  MutexLock lock(mutex_);
  for (Queue& queue : queues_) {
    if (queue.holder != worker || queue.is_aside) continue;
    queue.holder = kNobody;
    auto& by = queue.given_up_by;
    const bool is_listed = std::find(by.begin(), by.end(), worker) != by.end();
    if (gives_up && !queue.records.empty() && !is_listed) by.push_back(worker);
  }
  worker_states_[worker].held = 0;
  worker_states_[worker].has_given_up = gives_up;
  Changed();
}

void PartitionQueues::SetWorkers(std::uint32_t workers) {
  MutexLock lock(mutex_);
  workers_ = std::clamp(workers, 1u, limits_.partitions);
  Changed();
}

std::uint32_t PartitionQueues::workers() const {
  MutexLock lock(mutex_);
  return workers_;
}

void PartitionQueues::SetBatchRecords(std::uint32_t records) {
  MutexLock lock(mutex_);
  batch_records_ = std::max(records, 1u);
}

PartitionQueues::Fill PartitionQueues::fill() const {
  MutexLock lock(mutex_);
  Fill fill;
  fill.records = barriers_.records.size();
  fill.bytes = bytes_;
  const double used = static_cast<double>(bytes_) / static_cast<double>(limits_.bytes);
  fill.utilization = std::min(used, 1.0);
  for (const Queue& queue : queues_) {
    fill.records += queue.records.size();
    const double share =
        static_cast<double>(queue.bytes) / static_cast<double>(limits_.partition_bytes);
    fill.utilization = std::max(fill.utilization, std::min(share, 1.0));
  }
  return fill;
}

std::vector<QueuedRecord*> PartitionQueues::TakeMerged(std::uint32_t worker, bool* is_full) {
  const Lsn limit = TakeLimit();
  // Where each partition's next record is, and its LSN; kNoLimit at the end.
  struct Cursor {
    std::deque<QueuedRecord>::iterator at, end;
    Lsn lsn;
    bool has_room;
  };
  std::vector<Cursor> cursors;
  for (std::uint32_t p = 0; p < limits_.partitions; ++p) {
    auto& records = queues_[p].records;
    if (records.empty() || !MayTake(worker, p)) continue;
    cursors.push_back({records.begin(), records.end(), records.front().lsn, HasRoom(queues_[p])});
  }
  std::vector<QueuedRecord*> batch;
  std::size_t bytes = 0;
  while (!cursors.empty() && batch.size() < batch_records_) {
    Cursor& next = *std::min_element(
        cursors.begin(), cursors.end(), [](const auto& a, const auto& b) { return a.lsn < b.lsn; });
    if (next.at == next.end || next.lsn > limit) break;
    bytes += next.at->body.size();
    if (!batch.empty() && bytes > limits_.batch_bytes) {
      *is_full = true;
      break;
    }
    batch.push_back(&*next.at++);
    next.lsn = next.at == next.end ? kNoLimit : next.at->lsn;
    // The log has more than such a queue could hold.
    if (next.at == next.end && !next.has_room) *is_full = true;
  }
  *is_full = *is_full || batch.size() >= batch_records_;
  return batch;
}

PartitionQueues::Settled PartitionQueues::Count(std::span<const storage::WatermarkMove> moves) {
  Settled settled;
  std::vector<std::uint32_t> gave_up;
  MutexLock lock(mutex_);
  for (const storage::WatermarkMove& move : moves) {
    Queue& queue = queues_[move.partition];
    CountUpTo(&queue, move.to, &settled);
    gave_up.insert(gave_up.end(), queue.given_up_by.begin(), queue.given_up_by.end());
    queue.given_up_by.clear();
  }
  for (const std::uint32_t worker : gave_up) {
    if (IsRelieved(worker)) settled.relieved.push_back(worker);
  }
  if (IsOfBarrier(moves)) CountUpTo(&barriers_, moves.front().to, &settled);
  return settled;
}

void PartitionQueues::Settle(std::uint32_t worker, std::span<const storage::WatermarkMove> moves,
                             Monotonic now) {
  MutexLock lock(mutex_);
  for (const storage::WatermarkMove& move : moves) {
    queues_[move.partition].stored = move.to;
    DropUpTo(&queues_[move.partition], move.to);
  }
  if (IsOfBarrier(moves)) DropUpTo(&barriers_, moves.front().to);
  worker_states_[worker].last_flush = now;
  Changed();
}

// What it has in hand will tell how it fares.
bool PartitionQueues::IsRelieved(std::uint32_t worker) const {
  return worker_states_[worker].held == 0 &&
         std::none_of(queues_.begin(), queues_.end(), [&](const Queue& queue) {
           const auto& by = queue.given_up_by;
           return std::find(by.begin(), by.end(), worker) != by.end();
         });
}

// Nothing but the barrier itself moves a watermark up to it.
bool PartitionQueues::IsOfBarrier(std::span<const storage::WatermarkMove> moves) const {
  return !barriers_.records.empty() && !moves.empty() &&
         moves.front().to == barriers_.records.front().lsn;
}

void PartitionQueues::CountUpTo(Queue* queue, Lsn to, Settled* settled) {
  for (const QueuedRecord& record : queue->records) {
    if (record.lsn > to) break;
    if (record.lsn <= queue->counted) continue;
    queue->counted = record.lsn;
    ++(record.is_lettered ? settled->lettered : settled->applied);
    settled->bytes += record.body.size();
  }
}

void PartitionQueues::DropUpTo(Queue* queue, Lsn to) {
  while (!queue->records.empty() && queue->records.front().lsn <= to) {
    const QueuedRecord& record = queue->records.front();
    const std::size_t bytes = BytesOf(record.body);
    queue->bytes -= bytes;
    bytes_ -= bytes;
    if (record.lsn == beyond_.lsn) beyond_ = {};
    queue->records.pop_front();
  }
}

std::vector<Lsn> PartitionQueues::stored() const { return Positions().second; }

// --- positions and waiting ---------------------------------------------------------------------

Lsn PartitionQueues::settled_lsn() const {
  MutexLock lock(mutex_);
  return SettledOfAll();
}

Lsn PartitionQueues::settled_lsn(std::uint32_t partition) const {
  MutexLock lock(mutex_);
  return SettledOf(queues_[partition]);
}

std::pair<Lsn, std::vector<Lsn>> PartitionQueues::Positions() const {
  MutexLock lock(mutex_);
  std::vector<Lsn> watermarks;
  for (const Queue& queue : queues_) watermarks.push_back(queue.stored);
  return {SettledOfAll(), std::move(watermarks)};
}

Lsn PartitionQueues::awaited_lsn() const {
  MutexLock lock(mutex_);
  return awaited_.empty() ? 0 : *std::max_element(awaited_.begin(), awaited_.end());
}

bool PartitionQueues::WaitSettled(Lsn lsn, const wal::Deadline& deadline, Clock& clock) {
  const std::stop_callback wake(deadline.stop, [this] { Wake(); });
  MutexLock lock(mutex_);
  awaited_.push_back(lsn);
  Changed();  // a batch may be due now that somebody waits
  bool is_settled = false;
  for (;;) {
    is_settled = SettledOfAll() >= lsn;
    const Monotonic now = clock.Now();
    if (is_settled || is_interrupted_) break;
    if (now >= deadline.at || deadline.stop.stop_requested()) break;
    changed_.WaitFor(mutex_, std::min<std::chrono::nanoseconds>(deadline.at - now, kLongestWait));
  }
  awaited_.erase(std::find(awaited_.begin(), awaited_.end(), lsn));
  return is_settled;
}

void PartitionQueues::WaitForChange(std::uint64_t seen, std::chrono::nanoseconds longest) {
  MutexLock lock(mutex_);
  if (changes_ == seen) {
    changed_.WaitFor(mutex_, std::min<std::chrono::nanoseconds>(longest, kLongestWait));
  }
}

std::uint64_t PartitionQueues::change() const {
  MutexLock lock(mutex_);
  return changes_;
}

void PartitionQueues::Wake() {
  MutexLock lock(mutex_);
  Changed();
}

void PartitionQueues::Interrupt() {
  MutexLock lock(mutex_);
  is_interrupted_ = true;
  Changed();
}

void PartitionQueues::Changed() {
  ++changes_;
  changed_.NotifyAll();
}

// --- inside ------------------------------------------------------------------------------------

bool PartitionQueues::HasRoom(const Queue& queue) const {
  return queue.records.empty() || queue.bytes < limits_.partition_bytes;
}

bool PartitionQueues::Fits(std::size_t bytes) const {
  return bytes_ - beyond_.bytes + bytes <= limits_.bytes;
}

// So there is at most one beyond the bound: until it is settled, nothing else is the oldest.
bool PartitionQueues::MayEnter(const Room& room, std::optional<Lsn> late_from) const {
  return Fits(room.bytes) || IsOldest(room.lsn, late_from);
}

// No older record is in a queue, or was left behind.
bool PartitionQueues::IsOldest(Lsn lsn, std::optional<Lsn> late_from) const {
  const auto has_older = [&](const Queue& queue) {
    if (!queue.records.empty()) return queue.records.front().lsn < lsn;
    // The catch-up reader's turn has passed everything of a queue that it serves up to here.
    const bool is_served = late_from && queue.resume >= *late_from && !queue.is_full;
    return queue.is_behind && queue.resume < lsn && !is_served;
  };
  return !has_older(barriers_) && std::none_of(queues_.begin(), queues_.end(), has_older);
}

void PartitionQueues::Push(Queue* queue, std::uint32_t partition, const wal::RecordView& record,
                           Monotonic now) {
  See(queue, record.lsn);
  QueuedRecord queued;
  queued.lsn = record.lsn;
  queued.stamp = record.header.stamp;
  queued.type = record.header.type;
  queued.partition = partition;
  queued.queued_at = now;
  queued.body.assign(record.body.begin(), record.body.end());
  const std::size_t bytes = BytesOf(queued.body);
  if (!Fits(bytes)) beyond_ = {record.lsn, bytes};
  queue->bytes += bytes;
  bytes_ += bytes;
  queue->records.push_back(std::move(queued));
  queue->offered = record.lsn;
}

Lsn PartitionQueues::SettledOf(const Queue& queue) const {
  Lsn settled = 0;
  if (queue.records.empty()) {
    // The reader may still have to pass what was settled before, or be in the middle of a frame.
    const Lsn next = queue.is_behind ? queue.resume : next_lsn_;
    settled = std::max({next - 1, queue.start, queue.stored});
  } else {
    settled = queue.records.front().lsn - 1;
  }
  return barriers_.records.empty() ? settled : std::min(settled, barriers_.records.front().lsn - 1);
}

Lsn PartitionQueues::SettledOfAll() const {
  Lsn lowest = kNoLimit;
  for (const Queue& queue : queues_) lowest = std::min(lowest, SettledOf(queue));
  return lowest;
}

// Nothing at or behind a barrier may be taken before it.
Lsn PartitionQueues::TakeLimit() const {
  return barriers_.records.empty() ? kNoLimit : barriers_.records.front().lsn - 1;
}

bool PartitionQueues::IsBarrierReady() const {
  return !barriers_.records.empty() && !barriers_.is_aside &&
         SettledOfAll() + 1 >= barriers_.records.front().lsn;
}

}  // namespace taskwal::pipeline

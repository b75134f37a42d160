#include "pipeline/flush/log_feeder.h"

#include <algorithm>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/error_hook.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

constexpr auto kSyncWait = std::chrono::seconds(1);
constexpr auto kFailurePause = std::chrono::milliseconds(100);
constexpr std::chrono::milliseconds kCatchUpPoll{20};
constexpr std::size_t kFrameBytesKept = 4u << 20;

// What counts of a frame is in the queues. One of many MiB must not be held once more while nothing
// is read.
void ForgetLarge(wal::Frame* frame) {
  if (frame->raw.capacity() > kFrameBytesKept) *frame = {};
}

}  // namespace

std::vector<LsnRange> LostIn(const wal::Frame& frame, const wal::TailEvent& event) {
  std::vector<LsnRange> lost;
  const auto add = [&](Lsn from, Lsn to) {
    if (!lost.empty() && lost.back().to + 1 == from) {
      lost.back().to = to;
    } else if (from <= to) {
      lost.push_back({from, to});
    }
  };
  Lsn next = event.from;
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event.from || record.lsn > event.to) continue;
    if (record.header.type == wal::kLostRecord) add(record.lsn, record.lsn);
    next = record.lsn + 1;
  }
  // The checksum passed and the records do not: nothing behind can be read, and none of it may
  // vanish.
  if (!records.ok()) add(next, event.to);
  return lost;
}

LogFeeder::LogFeeder(wal::Log& log, PartitionQueues& queues, DeadLetters& letters,
                     FlushCounters& counters, Clock& clock, const Options& options,
                     const FlushTarget& target)
    : log_(log),
      queues_(queues),
      letters_(letters),
      counters_(counters),
      clock_(clock),
      target_(target),
      options_(options),
      linger_(std::min(options.flush_linger, options.flush_interval)),
      due_records_(options.max_buffer_size) {}

void LogFeeder::Start(const LogIdentity& identity, Lsn settled) {
  identity_ = identity;
  if (!settled_at_start_) settled_at_start_ = settled;
  // New readers: only they know all names the log has had.
  reader_.reset(new wal::TailReader(log_.Tail(queues_.next_lsn())));
  late_reader_.reset();
  passed_ = std::max(passed_, queues_.next_lsn() - 1);
}

bool LogFeeder::Step() {
  seen_change_ = queues_.change();
  const bool has_caught_up = CatchUpStep();
  return ReadStep() || has_caught_up;
}

bool LogFeeder::ReadStep() {
  if (queues_.is_blocked()) return false;
  const Lsn next = queues_.next_lsn();
  // Never beyond what is durable: were rows of records that a power cut takes away in the database,
  // the watermark would skip new records with the same LSNs.
  if (log_.durable_lsn() < next) AskForSync(next);
  // After a failure in the middle of a frame it is read again.
  if (reader_->position() != next) reader_->SeekTo(next);
  auto event = reader_->Next(log_.durable_lsn(), &frame_);
  if (!event.ok()) return Failed(event.status());
  if (event->kind == wal::TailEvent::Kind::kEnd) return false;
  const bool is_loss = event->kind == wal::TailEvent::Kind::kLoss;
  const Status taken = is_loss ? Declare({event->loss}, event->detail) : TakeFrame(*event);
  if (!taken.ok()) return Failed(taken);
  const Lsn last = is_loss ? event->loss.to : event->to;
  passed_ = std::max(passed_, last);
  CountLate(last + 1, {});
  queues_.AdvanceTo(last + 1);
  ForgetLarge(&frame_);
  counters_.ClearAlarm(FlushCounters::kReader);
  return true;
}

Lsn LogFeeder::BooksBegin() const {
  return std::max(settled_at_start_.value_or(0), regained_to_.load());
}

void LogFeeder::AskForSync(Lsn next) {
  const Lsn awaited = std::min(queues_.awaited_lsn(), log_.end_lsn());
  const Lsn target = std::max(awaited, log_.written_lsn());
  if (target < next) return;
  const Monotonic now = clock_.Now();
  const bool is_due = awaited >= next || now >= sync_due_ || target - next + 1 >= due_records_;
  if (!is_due) return;
  const Status synced = log_.WaitDurable(target, {now + kSyncWait, {}});
  IgnoreStatus(synced, "the log's own health tells; what is durable is read on");
  sync_due_ = clock_.Now() + linger_;
}

bool LogFeeder::IsOurs(const wal::RecordView& record) const {
  return record.header.target == target_.number || record.header.target == wal::kEveryTarget;
}

Status LogFeeder::TakeFrame(const wal::TailEvent& event) {
  const std::vector<LsnRange> lost = LostIn(frame_, event);
  if (!lost.empty()) TASKWAL_TRY(Declare(lost, "not in the log: a failed sync took it"));
  const Monotonic now = clock_.Now();
  Met met;
  counters_.Transfer([&] { met = Meet(event, now); });
  Release(met.released, met.released_bytes);
  return Status::Ok();
}

// What is offered again, after a setback of the database or a full queue, is no new record: the
// queues know.
LogFeeder::Met LogFeeder::Meet(const wal::TailEvent& event, Monotonic now) {
  Met met;
  const std::uint64_t unsettled = queues_.Unsettled();
  wal::FrameRecords records(frame_.header, frame_.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event.from || record.lsn > event.to) continue;
    // Below, `accepted` has the records alone.
    const bool is_new = record.lsn > std::max(passed_, BooksBegin());
    if (record.header.type == wal::kVoidRecord && is_new) ++met.voids;
    if (record.header.type < wal::kFirstUserType || !IsOurs(record)) continue;
    if (record.lsn > BooksBegin()) {
      Offer(record, now, &met);
      continue;
    }
    const std::uint64_t before = queues_.Unsettled() + met.found + met.found_lettered;
    Offer(record, now, &met);
    met.regained += queues_.Unsettled() + met.found + met.found_lettered - before;
  }
  counters_.Update([&](FlusherStats& stats) {
    stats.voids += met.voids;
    stats.read += queues_.Unsettled() + met.found + met.found_lettered - unsettled;
    stats.regained += met.regained;
    stats.applied += met.found;
    stats.already_there += met.found;
    stats.dead_lettered += met.found_lettered;
  });
  return met;
}

void LogFeeder::Offer(const wal::RecordView& record, Monotonic now, Met* met) {
  if (queues_.Offer(record, now) != PartitionQueues::Offered::kFoundSettled) return;
  const bool is_lettered =
      letters_.Contains({identity_.OwnerOf(record.lsn), record.lsn, target_.number});
  ++(is_lettered ? met->found_lettered : met->found);
  const bool is_shared = record.header.target == wal::kEveryTarget;
  if (is_shared && target_.is_last && !target_.is_last(record.lsn)) return;
  ++met->released;
  met->released_bytes += record.body.size();
}

void LogFeeder::Release(std::uint64_t records, std::uint64_t bytes) const {
  if (target_.gauge != nullptr && records > 0) target_.gauge->OnSettled(records, bytes);
}

Status LogFeeder::Declare(const std::vector<LsnRange>& lost, const std::string& detail) {
  DeadLetter letter;
  letter.kind = DeadLetter::Kind::kLoss;
  letter.error = detail;
  letter.first_failed = clock_.WallNow();
  letter.last_failed = letter.first_failed;
  for (const LsnRange& range : lost) {
    letter.wal_id = identity_.OwnerOf(range.from);
    letter.lsns = range;
    // Crash behind it: declared, and declared again by the next reader, which changes nothing.
    TASKWAL_TRY(letters_.Add(letter));
    // Noted as applied by a batch that a crash cut off.
    TASKWAL_TRY(letters_.VoidClears(range, [&](const std::string& task, Lsn lsn) {
      const std::uint64_t key = storage::KeyOf(task);
      return queues_.HasMissed(key, lsn) && (!target_.is_home || target_.is_home(key));
    }));
  }
  for (const LsnRange& range : lost) CountLost(range);
  return Status::Ok();
}

void LogFeeder::CountLost(const LsnRange& range) {
  // What was passed before may have been brought then: the queues know how much of it was not.
  const LsnRange fresh = {std::max(range.from, passed_ + 1), range.to};
  const LsnRange regained = {fresh.from, std::min(fresh.to, BooksBegin())};
  bool is_known = false;
  counters_.Update([&](FlusherStats& stats) {
    auto& losses = stats.losses;
    stats.lost += fresh.count();
    stats.lost_unread += fresh.count();
    stats.regained += regained.count();
    is_known = std::any_of(losses.begin(), losses.end(), [&](const LsnRange& known) {
      return known.from <= range.from && range.to <= known.to;
    });
    if (is_known) return;
    if (!losses.empty() && losses.back().to + 1 == range.from) {
      losses.back().to = range.to;
    } else {
      losses.push_back(range);
    }
  });
  // Every target's reader meets it.
  const bool is_last = !target_.is_last || target_.is_last(fresh.from);
  if (is_last) Release(fresh.count(), 0);
  if (!is_known) Logger().error("flusher event=records_lost from={} to={}", range.from, range.to);
}

void LogFeeder::CountLate(Lsn next, std::optional<Lsn> late_from) {
  std::uint64_t lost = 0;
  counters_.Transfer([&] {
    lost = queues_.TakeLost(next, late_from);
    if (lost > 0) counters_.Update([&](FlusherStats& stats) { stats.lost += lost; });
  });
  Release(lost, 0);
}

bool LogFeeder::CatchUpStep() {
  const auto from = queues_.CatchUpFrom();
  if (!from) return false;
  if (!late_reader_) late_reader_.reset(new wal::TailReader(log_.Tail(*from)));
  if (late_reader_->position() != *from) late_reader_->SeekTo(*from);
  // Everything below the reader's position is durable and has been offered once.
  auto event = late_reader_->Next(queues_.next_lsn() - 1, &late_frame_);
  if (!event.ok()) return Failed(event.status());
  if (event->kind == wal::TailEvent::Kind::kEnd) {
    AdvanceLate(*from, queues_.next_lsn() - 1);
    return true;
  }
  if (event->kind == wal::TailEvent::Kind::kLoss) {
    // Damaged since it was first read, or declared then.
    const Status declared = Declare({event->loss}, event->detail);
    if (!declared.ok()) return Failed(declared);
    AdvanceLate(*from, event->loss.to);
    return true;
  }
  const Monotonic now = clock_.Now();
  wal::FrameRecords records(late_frame_.header, late_frame_.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event->from || record.lsn > event->to) continue;
    if (record.header.type < wal::kFirstUserType || !IsOurs(record)) continue;
    queues_.OfferLate(*from, record, now);
  }
  AdvanceLate(*from, event->to);
  ForgetLarge(&late_frame_);
  return true;
}

void LogFeeder::AdvanceLate(Lsn from, Lsn to) {
  CountLate(to + 1, from);
  queues_.AdvanceLate(from, to);
}

bool LogFeeder::Failed(const Status& status) {
  retry_at_ = clock_.Now() + kFailurePause;
  if (counters_.RaiseAlarm(FlushCounters::kReader, status.message())) {
    Logger().error("flusher event=reading_stopped error=\"{}\"", status.ToString());
    TellError(options_, {"reader", "", 0, status.message()});
  }
  return false;
}

void LogFeeder::WaitForMore(std::chrono::milliseconds longest, const std::stop_token& stop) {
  if (stop.stop_requested()) return;
  const Monotonic now = clock_.Now();
  if (now < retry_at_) return queues_.WaitForChange(seen_change_, retry_at_ - now);
  if (queues_.has_left_behind()) {
    return queues_.WaitForChange(seen_change_, std::min(longest, kCatchUpPoll));
  }
  if (queues_.is_blocked()) return queues_.WaitForChange(seen_change_, longest);
  const Lsn next = queues_.next_lsn();
  if (log_.durable_lsn() >= next) return;
  if (log_.written_lsn() >= next) {
    return queues_.WaitForChange(seen_change_, sync_due_ - now);
  }
  if (log_.WaitForMore(next - 1, {now + longest, stop})) return;
  if (stop.stop_requested()) return;
  // A log that is closed or broken answers at once.
  queues_.WaitForChange(seen_change_, now + longest - clock_.Now());
}

}  // namespace taskwal::pipeline

#include "pipeline/flush/log_feeder.h"

#include <algorithm>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/error_hook.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

constexpr auto kSyncWait = std::chrono::seconds(1);
constexpr auto kFailurePause = std::chrono::milliseconds(100);
constexpr std::chrono::milliseconds kCatchUpPoll{20};

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
                     std::uint16_t target)
    : log_(log),
      queues_(queues),
      letters_(letters),
      counters_(counters),
      clock_(clock),
      target_(target),
      end_at_open_(log.end_lsn()),
      options_(options),
      linger_(std::min(options.flush_linger, options.flush_interval)),
      due_records_(options.max_buffer_size) {}

void LogFeeder::Start(const LogIdentity& identity) {
  identity_ = identity;
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
  CountLate(queues_.TakeLost(last + 1));
  queues_.AdvanceTo(last + 1);
  counters_.ClearAlarm(FlushCounters::kReader);
  return true;
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
  return record.header.target == target_ || record.header.target == wal::kEveryTarget;
}

Status LogFeeder::TakeFrame(const wal::TailEvent& event) {
  const std::vector<LsnRange> lost = LostIn(frame_, event);
  if (!lost.empty()) TASKWAL_TRY(Declare(lost, "not in the log: a failed sync took it"));
  const Monotonic now = clock_.Now();
  std::uint64_t voids = 0;
  std::uint64_t others = 0;
  wal::FrameRecords records(frame_.header, frame_.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event.from || record.lsn > event.to) continue;
    const bool is_void = record.header.type == wal::kVoidRecord;
    const bool is_user = record.header.type >= wal::kFirstUserType;
    if (is_user && IsOurs(record)) {
      Offer(record, now);
    } else if ((is_void || is_user) && record.lsn > passed_) {
      voids += is_void ? 1 : 0;
      others += record.lsn <= end_at_open_ ? 1 : 0;
    }
  }
  if (voids + others > 0) {
    counters_.Update([&](FlusherStats& stats) {
      stats.voids += voids;
      stats.others += others;
    });
  }
  return Status::Ok();
}

void LogFeeder::Offer(const wal::RecordView& record, Monotonic now) {
  if (queues_.Offer(record, now) != PartitionQueues::Offered::kFoundSettled) return;
  const bool is_lettered = letters_.Contains({identity_.OwnerOf(record.lsn), record.lsn, target_});
  counters_.Update([&](FlusherStats& stats) {
    if (is_lettered) {
      ++stats.dead_lettered;
    } else {
      ++stats.applied;
      ++stats.already_there;
    }
  });
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
  }
  for (const LsnRange& range : lost) CountLost(range);
  return Status::Ok();
}

void LogFeeder::CountLost(const LsnRange& range) {
  // What was passed before may have been brought then: the queues know how much of it was not.
  const LsnRange fresh = {std::max(range.from, passed_ + 1), range.to};
  bool is_known = false;
  counters_.Update([&](FlusherStats& stats) {
    auto& losses = stats.losses;
    stats.lost += fresh.count();
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
  if (!is_known) Logger().error("flusher event=records_lost from={} to={}", range.from, range.to);
}

void LogFeeder::CountLate(std::uint64_t lost) {
  if (lost > 0) counters_.Update([&](FlusherStats& stats) { stats.lost += lost; });
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
  return true;
}

void LogFeeder::AdvanceLate(Lsn from, Lsn to) {
  CountLate(queues_.TakeLost(to + 1, from));
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

void LogFeeder::WaitForMore(std::chrono::milliseconds longest) {
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
  if (log_.WaitForMore(next - 1, {now + longest, {}})) return;
  // A log that is closed or broken answers at once.
  queues_.WaitForChange(seen_change_, now + longest - clock_.Now());
}

}  // namespace taskwal::pipeline

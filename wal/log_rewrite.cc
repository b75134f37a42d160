// LogWriter after a failed write or sync. The kernel has told of the loss once and marked the pages
// clean: a second fdatasync would say OK for data that is gone (PostgreSQL 2018; ATC '20). So the
// file is condemned, and whatever is not known to be durable is written again, to a fresh segment
// that starts right behind the durable position: from the ring, or, where the ring has given the
// space back (level `process`), from the condemned file, its checksums deciding.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "wal/direct_writer.h"
#include "wal/log_directory.h"
#include "wal/log_writer.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {

namespace {

constexpr int kReadTries = 4;

}  // namespace

Status LogWriter::RewriteAfterFailure() {
  if (is_rewriting_) {
    while (is_rewriting_) lanes_idle_.Wait(mutex_);
    return broken_;
  }
  if (!broken_.ok()) return broken_;
  is_rewriting_ = true;
  while (busy_lanes_ > 0 || is_rolling_) lanes_idle_.Wait(mutex_);
  const Lsn from = durable_lsn() + 1;
  const Lsn to = cursor_.next_lsn - 1;
  const RingPosition released = ring_->released();
  std::vector<std::uint64_t> numbers;
  for (const OpenSegment& segment : open_) numbers.push_back(segment.file->number());
  std::uint64_t number = next_number_;
  const std::uint64_t bytes = next_bytes_;
  const Status lacked = roll_status_;
  mutex_.Unlock();
  std::vector<LsnRange> lost;
  DirectWriter writer(
      fs_, config_.directory,
      [&](Lsn first_lsn, std::uint64_t frame_bytes) {
        return MakeSegment(number++, first_lsn, std::max(bytes, kSegmentHeaderBytes + frame_bytes));
      },
      {config_.frame_bytes, config_.index_keys}, from);
  const Status copied = CopyUnsynced(from, to, numbers, released, &writer, &lost);
  if (!copied.ok()) {
    for (const auto& segment : writer.TakeSegments()) GiveBackSpare(*segment);
  }
  if (copied.ok() && !lacked.ok() && on_space_) on_space_(copied);
  mutex_.Lock();
  next_number_ = number;
  is_rewriting_ = false;
  if (copied.ok()) {
    Logger().warn("event=log_rewritten from_lsn={} to_lsn={} lost={}", from, to, NoteLost(lost));
    AdoptRewritten(writer.TakeSegments(), to);
  } else {
    Break(Status::IoError("the log is read-only: rewriting LSN " + std::to_string(from) + " to " +
                          std::to_string(to) + " after a failed sync: " + copied.message()));
  }
  lanes_idle_.NotifyAll();
  return broken_;
}

Status LogWriter::CopyUnsynced(Lsn from, Lsn to, const std::vector<std::uint64_t>& segments,
                               const RingPosition& released, DirectWriter* writer,
                               std::vector<LsnRange>* lost) {
  Lsn next = from;
  if (next < released.next_lsn) {
    TASKWAL_TRY(CopyFromFiles(&next, released.next_lsn - 1, segments, writer, lost));
  }
  RingPosition at = released;
  RecordView record;
  std::uint8_t flags;
  RingPosition behind;
  while (next <= to) {
    TASKWAL_CHECK(ring_->Read(at, &record, &flags, &behind));
    at = behind;
    if (record.lsn < next) continue;
    if ((flags & kSlotLarge) != 0) {
      MutexLock lock(mutex_);
      const auto& [body, bytes] = large_.at(record.lsn);
      record.body = {body.get(), bytes};
    }
    TASKWAL_TRY(writer->Add(record));
    ++next;
  }
  return writer->Finish();
}

// What neither ring nor file holds any more is declared lost, so that the durable position can go
// on.
Status LogWriter::CopyFromFiles(Lsn* next, Lsn to, const std::vector<std::uint64_t>& segments,
                                DirectWriter* writer, std::vector<LsnRange>* lost) {
  const auto declare_lost = [&](Lsn below) -> Status {
    if (*next < below) lost->push_back({*next, below - 1});
    for (; *next < below; ++*next) {
      TASKWAL_TRY(writer->Add({*next, {kLostRecord, 0, 0, 0}, {}}));
    }
    return Status::Ok();
  };
  Frame frame;
  for (const std::uint64_t number : segments) {
    // What cannot be read is lost for good: worth more than one try.
    int tries_left = kReadTries;
    Result<std::unique_ptr<SegmentReader>> reader = Status::NotFound("not opened yet");
    while (*next <= to) {
      if (!reader.ok()) {
        if (tries_left-- == 0) break;
        reader = SegmentReader::Open(fs_, config_.directory, number, config_.wal_ids);
        continue;
      }
      const Result<SegmentEvent> event = (*reader)->Next(&frame);
      if (!event.ok()) {
        reader = event.status();
        continue;
      }
      if (event->kind == SegmentEvent::Kind::kEnd) break;
      if (event->kind != SegmentEvent::Kind::kFrame) continue;
      FrameRecords records(frame.header, frame.raw);
      for (RecordView record; records.Next(&record) && *next <= to;) {
        if (record.lsn < *next) continue;
        TASKWAL_TRY(declare_lost(std::min(record.lsn, to + 1)));
        if (*next > to) break;
        TASKWAL_TRY(writer->Add(record));
        ++*next;
      }
    }
  }
  return declare_lost(to + 1);
}

// Before the durable position passes them. How many they are.
std::uint64_t LogWriter::NoteLost(const std::vector<LsnRange>& lost) {
  std::uint64_t count = 0;
  for (const LsnRange& range : lost) count += range.count();
  figures_.lost += count;
  lost_.insert(lost_.end(), lost.begin(), lost.end());
  has_lost_.store(!lost_.empty(), std::memory_order_release);
  return count;
}

// The durable position passes what is lost: whoever waited for it must not take it for kept.
Status LogWriter::CheckKept(Lsn lsn) const {
  // Pairs with the store in NoteLost, by way of the durable position or without it.
  if (!has_lost_.load(std::memory_order_acquire)) [[likely]] return Status::Ok();
  MutexLock lock(mutex_);
  const bool is_lost = std::any_of(lost_.begin(), lost_.end(), [&](const LsnRange& range) {
    return range.from <= lsn && lsn <= range.to;
  });
  if (!is_lost) return Status::Ok();
  return Status::IoError("LSN " + std::to_string(lsn) +
                         " is lost: it was in no file and in no buffer after a failed sync");
}

void LogWriter::AdoptRewritten(std::vector<std::unique_ptr<SegmentFile>> segments, Lsn end) {
  // From here on the old files' frames beyond the durable position are void: the fresh segment's
  // first LSN says so. Whatever still had unsynced frames is left unsealed.
  for (const Entry& entry : entries_) entry.segment->failed.store(true, std::memory_order_release);
  const RingPosition ring_end = cursor_;
  first_serial_ += entries_.size();
  entries_.clear();
  written_count_ = released_count_ = 0;
  for (auto& segment : segments) open_.push_back({std::move(segment), 0, false});
  // A segment that could not be made before is not waited for any more.
  roll_status_ = Status::Ok();
  roll_retry_at_ = {};
  lacked_bytes_ = 0;
  written_lsn_.store(end, std::memory_order_release);
  durable_lsn_.store(end, std::memory_order_release);
  ReleaseUpTo(ring_end);
  room_.NotifyAll();
}

void LogWriter::Break(const Status& why) {
  if (!broken_.ok()) return;
  broken_ = why.code() == StatusCode::kIoError ? why : Status::IoError(why.message());
  Logger().error("event=log_read_only error=\"{}\"", broken_.message());
  is_broken_.store(true, std::memory_order_release);
  waiting_.WakeAll();
  more_written_.NotifyAll();
  room_.NotifyAll();
  lanes_idle_.NotifyAll();
}

}  // namespace taskwal::wal

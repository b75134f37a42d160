#include "pipeline/flush/backlog_count.h"

#include <algorithm>

#include "base/status_macros.h"
#include "pipeline/flush/log_feeder.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using Settled = std::map<std::uint16_t, Lsn>;

void Count(const wal::RecordView& record, const Settled& settled, BacklogCount* count) {
  const bool is_shared = record.header.target == wal::kEveryTarget;
  bool is_pending = false;
  for (const auto& [target, lsn] : settled) {
    if (record.lsn <= lsn || (!is_shared && record.header.target != target)) continue;
    ++count->by_target[target];
    is_pending = true;
  }
  if (!is_pending) return;
  ++count->records;
  count->bytes += record.body.size();
  if (is_shared) count->shared.push_back(record.lsn);
}

void CountFrame(const wal::Frame& frame, const wal::TailEvent& event, const Settled& settled,
                BacklogCount* count) {
  for (const wal::LsnRange& lost : LostIn(frame, event)) count->lost += lost.count();
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < event.from || record.lsn > event.to) continue;
    if (record.header.type >= wal::kFirstUserType) Count(record, settled, count);
  }
}

}  // namespace

Result<BacklogCount> CountBacklog(wal::Log& log, const Settled& settled, Lsn to) {
  Lsn first = to;
  for (const auto& [target, lsn] : settled) first = std::min(first, lsn);
  BacklogCount count;
  if (first >= to) return count;
  wal::TailReader reader = log.Tail(first + 1);
  for (wal::Frame frame; reader.position() <= to;) {
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(to, &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) break;
    if (event.kind == wal::TailEvent::Kind::kLoss) {
      count.lost += event.loss.count();
    } else {
      CountFrame(frame, event, settled, &count);
    }
  }
  return count;
}

}  // namespace taskwal::pipeline

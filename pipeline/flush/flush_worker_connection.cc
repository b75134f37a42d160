// How a worker comes to its connection, and what it asks over it before it goes on with what it has
// in hand.
#include <algorithm>
#include <utility>

#include "base/logging.h"
#include "pipeline/flush/flush_worker.h"

namespace taskwal::pipeline {

using wal::Lsn;

void FlushWorker::Disconnect() {
  setting_.connections.Withdraw(index_);
  TakeHanded();
  if (!session_) return;
  session_.reset();
  // Nobody has one to wait for.
  if (setting_.connections.Closed()) setting_.queues.Wake();
}

// Between two batches: none is in doubt then.
bool FlushWorker::HasOldConnection(Monotonic now) const {
  const auto longest = setting_.options.conn_max_lifetime;
  return session_ && longest.count() > 0 && batch_.empty() && now - connected_at_ > longest;
}

void FlushWorker::TakeHanded() {
  if (session_) return;
  WorkerConnection handed = setting_.connections.Take(index_);
  if (!handed.session) return;
  session_ = std::move(handed.session);
  connected_at_ = handed.opened_at;
}

void FlushWorker::ShareConnection() {
  TakeHanded();
  if (!session_ || !batch_.empty()) return;
  WorkerConnection own{std::move(session_), connected_at_};
  if (setting_.connections.HandOn(&own)) return setting_.queues.Wake();
  session_ = std::move(own.session);
}

// Where others have a connection and this worker gets none.
Monotonic FlushWorker::ConnectsAt() const {
  if (session_) return Monotonic::min();
  return setting_.connections.next_try(setting_.queues.awaited_lsn() > 0);
}

void FlushWorker::AskForConnection() {
  if (setting_.connections.Ask(index_)) setting_.queues.Wake();
}

void FlushWorker::HasOpened() {
  connected_at_ = setting_.clock.Now();
  if (setting_.connections.Opened(index_)) {
    Logger().info("flusher event=connections_suffice db={}", setting_.backend.name());
  }
  // Handed on while this one was opened.
  if (setting_.connections.Take(index_).session) setting_.connections.Closed();
}

// Where others have one it is no failure of the database, and no batch waits for the next try.
FlushWorker::Turn FlushWorker::RefusedConnection(const Status& why) {
  const Monotonic now = setting_.clock.Now();
  const auto refusal = setting_.connections.Refused(index_, now, retry_, random_);
  if (refusal == WorkerConnections::Refusal::kOfAll) return Failed(why);
  setting_.breaker.OnUntried(allowed_in_);
  looked_at_ = Monotonic::min();  // with the one it is handed, if there is nothing else to do
  CountError(why, true);
  setting_.counters.UpdateWorker(index_, [](WorkerSnapshot& worker) { ++worker.failures; });
  if (refusal == WorkerConnections::Refusal::kOfMore) {
    Logger().warn("flusher event=connections_shared db={} error=\"{}\"", setting_.backend.name(),
                  why.ToString());
  }
  setting_.queues.Wake();
  if (!parts_.empty()) Tell(EventOf(parts_.back(), why));
  return Turn::kPaused;
}

FlushWorker::Turn FlushWorker::Connect() {
  storage::Backend& backend = setting_.backend;
  // Before the question: what others commit meanwhile may only be found further on.
  const std::vector<Lsn> known = setting_.queues.stored();
  auto session = backend.Connect();
  if (!session.ok()) return RefusedConnection(session.status());
  const auto stamp = (*session)->HighestStamp();
  if (!stamp.ok()) return Failed(stamp.status());
  setting_.raise_stamp(*stamp);
  const auto row = (*session)->ReadLog(identity_.wal_id);
  if (!row.ok()) return Failed(row.status());
  const bool is_another = !backend.is_volatile() && backend.db_id() != identity_.db_id;
  const Turn turn = Judge(
      is_another ? Standing::kMeetAgain : Recheck(identity_.epoch, known, attempt_, *row));
  if (turn == Turn::kProgress) {
    session_ = std::move(session).value();
    HasOpened();
  }
  return turn;
}

// Over a connection that another worker had: what became of this one's attempt in doubt.
FlushWorker::Turn FlushWorker::Compare() {
  const std::vector<Lsn> known = setting_.queues.stored();
  const auto row = session_->ReadLog(identity_.wal_id);
  if (!row.ok()) return Failed(row.status());
  return Judge(Recheck(identity_.epoch, known, attempt_, *row));
}

// kProgress: the database is where this worker left it.
FlushWorker::Turn FlushWorker::Judge(Standing standing) {
  switch (standing) {
    case Standing::kMeetAgain:
      setting_.breaker.OnSuccess(setting_.clock.Now(), allowed_in_);
      return Turn::kMeetAgain;
    case Standing::kFenced:
      return Fence("log " + identity_.wal_id.ToString() + " was moved on by somebody else");
    case Standing::kCommitted:
      Settle(0);
      break;
    case Standing::kUnchanged:
      attempt_.clear();
  }
  return Turn::kProgress;
}

// One worker is enough; a database that forgets has confirmed nothing.
Monotonic FlushWorker::LookAt(Monotonic now) const {
  if (index_ > 0 || setting_.backend.is_volatile()) return Monotonic::max();
  const Monotonic at = looked_at_ + setting_.options.health_check_interval;
  const Monotonic trial = setting_.breaker.next_trial(std::max(at, now), false);
  return std::max({at, PausedUntil(), ConnectsAt(), trial});
}

// Nothing was to be done for a while: whether the database still has all that it confirmed. A
// failover may have cost it the last of that, and without a batch nobody would ask.
FlushWorker::Turn FlushWorker::Look(Monotonic now) {
  if (!setting_.breaker.Allow(now, false, &allowed_in_)) return Turn::kPaused;
  looked_at_ = now;
  const std::vector<Lsn> known = setting_.queues.stored();
  auto row = session_ ? session_->ReadLog(identity_.wal_id)
                      : Result<storage::LogRow>(Status::Unavailable("not connected"));
  // The connection may be all that is lost.
  if (!row.ok()) Disconnect();
  const Turn turn = row.ok() ? Judge(Recheck(identity_.epoch, known, attempt_, *row)) : Connect();
  if (turn != Turn::kProgress) return turn;
  setting_.counters.Update([](FlusherStats& stats) { stats.database_available = true; });
  Recovered();
  return Turn::kIdle;
}

}  // namespace taskwal::pipeline

#include "tests/simulation/simulated_database.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace taskwal {
namespace {

using storage::ApplyResult;
using storage::Batch;

constexpr SimulatedThreads::Nanoseconds kMillisecond = 1'000'000;

bool IsPoison(const std::string& text) { return text.find("poison") != std::string::npos; }

}  // namespace

class SimulatedDatabase::Session final : public storage::Session {
 public:
  Session(SimulatedDatabase& database, std::unique_ptr<storage::Session> session)
      : database_(database), session_(std::move(session)), generation_(database.generation_) {}

  Result<ApplyResult> Apply(const Batch& batch) override {
    gives_way_ = false;
    return database_.Apply(generation_, batch, &gives_way_);
  }
  [[nodiscard]] bool HasGivenWay() const override { return gives_way_; }
  Result<storage::LogRow> ReadLog(const Uuid& wal_id) override {
    return Ask([&] { return session_->ReadLog(wal_id); });
  }
  Result<storage::LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                      std::span<const storage::Lsn> start) override {
    return Ask([&] {
      return database_.Register({{}, wal_id, epoch, {start.begin(), start.end()}});
    });
  }
  Status Ping() override {
    return Ask([&] { return session_->Ping(); });
  }
  Result<StoredTask> GetTask(std::string_view id) override {
    return Ask([&] { return session_->GetTask(id); });
  }
  Result<TaskPage> QueryTasks(const TaskQuery& query) override {
    return Ask([&] { return session_->QueryTasks(query); });
  }
  Result<TaskPage> ResumableTasks(const Paging& paging) override {
    return Ask([&] { return session_->ResumableTasks(paging); });
  }
  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override {
    return Ask([&] { return session_->QueryActivities(query); });
  }
  Result<StoredCounts> Count() override {
    return Ask([&] { return session_->Count(); });
  }
  Result<std::uint64_t> HighestStamp() override {
    return Ask([&] { return session_->HighestStamp(); });
  }
  Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                            std::string_view after,
                                            std::uint32_t limit) override {
    return Ask([&] { return session_->OldTasks(before, statuses, after, limit); });
  }
  Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                    std::span<const TaskStatus> statuses) override {
    return Ask([&] { return session_->DeleteTasks(ids, before, statuses); });
  }
  Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override {
    return Ask([&] { return session_->DeleteOldActivities(before, limit); });
  }

 private:
  template <typename Call>
  auto Ask(Call&& call) -> decltype(call()) {
    TASKWAL_TRY(database_.Reach(generation_));
    if (database_.Happens(database_.odds_.question_fails)) {
      database_.coverage_.Note(Seen::kFailedQuestion);
      return Status::Unavailable("simulated: the connection was lost");
    }
    if (database_.Happens(database_.odds_.question_throws)) {
      database_.coverage_.Note(Seen::kDriverThrew);
      throw std::runtime_error("simulated: the driver threw");
    }
    const SimulatedThreads::Alone alone;
    return call();
  }

  SimulatedDatabase& database_;
  const std::unique_ptr<storage::Session> session_;
  const std::uint64_t generation_;
  bool gives_way_ = false;
};

class SimulatedDatabase::Backend final : public storage::Backend {
 public:
  explicit Backend(SimulatedDatabase& database) : database_(database) {}

  [[nodiscard]] std::string_view kind() const override { return "simulated"; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::uint32_t writers_max() const override { return 4; }
  [[nodiscard]] bool is_volatile() const override { return false; }
  Result<std::unique_ptr<storage::Session>> Connect() override {
    TASKWAL_TRY(database_.Reach(database_.generation_));
    if (database_.Happens(database_.odds_.connect_fails)) {
      database_.coverage_.Note(Seen::kNoConnection);
      return Status::Unavailable("simulated: connection refused");
    }
    if (database_.Happens(database_.odds_.question_throws)) {
      database_.coverage_.Note(Seen::kDriverThrew);
      throw std::runtime_error("simulated: the driver threw");
    }
    const SimulatedThreads::Alone alone;
    TASKWAL_ASSIGN(auto session, database_.data_->Connect());
    return std::unique_ptr<storage::Session>(
        std::make_unique<Session>(database_, std::move(session)));
  }
  [[nodiscard]] Uuid db_id() const override { return database_.db_id_; }

 private:
  SimulatedDatabase& database_;
  const std::string name_ = "simulated:";
};

std::unique_ptr<storage::Backend> SimulatedDatabase::Open() {
  return std::make_unique<Backend>(*this);
}

void SimulatedDatabase::SetOdds(const Odds& odds) {
  odds_ = odds;
  down_until_ = 0;
}

Status SimulatedDatabase::Reach(std::uint64_t session_generation) {
  SimulatedThreads& threads = *SimulatedThreads::current();
  if (Happens(odds_.hangs)) {
    coverage_.Note(Seen::kHungDatabase);
    threads.Sleep(timeout_);
    return Status::Unavailable("simulated: no answer by the deadline");
  }
  if (Happens(odds_.slow)) {
    coverage_.Note(Seen::kSlowDatabase);
    threads.Sleep(static_cast<SimulatedThreads::Nanoseconds>(random_.Below(200)) * kMillisecond);
  } else {
    threads.Preempt();
  }
  if (Happens(odds_.restarts)) {
    coverage_.Note(Seen::kDatabaseRestart);
    ++generation_;
  }
  if (Happens(odds_.fails_over)) FailOver();
  if (Happens(odds_.goes_down)) {
    down_until_ = threads.now() + static_cast<SimulatedThreads::Nanoseconds>(
                                      1 + random_.Below(5000)) * kMillisecond;
  }
  if (is_away_ || threads.now() < down_until_) {
    coverage_.Note(Seen::kDatabaseDown);
    return Status::Unavailable("simulated: the database is down");
  }
  if (session_generation != generation_) {
    return Status::Unavailable("simulated: the database was restarted");
  }
  return Status::Ok();
}

Result<ApplyResult> SimulatedDatabase::Apply(std::uint64_t session_generation, const Batch& batch,
                                             bool* gives_way) {
  TASKWAL_TRY(Reach(session_generation));
  if (random_.OneIn(4)) LandLateCommits();
  Fault fault = Fault::kNone;
  if (Happens(odds_.apply_fails)) fault = static_cast<Fault>(1 + random_.Below(7));
  *gives_way = fault == Fault::kDeadlock;
  Result<ApplyResult> result = fault == Fault::kNone ? Commit(batch) : Fail(fault, batch);
  SimulatedThreads::current()->Preempt();
  return result;
}

Result<ApplyResult> SimulatedDatabase::Fail(Fault fault, const Batch& batch) {
  const Status lost = Status::InDoubt("simulated: the connection was lost", 0);
  switch (fault) {
    case Fault::kNone:
    case Fault::kUnavailable:
      coverage_.Note(Seen::kDatabaseDown);
      return Status::Unavailable("simulated: too many connections");
    case Fault::kDeadlock:
      coverage_.Note(Seen::kDeadlock);
      return Status::Unavailable("simulated: deadlock detected (40P01)");
    case Fault::kLostBefore:
      coverage_.Note(Seen::kLostBefore);
      return lost;
    case Fault::kLostAfter:
      coverage_.Note(Seen::kLostAfter);
      TASKWAL_TRY(Commit(batch).status());
      return lost;
    case Fault::kLate:
      late_.push_back(batch);
      return lost;
    case Fault::kThrows:
      coverage_.Note(Seen::kDriverThrew);
      throw std::runtime_error("simulated: the driver threw");
    case Fault::kThrowsAfter:
      coverage_.Note(Seen::kDriverThrew);
      TASKWAL_TRY(Commit(batch).status());
      throw std::runtime_error("simulated: the driver threw");
  }
  return lost;
}

bool SimulatedDatabase::IsRefused(const Batch& batch) const {
  // Rows that move from one database to another have been taken before.
  if (takes_poison_ || batch.moves.empty()) return false;
  const auto is_bad_task = [](const storage::TaskChange& change) {
    if (change.kind == storage::TaskChange::Kind::kPatch) return IsPoison(change.patch.error);
    return IsPoison(change.task.node_id) || IsPoison(change.task.error);
  };
  const auto is_bad_activity = [](const Batch::ActivityRow& row) {
    return IsPoison(row.activity.message);
  };
  return std::any_of(batch.tasks.begin(), batch.tasks.end(), is_bad_task) ||
         std::any_of(batch.activities.begin(), batch.activities.end(), is_bad_activity);
}

Result<ApplyResult> SimulatedDatabase::Commit(const Batch& batch) {
  const SimulatedThreads::Alone alone;
  if (IsRefused(batch)) {
    coverage_.Note(Seen::kRejectedBatch);
    return Status::Rejected("simulated: constraint failed (SQL 23514)");
  }
  SettleLateMoves(batch);
  if (session_ == nullptr) {
    TASKWAL_ASSIGN(session_, data_->Connect());
  }
  const auto is_known = [&](const Batch::ActivityRow& row) {
    return activity_ids_.contains(row.activity.id);
  };
  const auto& activities = batch.activities;
  if (!batch.idempotent && std::any_of(activities.begin(), activities.end(), is_known)) {
    coverage_.Note(Seen::kRepeatAsked);
    return ApplyResult{ApplyResult::Outcome::kRepeatIdempotent, 0};
  }
  TASKWAL_ASSIGN(const ApplyResult result, session_->Apply(batch));
  if (result.outcome == ApplyResult::Outcome::kWatermarkMoved) {
    coverage_.Note(Seen::kWatermarkMoved);
  }
  if (result.outcome != ApplyResult::Outcome::kApplied) return result;
  Batch brought = batch;
  for (const auto& row : activities) {
    if (on_repeat_ && is_known(row)) on_repeat_(row);
  }
  std::erase_if(brought.activities, is_known);
  for (const auto& row : brought.activities) activity_ids_.insert(row.activity.id);
  if (on_commit_) on_commit_(brought);
  history_.push_back({std::move(brought), {}, 0, {}});
  return result;
}

Result<storage::LogRow> SimulatedDatabase::Register(const Change& registration) {
  if (session_ == nullptr) {
    TASKWAL_ASSIGN(session_, data_->Connect());
  }
  TASKWAL_ASSIGN(auto row, session_->RegisterLog(registration.wal_id, registration.epoch,
                                                 registration.start));
  history_.push_back(registration);
  return row;
}

void SimulatedDatabase::FailOver() {
  constexpr std::uint64_t kLackedMax = 40;
  if (history_.empty() || (may_fail_over_ && !may_fail_over_())) return;
  const SimulatedThreads::Alone alone;
  const std::uint64_t lacked =
      random_.Below(1 + std::min<std::uint64_t>(kLackedMax, history_.size() - 1));
  std::vector<Batch> undone;
  for (auto change = history_.end() - static_cast<std::ptrdiff_t>(lacked);
       change != history_.end(); ++change) {
    if (!change->batch) continue;
    for (const auto& row : change->batch->activities) activity_ids_.erase(row.activity.id);
    undone.push_back(*std::move(change->batch));
  }
  history_.resize(history_.size() - lacked);
  ++generation_;
  late_.clear();
  data_ = std::make_unique<storage::MemoryBackend>();
  auto session = data_->Connect();
  TASKWAL_CHECK(session.ok());
  session_ = std::move(session).value();
  for (const Change& change : history_) {
    const bool is_done =
        change.batch ? session_->Apply(*change.batch).ok()
                     : session_->RegisterLog(change.wal_id, change.epoch, change.start).ok();
    TASKWAL_CHECK(is_done);
  }
  coverage_.Note(Seen::kFailover);
  if (on_failover_) on_failover_(undone, history_.size() < moved_at_);
}

void SimulatedDatabase::LandLateCommits() {
  for (const Batch& batch : std::exchange(late_, {})) LandOrNot(batch);
}

// Rows that are moved have no watermark that decides. But a transaction in doubt holds its rows:
// whoever writes them waits until it is settled.
void SimulatedDatabase::SettleLateMoves(const Batch& before) {
  const auto is_written = [&](const storage::TaskChange& change) {
    return std::any_of(before.tasks.begin(), before.tasks.end(),
                       [&](const storage::TaskChange& other) { return other.id == change.id; });
  };
  const auto holds_rows = [&](const Batch& late) {
    return late.moves.empty() && (!before.dag_deletes.empty() ||
                                  std::any_of(late.tasks.begin(), late.tasks.end(), is_written));
  };
  const auto held = std::stable_partition(late_.begin(), late_.end(), std::not_fn(holds_rows));
  const std::vector<Batch> first(held, late_.end());
  late_.erase(held, late_.end());
  for (const Batch& batch : first) LandOrNot(batch);
}

void SimulatedDatabase::LandOrNot(const Batch& batch) {
  if (random_.OneIn(4)) return;  // the server noticed that nobody waits for it
  const auto landed = Commit(batch);
  const bool has_effect = landed.ok() && landed->outcome == ApplyResult::Outcome::kApplied;
  coverage_.Note(has_effect ? Seen::kLateCommit : Seen::kLateCommitInVain);
}

}  // namespace taskwal

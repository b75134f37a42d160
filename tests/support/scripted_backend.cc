#include "tests/support/scripted_backend.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace taskwal {

using storage::ApplyResult;
using storage::Batch;

constexpr std::string_view kGivesWayText = "scripted: deadlock detected";

// Every call takes a fresh session of the database that is there now.
class ScriptedBackend::Session final : public storage::Session {
 public:
  explicit Session(ScriptedBackend& backend) : backend_(backend) {}
  ~Session() override {
    MutexLock lock(backend_.mutex_);
    --backend_.open_;
  }

  Result<ApplyResult> Apply(const Batch& batch) override {
    auto result = backend_.Apply(batch);
    gives_way_ = result.status().message() == kGivesWayText;
    return result;
  }
  [[nodiscard]] bool HasGivenWay() const override { return gives_way_; }
  Result<storage::LogRow> ReadLog(const Uuid& wal_id) override {
    TASKWAL_TRY(backend_.Answer(Question::kReadLog));
    TASKWAL_ASSIGN(storage::LogRow row, backend_.Real()->ReadLog(wal_id));
    if (backend_.TakePast()) std::fill(row.watermarks.begin(), row.watermarks.end(), 0);
    return row;
  }
  Result<storage::LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                      std::span<const storage::Lsn> start) override {
    TASKWAL_TRY(backend_.Answer(Question::kRegisterLog));
    return backend_.Real()->RegisterLog(wal_id, epoch, start);
  }
  Result<std::uint64_t> HighestStamp() override {
    TASKWAL_TRY(backend_.Answer(Question::kHighestStamp));
    return backend_.Real()->HighestStamp();
  }
  Status Ping() override { return backend_.Real()->Ping(); }
  Result<StoredTask> GetTask(std::string_view id) override { return backend_.Real()->GetTask(id); }
  Result<TaskPage> QueryTasks(const TaskQuery& query) override {
    return backend_.Real()->QueryTasks(query);
  }
  Result<TaskPage> ResumableTasks(const Paging& paging) override {
    return backend_.Real()->ResumableTasks(paging);
  }
  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override {
    return backend_.Real()->QueryActivities(query);
  }
  Result<StoredCounts> Count() override { return backend_.Real()->Count(); }
  Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                            std::string_view after, std::uint32_t limit) override {
    return backend_.Real()->OldTasks(before, statuses, after, limit);
  }
  Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                    std::span<const TaskStatus> statuses) override {
    return backend_.Real()->DeleteTasks(ids, before, statuses);
  }
  Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override {
    return backend_.Real()->DeleteOldActivities(before, limit);
  }

 private:
  ScriptedBackend& backend_;
  bool gives_way_ = false;
};

ScriptedBackend::ScriptedBackend(storage::Backend& database) : database_(&database) {}

Result<std::unique_ptr<storage::Session>> ScriptedBackend::Connect() {
  MutexLock lock(mutex_);
  ++connects_;
  if (throwing_connections_ > 0) {
    --throwing_connections_;
    throw std::runtime_error("scripted: the driver threw");
  }
  if (refused_connections_ > 0) {
    if (refused_connections_ != UINT32_MAX) --refused_connections_;
    return refusal_;
  }
  if (open_ >= open_max_) return Status::Unavailable("scripted: too many connections");
  ++open_;
  return std::unique_ptr<storage::Session>(std::make_unique<Session>(*this));
}

Uuid ScriptedBackend::db_id() const {
  MutexLock lock(mutex_);
  return database_->db_id();
}

void ScriptedBackend::NextApplies(const std::vector<ApplyFault>& faults) {
  MutexLock lock(mutex_);
  faults_.assign(faults.begin(), faults.end());
}

void ScriptedBackend::RefuseConnections(std::uint32_t times, Status why) {
  MutexLock lock(mutex_);
  refused_connections_ = times;
  refusal_ = std::move(why);
}

void ScriptedBackend::LimitConnections(std::uint32_t open_max) {
  MutexLock lock(mutex_);
  open_max_ = open_max;
}

void ScriptedBackend::ThrowInConnect(std::uint32_t times) {
  MutexLock lock(mutex_);
  throwing_connections_ = times;
}

void ScriptedBackend::FailNext(Question question) {
  MutexLock lock(mutex_);
  failing_ = question;
}

void ScriptedBackend::AnswerFromThePast(std::uint32_t times) {
  MutexLock lock(mutex_);
  past_answers_ = times;
}

void ScriptedBackend::RejectTasks(std::function<bool(const storage::TaskChange&)> is_bad) {
  MutexLock lock(mutex_);
  is_bad_task_ = std::move(is_bad);
}

void ScriptedBackend::RejectActivities(std::function<bool(const Activity&)> is_bad) {
  MutexLock lock(mutex_);
  is_bad_activity_ = std::move(is_bad);
}

void ScriptedBackend::MindActivityIds() {
  MutexLock lock(mutex_);
  minds_activity_ids_ = true;
}

void ScriptedBackend::OnApply(std::function<void(const Batch&)> hook) {
  MutexLock lock(mutex_);
  on_apply_ = std::move(hook);
}

void ScriptedBackend::SwitchTo(storage::Backend& database) {
  MutexLock lock(mutex_);
  database_ = &database;
}

std::uint64_t ScriptedBackend::connects() const {
  MutexLock lock(mutex_);
  return connects_;
}

std::uint64_t ScriptedBackend::applies() const {
  MutexLock lock(mutex_);
  return applies_;
}

std::vector<ScriptedBackend::Committed> ScriptedBackend::committed() const {
  MutexLock lock(mutex_);
  return committed_;
}

Status ScriptedBackend::Answer(Question question) {
  MutexLock lock(mutex_);
  if (failing_ != question) return Status::Ok();
  failing_ = Question::kNone;
  return Status::Unavailable("scripted: no answer");
}

bool ScriptedBackend::TakePast() {
  MutexLock lock(mutex_);
  if (past_answers_ == 0) return false;
  --past_answers_;
  return true;
}

std::unique_ptr<storage::Session> ScriptedBackend::Real() {
  MutexLock lock(mutex_);
  auto session = database_->Connect();
  TASKWAL_CHECK(session.ok());
  return std::move(session).value();
}

ApplyFault ScriptedBackend::TakeFault() {
  MutexLock lock(mutex_);
  ++applies_;
  if (faults_.empty()) return ApplyFault::kNone;
  const ApplyFault fault = faults_.front();
  faults_.pop_front();
  return fault;
}

Result<ApplyResult> ScriptedBackend::Apply(const Batch& batch) {
  std::function<void(const Batch&)> hook;
  std::unique_ptr<Batch> late;
  {
    MutexLock lock(mutex_);
    hook = on_apply_;
    late = std::move(late_);
  }
  if (hook) hook(batch);
  if (late) TASKWAL_TRY(Commit(*late).status());
  switch (TakeFault()) {
    case ApplyFault::kNone:
      return Commit(batch);
    case ApplyFault::kUnavailable:
      return Status::Unavailable("scripted: the server is busy");
    case ApplyFault::kLostBefore:
      return Status::InDoubt("scripted: the connection was lost", 0);
    case ApplyFault::kLostAfter:
      TASKWAL_TRY(Commit(batch).status());
      return Status::InDoubt("scripted: the connection was lost", 0);
    case ApplyFault::kLate: {
      MutexLock lock(mutex_);
      late_ = std::make_unique<Batch>(batch);
      return Status::InDoubt("scripted: the connection was lost", 0);
    }
    case ApplyFault::kThrows:
      throw std::runtime_error("scripted: the driver threw");
    case ApplyFault::kThrowsAfter:
      TASKWAL_TRY(Commit(batch).status());
      throw std::runtime_error("scripted: the driver threw");
    case ApplyFault::kThrowsOddly:
      throw 42;  // NOLINT: what is no std::exception must be caught too
    case ApplyFault::kMoved:
      return ApplyResult{ApplyResult::Outcome::kWatermarkMoved, 0};
    case ApplyFault::kRepeat:
      return ApplyResult{ApplyResult::Outcome::kRepeatIdempotent, 0};
    case ApplyFault::kFenced:
      return Status::Fenced("scripted: a later opener has taken over");
    case ApplyFault::kGivesWay:
      return Status::Unavailable(std::string(kGivesWayText));
  }
  return Status::Unavailable("scripted: no such fault");
}

bool ScriptedBackend::IsRejected(const Batch& batch) {
  const bool has_bad_task =
      is_bad_task_ && std::any_of(batch.tasks.begin(), batch.tasks.end(), is_bad_task_);
  const bool has_bad_activity =
      is_bad_activity_ &&
      std::any_of(batch.activities.begin(), batch.activities.end(),
                  [&](const Batch::ActivityRow& row) { return is_bad_activity_(row.activity); });
  return has_bad_task || has_bad_activity;
}

Result<ApplyResult> ScriptedBackend::Commit(const Batch& batch) {
  {
    MutexLock lock(mutex_);
    if (IsRejected(batch)) return Status::Rejected("scripted: constraint failed (SQL 4711)");
    const bool has_known =
        minds_activity_ids_ && std::any_of(batch.activities.begin(), batch.activities.end(),
                                           [&](const Batch::ActivityRow& row) {
                                             return activity_ids_.contains(row.activity.id);
                                           });
    if (has_known && !batch.idempotent) {
      return ApplyResult{ApplyResult::Outcome::kRepeatIdempotent, 0};
    }
  }
  TASKWAL_ASSIGN(const ApplyResult result, Real()->Apply(batch));
  if (result.outcome != ApplyResult::Outcome::kApplied) return result;
  MutexLock lock(mutex_);
  for (const auto& row : batch.activities) activity_ids_.insert(row.activity.id);
  committed_.push_back({batch.moves, batch.tasks.size(), batch.activities.size(),
                        batch.dag_deletes.size(), batch.idempotent});
  return result;
}

}  // namespace taskwal

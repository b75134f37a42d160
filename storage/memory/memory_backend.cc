#include "storage/memory/memory_backend.h"

#include <algorithm>
#include <tuple>

#include "base/status_macros.h"
#include "storage/paging.h"

namespace taskwal::storage {
namespace {

using StoredTask = Session::StoredTask;

// Whether an operation comes after what the row holds.
bool IsNewer(const Uuid& wal_id, const Origin& origin, const StoredTask& row) {
  if (wal_id == row.wal_id) return origin.lsn > row.origin.lsn;
  return std::tie(origin.stamp, wal_id) > std::tie(row.origin.stamp, row.wal_id);
}

void Change(std::optional<Time>* field, const TimeChange& change) {
  if (change.kind == TimeChange::Kind::kSet) *field = change.value;
  if (change.kind == TimeChange::Kind::kClear) field->reset();
}

void ApplyPatch(const StatusPatch& patch, Task* task) {
  task->status = patch.status;
  task->error = patch.error;
  task->updated_at = patch.updated_at;
  Change(&task->started_at, patch.started_at);
  Change(&task->completed_at, patch.completed_at);
}

bool IsWithin(const std::optional<Time>& time, const std::optional<Time>& from,
              const std::optional<Time>& until) {
  return (!from || *time >= *from) && (!until || *time < *until);
}

template <typename T>
bool IsWanted(const std::optional<T>& wanted, const T& value) {
  return !wanted || *wanted == value;
}

bool Contains(std::span<const TaskStatus> statuses, TaskStatus status) {
  return std::find(statuses.begin(), statuses.end(), status) != statuses.end();
}

bool Matches(const TaskQuery& query, const Task& task) {
  return IsWanted(query.dag_id, task.dag_id) && IsWanted(query.node_id, task.node_id) &&
         (query.statuses.empty() || Contains(query.statuses, task.status)) &&
         IsWithin(task.created_at, query.created_from, query.created_until) &&
         IsWithin(task.updated_at, query.updated_from, query.updated_until);
}

bool Matches(const ActivityQuery& query, const Activity& activity) {
  return IsWanted(query.task_id, activity.task_id) && IsWanted(query.dag_id, activity.dag_id) &&
         IsWanted(query.node_id, activity.node_id) && IsWanted(query.action, activity.action) &&
         (!query.level_min || activity.level >= *query.level_min) &&
         IsWithin(activity.created_at, query.created_from, query.created_until);
}

// One page of `rows` (all that match, in any order); returns the token of the next.
template <typename Row>
std::string CutPage(const Paging& paging, const PageStart& start, std::vector<Row>* rows) {
  using Place = std::pair<Time, std::string_view>;
  const auto place = [](const Row& row) { return Place(*row.created_at, row.id); };
  const auto before = [&](Place a, Place b) { return paging.newest_first ? b < a : a < b; };
  if (start) std::erase_if(*rows, [&](const Row& row) { return !before(*start, place(row)); });
  std::sort(rows->begin(), rows->end(),
            [&](const Row& a, const Row& b) { return before(place(a), place(b)); });
  if (rows->size() <= paging.limit) return "";
  rows->resize(paging.limit);
  return MakePageToken(*rows->back().created_at, rows->back().id);
}

bool IsOld(const Task& task, Time before, std::span<const TaskStatus> statuses) {
  return *task.updated_at < before && Contains(statuses, task.status);
}

}  // namespace

class MemorySession final : public Session {
 public:
  explicit MemorySession(MemoryBackend& backend) : db_(backend) {}

  Result<ApplyResult> Apply(const Batch& batch) override {
    MutexLock lock(db_.mutex_);
    ApplyResult result;
    if (!MovesFit(batch)) {
      result.outcome = ApplyResult::Outcome::kWatermarkMoved;
      return result;
    }
    RecordProgress(batch);
    for (const auto& [dag_id, origin] : batch.dag_deletes) {
      std::erase_if(db_.tasks_, [&](const auto& entry) {
        return entry.second.task.dag_id == dag_id && IsNewer(batch.wal_id, origin, entry.second);
      });
    }
    for (const TaskChange& change : batch.tasks) ApplyTask(batch.wal_id, change);
    for (const auto& row : batch.activities) {
      if (!db_.activities_.try_emplace(row.activity.id, row.activity).second) ++result.duplicates;
    }
    return result;
  }

  Result<LogRow> ReadLog(const Uuid& wal_id) override {
    MutexLock lock(db_.mutex_);
    const auto log = db_.logs_.find(wal_id);
    return log == db_.logs_.end() ? LogRow() : log->second.row;
  }

  Result<LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                             std::span<const Lsn> start) override {
    MutexLock lock(db_.mutex_);
    auto [log, is_new] = db_.logs_.try_emplace(wal_id);
    LogRow& row = log->second.row;
    if (is_new) row.watermarks.assign(start.begin(), start.end());
    if (row.epoch > epoch) {
      return Status::Fenced("memory: a later opener of log " + wal_id.ToString() +
                            " has taken over (epoch " + std::to_string(row.epoch) + ", ours is " +
                            std::to_string(epoch) + ")");
    }
    row.epoch = epoch;
    return row;
  }

  Status Ping() override { return Status::Ok(); }

  Result<StoredTask> GetTask(std::string_view id) override {
    MutexLock lock(db_.mutex_);
    const auto row = db_.tasks_.find(id);
    if (row == db_.tasks_.end()) return Status::NotFound("no such task");
    return row->second;
  }

  Result<TaskPage> QueryTasks(const TaskQuery& query) override {
    return SelectTasks(query.paging, [&](const Task& task) { return Matches(query, task); });
  }

  Result<TaskPage> ResumableTasks(const Paging& paging) override {
    return SelectTasks(paging, [](const Task& task) {
      return task.status == TaskStatus::kRunning ||
             (task.status == TaskStatus::kFailed && task.retry_count < task.max_retries);
    });
  }

  Result<ActivityPage> QueryActivities(const ActivityQuery& query) override {
    TASKWAL_ASSIGN(const PageStart start, ParsePaging(query.paging));
    ActivityPage page;
    MutexLock lock(db_.mutex_);
    for (const auto& [id, activity] : db_.activities_) {
      if (Matches(query, activity)) page.activities.push_back(activity);
    }
    page.next_page = CutPage(query.paging, start, &page.activities);
    return page;
  }

  Result<StoredCounts> Count() override {
    MutexLock lock(db_.mutex_);
    StoredCounts counts;
    counts.tasks = db_.tasks_.size();
    counts.activities = db_.activities_.size();
    for (auto status = TaskStatus::kPending; status <= TaskStatus::kCancelled;
         status = static_cast<TaskStatus>(static_cast<int>(status) + 1)) {
      const auto count =
          std::count_if(db_.tasks_.begin(), db_.tasks_.end(),
                        [&](const auto& entry) { return entry.second.task.status == status; });
      counts.tasks_by_status.emplace_back(status, static_cast<std::uint64_t>(count));
    }
    return counts;
  }

  Result<std::uint64_t> HighestStamp() override {
    MutexLock lock(db_.mutex_);
    std::uint64_t highest = 0;
    for (const auto& [wal_id, log] : db_.logs_) highest = std::max(highest, log.stamp);
    return highest;
  }

  Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                            std::string_view after, std::uint32_t limit) override {
    const std::vector<TaskStatus> terminal = TerminalOf(statuses);
    MutexLock lock(db_.mutex_);
    std::vector<std::string> ids;
    for (auto row = db_.tasks_.upper_bound(after); row != db_.tasks_.end() && ids.size() < limit;
         ++row) {
      if (IsOld(row->second.task, before, terminal)) ids.push_back(row->first);
    }
    return ids;
  }

  Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                    std::span<const TaskStatus> statuses) override {
    const std::vector<TaskStatus> terminal = TerminalOf(statuses);
    MutexLock lock(db_.mutex_);
    std::uint64_t gone = 0;
    for (const std::string& id : ids) {
      const auto row = db_.tasks_.find(id);
      if (row == db_.tasks_.end() || !IsOld(row->second.task, before, terminal)) continue;
      db_.tasks_.erase(row);
      ++gone;
    }
    return gone;
  }

  Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override {
    MutexLock lock(db_.mutex_);
    return std::erase_if(db_.activities_, [&](const auto& entry) {
      if (limit == 0 || *entry.second.created_at >= before) return false;
      --limit;
      return true;
    });
  }

 private:
  bool MovesFit(const Batch& batch) REQUIRES(db_.mutex_) {
    if (batch.moves.empty()) return true;
    const auto log = db_.logs_.find(batch.wal_id);
    if (log == db_.logs_.end() || log->second.row.epoch != batch.epoch) return false;
    const std::vector<Lsn>& watermarks = log->second.row.watermarks;
    return std::all_of(batch.moves.begin(), batch.moves.end(), [&](const WatermarkMove& move) {
      return move.partition < watermarks.size() && watermarks[move.partition] == move.expected;
    });
  }

  void RecordProgress(const Batch& batch) REQUIRES(db_.mutex_) {
    const auto log = db_.logs_.find(batch.wal_id);
    if (log == db_.logs_.end()) return;
    for (const WatermarkMove& move : batch.moves) {
      log->second.row.watermarks[move.partition] = move.to;
    }
    std::uint64_t& stamp = log->second.stamp;
    for (const auto& deletion : batch.dag_deletes) stamp = std::max(stamp, deletion.origin.stamp);
    for (const TaskChange& change : batch.tasks) stamp = std::max(stamp, change.origin.stamp);
  }

  void ApplyTask(const Uuid& wal_id, const TaskChange& change) REQUIRES(db_.mutex_) {
    using Kind = TaskChange::Kind;
    const auto found = db_.tasks_.find(change.id);
    const bool exists = found != db_.tasks_.end();
    if (exists && change.open_only && IsTerminal(found->second.task.status)) return;
    if (exists && !IsNewer(wal_id, change.origin, found->second)) {
      HandInCreatedAt(wal_id, change, &found->second);
      return;
    }
    if (change.kind == Kind::kDelete) {
      if (exists) db_.tasks_.erase(found);
      return;
    }
    if (change.kind == Kind::kPatch) {
      if (!exists) return;
      ApplyPatch(change.patch, &found->second.task);
      found->second.wal_id = wal_id;
      found->second.origin = change.origin;
      return;
    }
    StoredTask row{change.task, wal_id, change.origin, change.created_rank};
    if (exists && change.kind == Kind::kPut) {
      const StoredTask& old = found->second;
      if (!TakesCreatedAt(change.created_rank, old.created_rank, wal_id == old.wal_id)) {
        row.task.created_at = old.task.created_at;
        row.created_rank = old.created_rank;
      }
    }
    db_.tasks_.insert_or_assign(change.id, std::move(row));
  }

  static void HandInCreatedAt(const Uuid& wal_id, const TaskChange& change, StoredTask* row) {
    const bool is_save = change.kind == TaskChange::Kind::kPut ||
                         change.kind == TaskChange::Kind::kReplace;
    if (!is_save) return;
    if (!HandsInCreatedAt(change.created_rank, row->created_rank, wal_id == row->wal_id)) return;
    row->task.created_at = change.task.created_at;
    row->created_rank = change.created_rank;
  }

  template <typename Wanted>
  Result<TaskPage> SelectTasks(const Paging& paging, Wanted wanted) {
    TASKWAL_ASSIGN(const PageStart start, ParsePaging(paging));
    TaskPage page;
    MutexLock lock(db_.mutex_);
    for (const auto& [id, row] : db_.tasks_) {
      if (wanted(row.task)) page.tasks.push_back(row.task);
    }
    page.next_page = CutPage(paging, start, &page.tasks);
    return page;
  }

  MemoryBackend& db_;
};

MemoryBackend::MemoryBackend() : db_id_(Uuid::Make()) {}

Result<std::unique_ptr<Session>> MemoryBackend::Connect() {
  return std::unique_ptr<Session>(std::make_unique<MemorySession>(*this));
}

}  // namespace taskwal::storage

#include "pipeline/targets/task_mover.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "storage/operation.h"

namespace taskwal::pipeline {
namespace {

using storage::TaskChange;
using StoredTask = storage::Session::StoredTask;

// A page is held in memory twice: as it was read, and as it is written.
constexpr std::size_t kPageBytes = 4u << 20;
constexpr std::uint32_t kPageMax = 500;
constexpr std::uint32_t kFirstPage = 16;

// Where a row goes, and whose guard it is written under.
struct Lot {
  std::uint16_t home = 0;
  Uuid wal_id;
  friend auto operator<=>(const Lot&, const Lot&) = default;
};

std::size_t BytesOf(const Task& task) {
  return sizeof task + task.payload.value_or("").size() + task.error.size();
}

storage::Batch BatchOf(const Uuid& wal_id, const std::vector<StoredTask>& rows,
                       TaskChange::Kind kind) {
  storage::Batch batch;
  batch.wal_id = wal_id;
  batch.idempotent = true;
  for (const StoredTask& row : rows) {
    TaskChange change;
    change.kind = kind;
    change.id = row.task.id;
    change.origin = row.origin;
    if (kind == TaskChange::Kind::kReplace) {
      change.task = row.task;
      change.created_rank = row.created_rank;
    } else {
      // Just above the row as it was copied: a newer one stays.
      ++change.origin.lsn;
    }
    batch.tasks.push_back(std::move(change));
  }
  std::sort(batch.tasks.begin(), batch.tasks.end(),
            [](const TaskChange& a, const TaskChange& b) { return a.id < b.id; });
  return batch;
}

class Mover {
 public:
  explicit Mover(const MoveOrder& order) : order_(order) {}

  Status Run() {
    for (const auto& [number, calls] : order_.databases) {
      TASKWAL_ASSIGN(const StoredCounts counts, calls->Count());
      all_ += counts.tasks;
    }
    for (const auto& [number, calls] : order_.databases) TASKWAL_TRY(Empty(number, *calls));
    return Status::Ok();
  }

 private:
  // Keeps the memory in bounds whatever the payloads are.
  void Fit(std::size_t bytes) {
    if (bytes > kPageBytes) {
      limit_ = std::max(limit_ / 2, 1u);
    } else if (bytes < kPageBytes / 4) {
      limit_ = std::min(limit_ * 2, kPageMax);
    }
  }

  // Everything that is at home in this database and will not be.
  Status Empty(std::uint16_t number, DatabaseCalls& calls) {
    TaskQuery query;
    for (;;) {
      if (order_.stop.stop_requested()) return Status::Unavailable("the rebalance was stopped");
      query.paging.limit = limit_;
      TASKWAL_ASSIGN(const TaskPage page, calls.QueryTasks(query));
      TASKWAL_TRY(MovePage(number, calls, page));
      seen_ += page.tasks.size();
      if (order_.on_progress) order_.on_progress(std::min(seen_, all_), all_, moved_);
      if (page.next_page.empty()) return Status::Ok();
      query.paging.after = page.next_page;
    }
  }

  Status MovePage(std::uint16_t number, DatabaseCalls& calls, const TaskPage& page) {
    std::map<Lot, std::vector<StoredTask>> lots;
    std::size_t bytes = 0;
    for (const Task& task : page.tasks) {
      bytes += BytesOf(task);
      const std::uint64_t key = storage::KeyOf(task.id);
      const std::uint16_t home = order_.to.Of(key);
      if (order_.from.Of(key) != number || home == number) continue;
      auto row = calls.GetTask(task.id);
      if (row.status().code() == StatusCode::kNotFound) continue;
      if (!row.ok()) return row.status();
      lots[{home, row->wal_id}].push_back(std::move(row).value());
    }
    Fit(bytes);
    for (const auto& [lot, rows] : lots) {
      DatabaseCalls& home = *order_.databases.at(lot.home);
      TASKWAL_TRY(home.Apply(BatchOf(lot.wal_id, rows, TaskChange::Kind::kReplace)).status());
      // Crash here: the tasks are in both, and their new home counts.
      TASKWAL_TRY(calls.Apply(BatchOf(lot.wal_id, rows, TaskChange::Kind::kDelete)).status());
      moved_ += rows.size();
    }
    return Status::Ok();
  }

  const MoveOrder& order_;
  std::uint32_t limit_ = kFirstPage;
  std::uint64_t all_ = 0, seen_ = 0, moved_ = 0;
};

}  // namespace

Status MoveTasks(const MoveOrder& order) { return Mover(order).Run(); }

}  // namespace taskwal::pipeline

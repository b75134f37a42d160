// Reading one's own writes: a task as the database's row with the log's unflushed records folded
// on. Any thread; no lock is held while log or database are read.
//
// The order of the looks makes it right without any lock: first the flushed position, then the log
// behind it, then the database. What is flushed between the first two shows in the row, whose LSN
// keeps it from being folded on twice; what is flushed later was found in the log.
#pragma once

#include <atomic>
#include <functional>
#include <string_view>
#include <vector>

#include "pipeline/database_calls.h"
#include "pipeline/flush/flusher.h"
#include "storage/operation.h"
#include "taskwal/status.h"
#include "taskwal/task.h"
#include "wal/log.h"

namespace taskwal::pipeline {

// Keys under which the log's index finds a record (LogOptions::index_keys): those of its tasks, and
// for the delete of a DAG one more that all of them share.
void IndexOperation(const wal::RecordView& record, std::vector<std::uint64_t>* keys);

class ReadOverlay {
 public:
  // Where a task lives. While tasks are being moved it may still be in the former place.
  struct Home {
    const Flusher* flusher = nullptr;
    DatabaseCalls* database = nullptr;
    DatabaseCalls* former = nullptr;  // null: nowhere else
    friend bool operator==(const Home&, const Home&) = default;
  };
  // By the task's key; any thread.
  using FindHome = std::function<Home(std::uint64_t key)>;

  // The log and what `find_home` leads to outlive it.
  ReadOverlay(wal::Log& log, FindHome find_home);

  // kNotFound; kUnavailable when the database is needed and away; kCorruption when a record that
  // may matter is damaged. A task saved without created_at while the database is away shows the
  // time of that save, since what the database has is not known.
  // `end`: of what the database is asked (see there), and of the wait for what is still to be
  // written to the log; by the machine's clock.
  Result<Task> GetTask(std::string_view id, const DatabaseCalls::End& end = {});
  // Whether the log holds a record of the task that is not in the database yet (or one of a task
  // with the same key).
  Result<bool> HasUnflushed(std::string_view id, const DatabaseCalls::End& end = {});
  // To be told of every delete of a DAG, before its call returns.
  void NoteDagDelete(wal::Lsn lsn);

 private:
  Result<Task> GetTaskIn(const Home& home, std::string_view id,
                         const DatabaseCalls::End& end);
  Result<std::vector<storage::Operation>> Collect(const Home& home, std::string_view id,
                                                  const DatabaseCalls::End& end);
  Result<std::vector<storage::Operation>> CollectFrom(wal::Lsn from, std::string_view id,
                                                      const DatabaseCalls::End& end);
  Status CollectDagDeletes(wal::Lsn from, std::vector<storage::Operation>* into,
                           const DatabaseCalls::End& end);

  wal::Log& log_;
  const FindHome find_home_;
  const std::uint32_t partitions_;
  // No delete of a DAG stands behind it. Starts at the log's end: what stood there at open counts.
  std::atomic<wal::Lsn> dag_deletes_until_;
};

// The task after `operations` (in LSN order, all of which concern it) on top of `task`.
std::optional<Task> Fold(std::optional<Task> task,
                         const std::vector<storage::Operation>& operations);

}  // namespace taskwal::pipeline

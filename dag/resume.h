// Finds out from the storage what an earlier run has done. Where nothing else is said a query waits
// until all that was acknowledged is in the database: an answer that lags would run a completed
// task again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::dag {

// What a run keeps about its file in its dag_started activity.
std::string RunPayload(std::string_view content_hash, std::string_view file);

// The dag_id of the run of that content which was started last; nothing when there was none.
Result<std::optional<std::string>> FindLastRun(TaskStorage& storage, std::string_view content_hash);

// Whether the database has a run of that id by now: it was started, or has rows. Waits for nothing.
Result<bool> IsKnownRun(TaskStorage& storage, std::string_view dag_id);

struct EarlierRun {
  bool is_started = false;               // has a dag_started
  bool is_finished = false;              // has a dag_completed
  std::string content_hash;              // of the file it was started with
  std::uint64_t rows = 0;
  std::unordered_set<std::string> completed;  // node ids
  // Of these, the ids of tasks whose rows do not say so yet: the run ended between the two calls.
  std::vector<std::string> to_complete;
};

Result<EarlierRun> LoadEarlierRun(TaskStorage& storage, std::string_view dag_id);

}  // namespace taskwal::dag

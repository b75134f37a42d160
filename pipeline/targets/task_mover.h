// Brings tasks to the home they have under other shares: row by row of the databases they leave,
// in bounded batches, first into the new home, then out of the old one. Safe to begin again after a
// crash at any point: what has been moved is not found any more, what is in both is written again,
// which changes nothing, and then deleted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <vector>

#include "pipeline/database_calls.h"
#include "pipeline/targets/home_table.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

struct MoveOrder {
  std::map<std::uint16_t, DatabaseCalls*> databases;  // by target, all that share tasks
  const HomeTable& from;
  const HomeTable& to;
  std::stop_token stop;
  std::function<void(std::uint64_t seen, std::uint64_t all, std::uint64_t moved)> on_progress;
};

// Rows that are not at home where they are found (another log's, say) stay. No flusher may write
// meanwhile. Errors: those of the databases; kUnavailable also when stopped.
Status MoveTasks(const MoveOrder& order);

}  // namespace taskwal::pipeline

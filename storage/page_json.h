// What queries answer as JSON: of the tool's `query --json` and of the daemon alike.
#pragma once

#include <string>

#include "taskwal/task_storage.h"

namespace taskwal::storage {

// {"tasks":[…],"next_page":"…"}; next_page is "" on the last page.
std::string TaskPageToJson(const TaskPage& page);
// {"activity":[…],"next_page":"…"}
std::string ActivityPageToJson(const ActivityPage& page);
// {"tasks":N,"activity":N,"tasks_by_status":{"pending":N,…}}
std::string CountsToJson(const StoredCounts& counts);

}  // namespace taskwal::storage

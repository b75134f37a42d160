// Filters and paging of queries as people write them: options of `taskwal query` and parameters of
// the daemon's URLs.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

struct QueryText {
  std::optional<std::string> dag, node, task, action;
  std::vector<std::string> statuses;
  std::string level;
  std::string from, until;  // RFC 3339, or an age such as "24h"
  Paging paging;
};

// kInvalidArgument: the message starts with the name of the filter ("status", "level", "from",
// "until").
Result<TaskQuery> ParseTaskQuery(const QueryText& text);
Result<ActivityQuery> ParseActivityQuery(const QueryText& text);

// RFC 3339, or an age such as "24h" (that long ago).
Result<Time> ParseTimeOrAge(std::string_view text);

}  // namespace taskwal::pipeline

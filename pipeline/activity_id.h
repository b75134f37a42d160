// Ids for activities that came without one: ULIDs, 26 characters that sort by the time they were
// made.
#pragma once

#include <array>
#include <string_view>

#include "base/random.h"
#include "taskwal/task.h"

namespace taskwal::pipeline {

using ActivityIdText = std::array<char, 26>;

// Fills `text` and returns it as a view; allocates nothing.
std::string_view MakeActivityId(Time now, Random& random, ActivityIdText* text);

}  // namespace taskwal::pipeline

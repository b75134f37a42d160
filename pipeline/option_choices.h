// Options that are one of a few words, as text.
#pragma once

#include <string_view>

#include "taskwal/control.h"
#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

std::string_view BackoffName(Backoff strategy);
// kInvalidArgument names the words there are.
Result<Overflow> ParseOverflow(std::string_view text);
Result<Backoff> ParseBackoff(std::string_view text);

}  // namespace taskwal::pipeline

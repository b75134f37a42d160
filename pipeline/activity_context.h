// What the thread's context scopes (taskwal/context.h) add to an activity.
#pragma once

#include <optional>
#include <string>

namespace taskwal::pipeline {

// Whether this thread has any fields: without them WithContext need not be asked.
bool HasContext();
// `data` with the thread's fields; nothing where `data` is no JSON, which the checks will refuse.
std::optional<std::string> WithContext(const std::optional<std::string>& data);

}  // namespace taskwal::pipeline

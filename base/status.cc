#include "taskwal/status.h"

#include <array>

namespace taskwal {

std::string_view StatusCodeName(StatusCode code) {
  static constexpr std::array<std::string_view, 11> kNames = {
      "kOk",       "kInvalidArgument", "kNotFound", "kOverloaded", "kUnavailable", "kInDoubt",
      "kRejected", "kFenced",          "kCorruption", "kIoError",  "kClosed"};
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : "kUnknown";
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  return std::string(StatusCodeName(code_)) + ": " + message_;
}

}  // namespace taskwal

// Every plain field of Options by name, as data: for `--set KEY=VALUE`, its help, and configuration
// files.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

struct OptionField {
  std::string_view name;      // as in options.h
  // "bytes", "duration", "count", "on/off", "text", "level", "factor", "policy", "growth",
  // "severity"
  std::string_view unit;
  std::string_view effect;    // one line
};

const std::vector<OptionField>& OptionFields();
// Value as SetOption takes it ("64MiB", "500ms", "true", "process").
std::string GetOption(const Options& options, std::string_view name);
// kInvalidArgument: an unknown name (the message names one that is near), or a value that does not
// fit.
Status SetOption(Options* options, std::string_view name, std::string_view value);
// Ranges and combinations, at open: kInvalidArgument names the field and its bounds.
Status CheckOptions(const Options& options);

// "65536", "64KiB", "64MiB", "1GiB": powers of 1,024. kInvalidArgument for anything else.
Result<std::uint64_t> ParseSize(std::string_view text);
// "500ms", "30s", "2m", "1h", "1h30m", "0". kInvalidArgument for anything else.
Result<std::chrono::milliseconds> ParseDuration(std::string_view text);
std::string FormatDuration(std::chrono::milliseconds duration);
// "memory", "process", "disk". kInvalidArgument for anything else.
Result<Durability> ParseDurability(std::string_view text);
std::string_view DurabilityName(Durability level);

}  // namespace taskwal::pipeline

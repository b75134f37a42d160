// The plain fields of Options as a table: name, unit, effect, where it is, and its bounds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "pipeline/option_fields.h"
#include "taskwal/options.h"

namespace taskwal::pipeline {

struct OptionEntry {
  using Member =
      std::variant<std::string Options::*, bool Options::*, Durability Options::*,
                   std::uint32_t Options::*, std::uint64_t Options::*,
                   std::chrono::milliseconds Options::*, double Options::*, Overflow Options::*,
                   Backoff Options::*, Level Options::*>;

  OptionField field;
  Member member;
  // In the field's own unit: bytes, records, milliseconds.
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

const std::vector<OptionEntry>& OptionTable();

}  // namespace taskwal::pipeline

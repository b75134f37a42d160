// The list of targets that a storage is opened with against the one that STATE records: who has
// which number, who is new, and what must not be missing. Pure.
//
// A target's share of new activities is what the list says. Its share of tasks stands in STATE: a
// task's home must be found again, so it changes by a rebalance alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/targets/home_table.h"
#include "taskwal/options.h"
#include "taskwal/status.h"
#include "wal/state_file.h"

namespace taskwal::pipeline {

// Of a database that came without a name; its number is always 0.
inline constexpr std::string_view kDefaultTarget = "default";
inline constexpr std::uint32_t kTargetWeightMax = 1000;
inline constexpr std::size_t kTargetsMax = 64;

struct NamedWeight {
  std::string name;
  std::uint32_t weight = 1;
};

// "NAME=DSN" or "NAME*WEIGHT=DSN"; anything else is the DSN of the target "default", with weight 1.
// kInvalidArgument: a weight that is no number from 0 to 1,000.
Result<TargetOptions> ParseTarget(std::string_view text);

// kInvalidArgument: a name that is none or comes twice, a weight out of bounds, none above 0.
Status CheckTargetList(std::span<const NamedWeight> list);

// What STATE has to record for this list; nothing changes for a single database of default name.
// kInvalidArgument names a target that is missing from the list although it has tasks, or records
// that may not be flushed. `end_lsn`: the log's last record.
Result<std::vector<wal::TargetState>> PlanTargets(const wal::LogState& state, wal::Lsn end_lsn,
                                                  std::span<const NamedWeight> list,
                                                  const std::string& directory);
// Notes what PlanTargets said.
void RecordTargets(std::vector<wal::TargetState> targets, wal::LogState* state);

// What a rebalance to this list aims at: PlanRebalance before the first row moves,
// RecordRebalanced when none is left to move.
void PlanRebalance(std::span<const NamedWeight> list, wal::LogState* state);
void RecordRebalanced(wal::LogState* state);

// The shares of tasks as recorded; `next`: as a rebalance under way has them.
std::vector<HomeTable::Share> TaskShares(const wal::LogState& state, bool next);
std::uint16_t NumberOf(const wal::LogState& state, std::string_view name);

}  // namespace taskwal::pipeline

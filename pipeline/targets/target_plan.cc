#include "pipeline/targets/target_plan.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "base/status_macros.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::TargetState;

constexpr std::size_t kNameBytesMax = 64;

bool IsName(std::string_view text) {
  const auto fits = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= kNameBytesMax &&
         std::all_of(text.begin(), text.end(), fits);
}

const NamedWeight* Find(std::span<const NamedWeight> list, std::string_view name) {
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const NamedWeight& one) { return one.name == name; });
  return found == list.end() ? nullptr : &*found;
}

std::uint16_t NextNumber(const std::vector<TargetState>& targets) {
  std::uint16_t highest = 0;
  for (const TargetState& target : targets) highest = std::max(highest, target.number);
  return static_cast<std::uint16_t>(highest + 1);
}

// What is recorded so far: a log that has had one database of no name has had one target.
std::vector<TargetState> Recorded(const wal::LogState& state, Lsn end_lsn) {
  if (!state.targets.empty()) return state.targets;
  if (end_lsn == 0 && state.db_id.IsZero()) return {};
  TargetState only;
  static_cast<wal::FedDatabase&>(only) = state;
  only.name = kDefaultTarget;
  only.weight = 1;
  return {only};
}

Status CheckMissing(const TargetState& target, Lsn end_lsn, const std::string& directory) {
  const bool has_tasks = target.weight > 0 || target.next_weight > 0;
  if (!has_tasks && target.flushed_lsn >= end_lsn) return Status::Ok();
  return Status::InvalidArgument(
      directory + " has " + (has_tasks ? "tasks" : "records that may not be flushed") +
      " in target " + target.name + ", which is missing from the list: name it too (" +
      target.name + "*0=DSN gives it nothing new, and `taskwal targets rebalance` moves its "
      "tasks away)");
}

// Nothing that was logged before is a new target's business: its share of an operation over many
// tasks lies where the tasks were at home then.
void Join(Lsn end_lsn, TargetState* target) {
  target->removed = false;
  target->joined_lsn = end_lsn;
  target->flushed_lsn = end_lsn;
}

Lsn LowestFlushed(const wal::LogState& state) {
  Lsn lowest = UINT64_MAX;
  for (const TargetState& target : state.targets) {
    if (!target.removed) lowest = std::min(lowest, target.flushed_lsn);
  }
  return lowest;
}

}  // namespace

Result<TargetOptions> ParseTarget(std::string_view text) {
  TargetOptions target{std::string(kDefaultTarget), std::string(text), 1};
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos) return target;
  const std::string_view left = text.substr(0, equals);
  const std::size_t star = left.find('*');
  const std::string_view name = left.substr(0, star);
  if (!IsName(name)) return target;  // the '=' is one of the DSN's own
  target.name = std::string(name);
  target.dsn = std::string(text.substr(equals + 1));
  if (star == std::string_view::npos) return target;
  const std::string_view weight = left.substr(star + 1);
  const auto [end, error] =
      std::from_chars(weight.data(), weight.data() + weight.size(), target.weight);
  const bool is_number = error == std::errc() && end == weight.data() + weight.size();
  if (is_number && target.weight <= kTargetWeightMax) return target;
  return Status::InvalidArgument("target " + target.name + ": the weight " + std::string(weight) +
                                 " is no number from 0 to 1,000");
}

Status CheckTargetList(std::span<const NamedWeight> list) {
  if (list.empty() || list.size() > kTargetsMax) {
    return Status::InvalidArgument("a list of targets has 1 to 64 of them");
  }
  std::set<std::string_view> names;
  bool takes_any = false;
  for (const auto& [name, weight] : list) {
    if (!IsName(name)) {
      return Status::InvalidArgument("\"" + name + "\" is no name of a target: 1 to 64 letters, "
                                     "digits, '.', '_' and '-'");
    }
    if (!names.insert(name).second) {
      return Status::InvalidArgument("target " + name + " is named twice");
    }
    if (weight > kTargetWeightMax) {
      return Status::InvalidArgument("the weight of target " + name + " is above 1,000");
    }
    takes_any = takes_any || weight > 0;
  }
  if (!takes_any) return Status::InvalidArgument("no target has a weight above 0");
  return Status::Ok();
}

Result<std::vector<TargetState>> PlanTargets(const wal::LogState& state, Lsn end_lsn,
                                             std::span<const NamedWeight> list,
                                             const std::string& directory) {
  const bool is_single = list.size() == 1 && list.front().name == kDefaultTarget;
  if (is_single && state.targets.empty()) return std::vector<TargetState>();
  std::vector<TargetState> targets = Recorded(state, end_lsn);
  const bool is_first = targets.empty();
  for (TargetState& target : targets) {
    const bool is_listed = Find(list, target.name) != nullptr;
    if (is_listed && target.removed) Join(end_lsn, &target);
    if (is_listed || target.removed) continue;
    TASKWAL_TRY(CheckMissing(target, end_lsn, directory));
    target.removed = true;
  }
  for (const NamedWeight& one : list) {
    const bool is_known = std::any_of(targets.begin(), targets.end(), [&](const TargetState& t) {
      return t.name == one.name;
    });
    if (is_known) continue;
    TargetState added;
    added.name = one.name;
    added.number = one.name == kDefaultTarget ? std::uint16_t{0} : NextNumber(targets);
    added.weight = is_first ? one.weight : 0;
    Join(end_lsn, &added);
    targets.push_back(std::move(added));
  }
  return targets;
}

void RecordTargets(std::vector<TargetState> targets, wal::LogState* state) {
  state->targets = std::move(targets);
  static_cast<wal::FedDatabase&>(*state) = {};
  state->flushed_lsn = LowestFlushed(*state);
}

void PlanRebalance(std::span<const NamedWeight> list, wal::LogState* state) {
  for (TargetState& target : state->targets) {
    const NamedWeight* wanted = Find(list, target.name);
    target.next_weight = wanted == nullptr ? 0 : wanted->weight;
  }
  state->rebalancing = true;
}

void RecordRebalanced(wal::LogState* state) {
  for (TargetState& target : state->targets) {
    target.weight = target.next_weight;
    target.next_weight = 0;
  }
  state->rebalancing = false;
}

std::vector<HomeTable::Share> TaskShares(const wal::LogState& state, bool next) {
  if (state.targets.empty()) return {{0, std::string(kDefaultTarget), 1}};
  std::vector<HomeTable::Share> shares;
  for (const TargetState& target : state.targets) {
    const std::uint32_t weight = next ? target.next_weight : target.weight;
    shares.push_back({target.number, target.name, weight});
  }
  return shares;
}

std::uint16_t NumberOf(const wal::LogState& state, std::string_view name) {
  for (const TargetState& target : state.targets) {
    if (target.name == name) return target.number;
  }
  return 0;
}

}  // namespace taskwal::pipeline

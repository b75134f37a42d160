// taskwal targets: the databases that a log feeds, and how tasks are moved among them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/file_system.h"
#include "base/shell_text.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/stop_on_signal.h"
#include "pipeline/targets/target_plan.h"
#include "pipeline/wal_task_storage.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;

struct TargetsArguments {
  std::vector<std::string> databases;
  Options options;
  std::chrono::milliseconds drain_timeout{30000};
  bool json = false;
};

// As STATE records them; a database that came without a name is the one target there is.
std::vector<wal::TargetState> TargetsIn(const wal::LogState& state) {
  if (!state.targets.empty()) return state.targets;
  wal::TargetState only;
  static_cast<wal::FedDatabase&>(only) = state;
  only.name = pipeline::kDefaultTarget;
  only.weight = 1;
  return {only};
}

Json JsonOf(const wal::LogState& state) {
  Json targets = Json::array();
  for (const wal::TargetState& target : TargetsIn(state)) {
    Json one;
    one["name"] = target.name;
    one["number"] = target.number;
    one["task_weight"] = target.weight;
    if (state.rebalancing) one["next_task_weight"] = target.next_weight;
    one["removed"] = target.removed;
    one["db_id"] = target.db_id.IsZero() ? Json() : Json(target.db_id.ToString());
    one["flushed_lsn"] = target.flushed_lsn;
    targets.push_back(std::move(one));
  }
  Json json;
  json["rebalancing"] = state.rebalancing;
  json["targets"] = std::move(targets);
  return json;
}

void PrintTable(const wal::LogState& state) {
  Table table({"TARGET", "NUMBER", "TASK WEIGHT", "FLUSHED LSN", "DATABASE"});
  for (const wal::TargetState& target : TargetsIn(state)) {
    std::string weight = std::to_string(target.weight);
    if (state.rebalancing) weight += " -> " + std::to_string(target.next_weight);
    table.AddRow({target.name, std::to_string(target.number),
                  target.removed ? "removed" : weight, std::to_string(target.flushed_lsn),
                  target.db_id.IsZero() ? "none yet" : target.db_id.ToString()});
  }
  std::printf("%s", table.ToString().c_str());
  if (state.rebalancing) {
    std::printf("a rebalance is unfinished: the next open of the log goes on with it\n");
  }
}

std::string WhyNone(const std::string& directory, const Status& status) {
  const auto segments = wal::ListSegments(FileSystem::Real(), directory);
  const bool is_absent = status.code() == StatusCode::kNotFound;
  if (is_absent && (!segments.ok() || segments->empty())) return "there is no log in " + directory;
  return (is_absent ? directory + " holds a log whose STATE is missing" : status.message()) +
         ": the targets stand there; `taskwal verify " + ShellQuote(directory) +
         "` says what is left, and the next open rebuilds it from the segments and TARGETS";
}

int RunList(const TargetsArguments& arguments) {
  const auto state = wal::ReadState(FileSystem::Real(), arguments.options.wal_dir);
  if (!state.ok()) {
    PrintError("targets list", WhyNone(arguments.options.wal_dir, state.status()));
    return kExitFailed;
  }
  if (arguments.json) {
    std::printf("%s\n", JsonOf(*state).dump().c_str());
  } else {
    PrintTable(*state);
  }
  return kExitDone;
}

void PrintMoved(const TargetsArguments& arguments, std::uint64_t seen, std::uint64_t moved) {
  if (arguments.json) {
    std::printf("{\"tasks\":%llu,\"moved\":%llu}\n", static_cast<unsigned long long>(seen),
                static_cast<unsigned long long>(moved));
  } else {
    std::printf("moved %s of %s tasks\n", FormatCount(moved).c_str(), FormatCount(seen).c_str());
  }
}

int Rebalance(const TargetsArguments& arguments, const pipeline::OpenReport& opened,
              pipeline::WalTaskStorage& storage) {
  std::uint64_t tasks = 0;
  std::uint64_t moved = 0;
  Status done;
  ProgressBar bar("moving tasks");
  done = Drain(storage, {arguments.drain_timeout, true, true, opened.waited});
  if (done.ok() && StopSignal::requested()) done = Status::Unavailable("told to stop");
  if (done.ok()) {
    done = storage.Rebalance(arguments.drain_timeout, [&](std::uint64_t seen, std::uint64_t all,
                                                          std::uint64_t moved_so_far) {
      tasks = all;
      moved = moved_so_far;
      bar.Update(seen, all);
    });
  }
  const bool is_begun = storage.log().state().rebalancing;
  bar.GoOnTo("closing the log");
  const Status closed = storage.Shutdown(ShutdownMode::kImmediate, {});
  bar.End();
  if (done.ok() && closed.ok()) {
    PrintMoved(arguments, tasks, moved);
    return kExitDone;
  }
  const std::string why = done.ok() ? closed.message() : done.message();
  PrintError("targets rebalance",
             why + (is_begun ? "; what is left is moved by the next open of the log, or by the "
                               "same command"
                             : "; nothing was moved"));
  return done.code() == StatusCode::kUnavailable && !is_begun ? kExitNotDrained : kExitFailed;
}

int RunRebalance(const TargetsArguments& arguments) {
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail("targets rebalance", targets.status());
  pipeline::WalStorageSetup setup;
  auto list = pipeline::MakeTargets(*targets, {arguments.options.database_timeout});
  if (!list.ok()) return Fail("targets rebalance", list.status());
  setup.options = arguments.options;
  BoundFirstContact(arguments.drain_timeout, &setup.options);
  setup.targets = std::move(list).value();
  setup.create = false;
  setup.needs_database = true;
  StopSignal::Install();
  std::optional<StopSignal::Minded> minded(std::in_place);  // until tasks move: see Drain
  const StopOnSignal stop;
  setup.stop = stop.token();
  ProgressBar bar("opening the log, " + WaitingFor(*targets));
  pipeline::OpenReport opened;
  const auto storage = pipeline::WalTaskStorage::Open(std::move(setup), &opened);
  bar.End();
  if (!storage.ok()) return Fail("targets rebalance", storage.status());
  minded.reset();
  return Rebalance(arguments, opened, **storage);
}

}  // namespace

void AddTargetsCommand(CLI::App& app, int* exit_code) {
  CLI::App* targets =
      app.add_subcommand("targets", "Several databases: what each has, and moving tasks");
  targets->require_subcommand(1);
  auto arguments = std::make_shared<TargetsArguments>();  // shared with the callbacks

  CLI::App* list = targets->add_subcommand(
      "list", "The databases that a log feeds, as its directory records them");
  AddWalOption(*list, &arguments->options.wal_dir, true);
  list->add_flag("--json", arguments->json, "Print JSON");
  list->footer("Example: taskwal targets list --wal w");
  list->callback([arguments, exit_code] { *exit_code = RunList(*arguments); });

  CLI::App* rebalance = targets->add_subcommand(
      "rebalance",
      "Drain the log, then move tasks to where the new weights have them at home. A target that\n"
      "is to go is named with weight 0. Ended at any point, it is safe to repeat.");
  AddWalOption(*rebalance, &arguments->options.wal_dir, true);
  AddDatabasesOption(*rebalance, &arguments->databases);
  AddDurationOption(*rebalance, "--drain-timeout", &arguments->drain_timeout,
                    "Give up when the databases have taken nothing for this long");
  rebalance->add_flag("--json", arguments->json, "Print {\"tasks\":N,\"moved\":N}");
  AddSetOption(*rebalance, &arguments->options);
  rebalance->footer(
      "Exit codes: 0 done, 4 the databases could not take what is in the log and nothing was "
      "moved,\n1 anything else.\n"
      "Example: taskwal targets rebalance --wal w --db 'a*2=sqlite://a.db' --db b=sqlite://b.db");
  rebalance->callback([arguments, exit_code] { *exit_code = RunRebalance(*arguments); });
}

}  // namespace taskwal::cli

// Which databases a command works with: one, or several targets with names and weights.
#include <CLI/CLI.hpp>

#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/place.h"
#include "pipeline/open.h"
#include "pipeline/targets/target_plan.h"
#include "storage/dsn.h"

namespace taskwal::cli {

void AddDatabasesOption(CLI::App& command, std::vector<std::string>* given) {
  command
      .add_option("--db", *given,
                  "Database: sqlite://FILE, memory:, or @FILE whose first line names it "
                  "(TASKWAL_DB when not given). Several targets: --db NAME*WEIGHT=DSN for each; "
                  "the weight (default 1) is its share, 0 gives it nothing new")
      ->type_name("[NAME[*WEIGHT]=]DSN")
      ->expected(1)
      ->allow_extra_args(false)  // what follows may be a letter's id
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

Result<std::vector<TargetOptions>> ResolveTargets(const std::vector<std::string>& given,
                                                  std::string_view fallback) {
  std::vector<TargetOptions> targets;
  std::vector<pipeline::NamedWeight> weights;
  for (const std::string& text : given.empty() ? std::vector<std::string>{""} : given) {
    TASKWAL_ASSIGN(TargetOptions target, pipeline::ParseTarget(text));
    if (!text.empty() && target.dsn.empty()) {
      return Status::InvalidArgument("target " + target.name + ": no database behind the =");
    }
    TASKWAL_ASSIGN(target.dsn, ResolveDsn(target.dsn, fallback));
    weights.push_back({target.name, target.weight});
    targets.push_back(std::move(target));
  }
  TASKWAL_TRY(pipeline::CheckTargetList(weights));
  return targets;
}

Result<std::unique_ptr<TaskStorage>> OpenStorage(std::vector<TargetOptions> targets,
                                                 Options options, const std::stop_token& stop) {
  if (options.wal_enabled) TASKWAL_TRY(CheckDatabasePlaces(targets, options.wal_dir));
  if (targets.size() == 1 && targets.front().name == pipeline::kDefaultTarget) {
    return pipeline::OpenStorage(targets.front().dsn, std::move(options), stop);
  }
  options.targets = std::move(targets);
  return pipeline::OpenStorage(std::move(options), stop);
}

std::string WaitingFor(const std::vector<TargetOptions>& targets) {
  if (targets.size() == 1) return "waiting for " + storage::MaskDsn(targets.front().dsn);
  return "waiting for " + std::to_string(targets.size()) + " databases";
}

}  // namespace taskwal::cli

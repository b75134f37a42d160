// taskwal adopt: the operator's word on a moved, copied or restored log directory or database.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/clock.h"
#include "base/file_system.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "pipeline/flush/missing_records.h"
#include "pipeline/identity.h"
#include "pipeline/targets/target_set.h"

namespace taskwal::cli {
namespace {

struct AdoptArguments {
  Options options;
  std::vector<std::string> databases;
  bool moved = false;
  bool relabel = false;
  bool new_database = false;
  bool json = false;
};

pipeline::Adoption AdoptionOf(const AdoptArguments& arguments) {
  if (arguments.moved) return pipeline::Adoption::kMoved;
  return arguments.relabel ? pipeline::Adoption::kRelabel : pipeline::Adoption::kNewDatabase;
}

void PrintJson(const pipeline::AdoptReport& report) {
  std::string unknown;
  for (const pipeline::MissingRecords& records : report.unknown) {
    unknown += (unknown.empty() ? "" : ",") + std::string("{\"from\":") +
               std::to_string(records.lsns.from) + ",\"to\":" + std::to_string(records.lsns.to);
    const std::string partitions = pipeline::PartitionsText(records);
    unknown += (partitions.empty() ? "" : ",\"partitions\":[" + partitions + "]") + "}";
  }
  std::printf("{\"wal_id\":\"%s\",\"changed\":%s,\"from\":%llu,\"unknown\":[%s]}\n",
              report.wal_id.ToString().c_str(), report.changed ? "true" : "false",
              static_cast<unsigned long long>(report.from), unknown.c_str());
}

void PrintText(const AdoptArguments& arguments, const pipeline::AdoptReport& report) {
  if (report.changed) {
    std::printf("%s is log %s; records from LSN %llu on are brought into the database\n",
                arguments.options.wal_dir.c_str(), report.wal_id.ToString().c_str(),
                static_cast<unsigned long long>(report.from));
  } else {
    std::printf("%s knew itself already: nothing was changed\n", arguments.options.wal_dir.c_str());
  }
  if (report.unknown.empty()) return;
  std::printf("STATE was damaged, and LSN %s are older than all that is kept: they are in the "
              "database, or lost\n",
              pipeline::MissingText(report.unknown).c_str());
}

int RunAdopt(const AdoptArguments& arguments) {
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail("adopt", targets.status());
  const auto made = pipeline::MakeTargets(*targets, {arguments.options.database_timeout});
  if (!made.ok()) return Fail("adopt", made.status());
  std::vector<pipeline::AdoptDatabase> databases;
  for (const auto& target : *made) databases.push_back({target.name, target.backend.get()});
  ProgressBar bar("looking at the log, " + WaitingFor(*targets));
  const auto adopted = pipeline::Adopt(FileSystem::Real(), Clock::Real(), arguments.options.wal_dir,
                                       databases, AdoptionOf(arguments));
  bar.End();
  if (!adopted.ok()) {
    PrintError("adopt", adopted.status().message());
    // The list may be what is wrong, whatever the word.
    const auto state = wal::ReadState(FileSystem::Real(), arguments.options.wal_dir);
    const bool is_usage = adopted.status().code() == StatusCode::kInvalidArgument && state.ok() &&
                          !pipeline::CheckAdoptList(*state, databases).ok();
    return is_usage ? kExitUsage : kExitFailed;
  }
  arguments.json ? PrintJson(*adopted) : PrintText(arguments, *adopted);
  return kExitDone;
}

}  // namespace

void AddAdoptCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<AdoptArguments>();  // shared with the callback
  CLI::App* command = app.add_subcommand(
      "adopt", "Settle who a moved, copied or restored log directory is to its database");
  AddWalOption(*command, &arguments->options.wal_dir, true);
  AddDatabasesOption(*command, &arguments->databases);
  CLI::Option_group* word = command->add_option_group("Exactly one of");
  word->add_flag("--moved", arguments->moved, "This is the original directory, at another place");
  word->add_flag("--relabel", arguments->relabel,
                 "This is a copy: bring only what it appended since it was copied");
  word->add_flag("--new-db", arguments->new_database,
                 "Feed this database from the oldest record that is kept");
  word->require_option(1);
  command->add_flag("--json", arguments->json,
                    "Print {\"wal_id\":…,\"changed\":…,\"from\":LSN,\"unknown\":[…]}");
  AddSetOption(*command, &arguments->options);
  command->footer("Example: taskwal adopt --wal w --db sqlite://tasks.db --moved");
  command->callback([arguments, exit_code] { *exit_code = RunAdopt(*arguments); });
}

}  // namespace taskwal::cli

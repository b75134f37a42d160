// taskwal dlq retry, purge: what becomes of dead letters. Both need the directory for themselves; a
// running daemon does the same by its admin API.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/dlq.h"
#include "cli/progress.h"
#include "cli/stop_on_signal.h"
#include "pipeline/letter_desk.h"
#include "pipeline/wal_task_storage.h"

namespace taskwal::cli {
namespace {

struct RetryArguments {
  std::vector<std::string> databases;
  Options options;
  LetterChoice choice;
  std::chrono::milliseconds drain_timeout{30000};
  bool json = false;
};

struct PurgeArguments {
  std::string directory;
  LetterChoice choice;
  bool yes = false;
  bool json = false;
};

constexpr std::array kResults = {RetryResult::kApplied, RetryResult::kSuperseded,
                                 RetryResult::kRejected, RetryResult::kPending};

std::uint64_t CountOf(const std::vector<RetryOutcome>& outcomes, RetryResult result) {
  std::uint64_t count = 0;
  for (const RetryOutcome& outcome : outcomes) count += outcome.result == result ? 1 : 0;
  return count;
}

void PrintJson(const std::vector<RetryOutcome>& outcomes) {
  std::string json = "{";
  for (const RetryResult result : kResults) {
    json += JsonQuote(RetryResultName(result)) + ":" + std::to_string(CountOf(outcomes, result)) +
            ",";
  }
  json += "\"letters\":[";
  for (const RetryOutcome& outcome : outcomes) {
    if (&outcome != outcomes.data()) json += ',';
    json += "{\"id\":" + JsonQuote(outcome.id) + ",\"lsn\":" + std::to_string(outcome.lsn) +
            ",\"result\":" + JsonQuote(RetryResultName(outcome.result));
    if (!outcome.error.empty()) json += ",\"error\":" + JsonQuote(outcome.error);
    json += '}';
  }
  std::printf("%s]}\n", json.c_str());
}

void PrintText(const std::vector<RetryOutcome>& outcomes) {
  Table table({"ID", "LSN", "RESULT", "ERROR"});
  std::string counts;
  for (const RetryOutcome& outcome : outcomes) {
    table.AddRow({outcome.id, std::to_string(outcome.lsn),
                  std::string(RetryResultName(outcome.result)), Cell(outcome.error)});
  }
  for (const RetryResult result : kResults) {
    counts += (counts.empty() ? "" : ", ") + FormatCount(CountOf(outcomes, result)) + " " +
              std::string(RetryResultName(result));
  }
  std::printf("%s%s\n", table.ToString().c_str(), counts.c_str());
}

// Nothing is meant: fine where all were, wrong where some were named.
int NothingMeant(std::string_view command, const DeadLetterSelection& selection, bool json,
                 const char* empty_json) {
  if (NamesLetters(selection)) {
    PrintError(command, kNoSuchLetter);
    return kExitFailed;
  }
  std::printf("%s\n", json ? empty_json : "no dead letters");
  return kExitDone;
}

void PrintPending(const std::vector<RetryOutcome>& outcomes) {
  const auto first = std::find_if(
      outcomes.begin(), outcomes.end(),
      [](const RetryOutcome& outcome) { return outcome.result == RetryResult::kPending; });
  if (first == outcomes.end()) return;
  PrintError("dlq retry",
             FormatCount(CountOf(outcomes, RetryResult::kPending)) +
                 " not in the database yet (`taskwal recover` brings what was sent; what was not "
                 "is a dead letter still)" +
                 (first->error.empty() ? std::string() : ": " + first->error));
}

int ExitCodeOf(const std::vector<RetryOutcome>& outcomes) {
  const bool is_pending = CountOf(outcomes, RetryResult::kPending) > 0;
  const bool is_rejected = CountOf(outcomes, RetryResult::kRejected) > 0;
  return GraverExit(is_pending ? kExitNotDrained : kExitDone,
                    is_rejected ? kExitSomeRejected : kExitDone);
}

// The letters' own time where catching up has taken all of it: enough to be safe in the log.
constexpr std::chrono::milliseconds kTimeToAppend{1000};

// What an earlier retry that was killed has put into the log is no letter any more, and may not be
// in the database yet: the log is caught up before letters are selected. Once told to stop, no more
// are sent, but what was sent is waited for; told again, that is not either.
Result<std::vector<RetryOutcome>> CatchUpAndRetry(pipeline::WalTaskStorage& storage,
                                                  const DeadLetterSelection& selection,
                                                  std::chrono::milliseconds timeout,
                                                  const std::stop_token& stop,
                                                  Status* caught_up) {
  const Monotonic until = Clock::Real().Now() + timeout;
  const auto left = [&] {
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::Real().Now());
    return std::max(rest, kTimeToAppend);
  };
  *caught_up = Drain(storage, {.timeout = timeout, .stoppable = true});
  pipeline::LetterDesk& desk = storage.letter_desk();
  TASKWAL_ASSIGN(const auto sending, desk.Send(selection, left(), stop));
  Status waited = sending.last == 0 ? Status::Ok() : Drain(storage, {.timeout = left()});
  if (waited.ok()) waited = sending.refused;
  return desk.OutcomesOf(sending, waited);
}

int RunRetry(const RetryArguments& arguments) {
  StopSignal::Install();
  const StopSignal::Minded minded;  // the second one ends the wait, and the log is still sealed
  const StopOnSignal stop;
  const auto selection = arguments.choice.Resolve();
  if (!selection.ok()) return Fail("dlq retry", selection.status());
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail("dlq retry", targets.status());
  auto made = pipeline::MakeTargets(*targets, {arguments.options.database_timeout});
  if (!made.ok()) return Fail("dlq retry", made.status());
  pipeline::WalStorageSetup setup;
  setup.options = arguments.options;
  BoundFirstContact(arguments.drain_timeout, &setup.options);
  setup.targets = std::move(made).value();
  setup.create = false;
  setup.needs_database = true;
  setup.stop = stop.token();
  ProgressBar bar("opening the log, " + WaitingFor(*targets));
  pipeline::OpenReport opened;
  const auto storage = pipeline::WalTaskStorage::Open(std::move(setup), &opened);
  if (!storage.ok()) {
    PrintError("dlq retry", storage.status().message());
    return kExitFailed;
  }
  Status caught_up;
  bar.GoOnTo("bringing the letters");
  const auto left = std::max(arguments.drain_timeout - opened.waited, std::chrono::milliseconds(0));
  const auto outcomes =
      CatchUpAndRetry(**storage, *selection, left, stop.token(), &caught_up);
  bar.GoOnTo("closing the log");
  const Status closed = (*storage)->Shutdown(ShutdownMode::kImmediate, {});
  bar.End();
  if (outcomes.status().code() == StatusCode::kNotFound) {
    const int exit =
        NothingMeant("dlq retry", *selection, arguments.json,
                     R"({"applied":0,"superseded":0,"rejected":0,"pending":0,"letters":[]})");
    if (caught_up.ok() || exit != kExitDone) return exit;
    PrintError("dlq retry", "records wait in the log for the database: " + caught_up.message());
    return kExitNotDrained;
  }
  if (!outcomes.ok()) {
    PrintError("dlq retry", outcomes.status().message());
    return outcomes.status().code() == StatusCode::kCorruption ? kExitDamage : kExitFailed;
  }
  arguments.json ? PrintJson(*outcomes) : PrintText(*outcomes);
  PrintPending(*outcomes);
  if (closed.code() == StatusCode::kIoError) {
    PrintError("dlq retry", closed.message());
    return kExitFailed;
  }
  return ExitCodeOf(*outcomes);
}

// True when the operator means it.
bool Confirm(std::uint64_t count) {
  std::fprintf(stderr, "let %s dead letters go for good? [y/N] ", FormatCount(count).c_str());
  std::fflush(stderr);
  std::array<char, 16> answer{};
  if (std::fgets(answer.data(), answer.size(), stdin) == nullptr) return false;
  return answer[0] == 'y' || answer[0] == 'Y';
}

int RunPurge(const PurgeArguments& arguments) {
  const auto selection = arguments.choice.Resolve();
  if (!selection.ok()) return Fail("dlq purge", selection.status());
  const bool can_ask = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  if (!arguments.yes && !can_ask) {
    PrintError("dlq purge", "letters are gone for good: say --yes");
    return kExitUsage;
  }
  std::uint64_t meant = 0;
  ProgressBar reading("reading the dead letters");
  const int looked = ForEachLetter("dlq purge", arguments.directory,
                                   [&](const pipeline::DeadLetter& letter) {
    meant += pipeline::IsMeant(*selection, letter) ? 1 : 0;
    return true;
  });
  reading.End();
  if (looked == kExitFailed) return looked;
  if (meant == 0) {
    return GraverExit(looked, NothingMeant("dlq purge", *selection, arguments.json,
                                           R"({"purged":0})"));
  }
  if (!arguments.yes && !Confirm(meant)) return kExitFailed;
  ProgressBar purging("purging");
  const auto purged =
      pipeline::PurgeOffline(FileSystem::Real(), arguments.directory, *selection);
  purging.End();
  if (!purged.ok()) {
    PrintError("dlq purge", purged.status().message());
    return purged.status().code() == StatusCode::kCorruption ? kExitDamage : kExitFailed;
  }
  if (arguments.json) {
    std::printf("{\"purged\":%llu}\n", static_cast<unsigned long long>(*purged));
  } else {
    std::printf("purged %s\n", FormatCount(*purged).c_str());
  }
  return looked;
}

}  // namespace

void AddDlqRetry(CLI::App& dlq, int* exit_code) {
  auto arguments = std::make_shared<RetryArguments>();  // shared with the callback
  CLI::App* command = dlq.add_subcommand(
      "retry", "Bring dead letters once more, through the log and exactly once");
  AddWalOption(*command, &arguments->options.wal_dir, true);
  AddDatabasesOption(*command, &arguments->databases);
  AddLetterChoice(*command, &arguments->choice);
  AddDurationOption(*command, "--drain-timeout", &arguments->drain_timeout,
                    "Wait for the database at most this long");
  command->add_flag("--json", arguments->json, "Print the results as JSON");
  AddSetOption(*command, &arguments->options);
  command->footer(
      "Results: applied; superseded (the database has something newer of the task); rejected\n"
      "(refused again: the letter is back, with the new error); pending (safe in the log). A save\n"
      "goes together with the updates that follow it. Told to stop, it sends no more and waits\n"
      "for what was sent; told again, it does not wait. May be killed and repeated at any time.\n"
      "Exit codes: 0 all applied or superseded, 3 some rejected, 4 some pending, 1 failed\n"
      "(another process has the log, no such letter), 2 the dead letters are damaged.\n"
      "Example: taskwal dlq retry --wal w --db sqlite://tasks.db --all");
  command->callback([arguments, exit_code] { *exit_code = RunRetry(*arguments); });
}

void AddDlqPurge(CLI::App& dlq, int* exit_code) {
  auto arguments = std::make_shared<PurgeArguments>();  // shared with the callback
  CLI::App* command = dlq.add_subcommand("purge", "Let dead letters go for good");
  AddWalOption(*command, &arguments->directory, true);
  AddLetterChoice(*command, &arguments->choice);
  command->add_flag("--yes,-y", arguments->yes, "Do not ask");
  command->add_flag("--json", arguments->json, "Print the result as JSON");
  command->footer(
      "Their records stay settled: a replay skips them. Declared losses are never purged.\n"
      "Exit codes: 0 done, 1 failed (another process has the log, no such letter, or the answer\n"
      "was no), 2 the dead letters are damaged, 64 --yes is missing where nobody can be asked.\n"
      "Example: taskwal dlq purge --wal w --older-than 720h --yes");
  command->callback([arguments, exit_code] { *exit_code = RunPurge(*arguments); });
}

}  // namespace taskwal::cli

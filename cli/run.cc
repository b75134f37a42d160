// taskwal run: executes a workflow file and keeps every step through the log.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "base/json_text.h"
#include "base/mutex.h"
#include "base/shell_text.h"
#include "base/status_macros.h"
#include "cli/ack_file.h"
#include "cli/ack_place.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/run_choice.h"
#include "cli/stop_on_signal.h"
#include "dag/graph_run.h"
#include "dag/resume.h"
#include "dag/workflow_file.h"
#include "taskwal/dag.h"
#include "taskwal/open.h"

namespace taskwal::cli {
namespace {

constexpr std::size_t kNeverRanNamed = 10;

struct RunArguments {
  std::string file;
  std::vector<std::string> databases;
  Options options;
  std::string run_id;
  std::string acks;  // a file, or empty
  double speed = 1;
  std::uint32_t workers = 4;
  bool resume = false;
  bool json = false;
};

// Of ASCII or of the other set, which UTF-8 writes as C2 80 to C2 9F: a name that holds one cannot
// be told from others on a screen, and breaks the lines of what prints it.
bool HasControl(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    const bool is_c1 = byte == 0xc2 && i + 1 < text.size() &&
                       static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (is_c1) return true;
  }
  return false;
}

// Tasks are finished on several threads, and not in the order in which they were counted.
class Progress {
 public:
  explicit Progress(const std::string& title) : bar_(title) {}
  void Update(std::size_t done, std::size_t all) {
    MutexLock lock(mutex_);
    done_ = std::max(done_, done);
    bar_.Update(done_, all);
  }

 private:
  Mutex mutex_;
  std::size_t done_ GUARDED_BY(mutex_) = 0;
  ProgressBar bar_ GUARDED_BY(mutex_);
};

std::string NamesOf(const std::vector<std::string>& tasks) {
  std::string names;
  for (std::size_t i = 0; i < std::min(tasks.size(), kNeverRanNamed); ++i) {
    names += (i == 0 ? "" : ", ") + tasks[i];
  }
  if (tasks.size() > kNeverRanNamed) {
    names += " and " + FormatCount(tasks.size() - kNeverRanNamed) + " more";
  }
  return names;
}

std::string NeverRan(const RunReport& report) {
  return "never ran, because of failed tasks before them: " +
         FormatCount(report.never_ran.size()) + ": " + NamesOf(report.never_ran);
}

void PrintReport(const RunArguments& arguments, const RunReport& report, std::size_t all,
                 double seconds) {
  if (arguments.json) {
    std::printf("{\"dag_id\":%s,\"completed\":%zu,\"failed\":%zu}\n",
                JsonQuote(report.dag_id).c_str(), report.completed, report.failed);
    if (!report.never_ran.empty()) PrintError("run", NeverRan(report));
    return;
  }
  std::printf("%s: %s of %s tasks completed, %s failed, in %.1f s with %s calls\n",
              report.dag_id.c_str(), FormatCount(report.completed).c_str(),
              FormatCount(all).c_str(), FormatCount(report.failed).c_str(), seconds,
              FormatCount(report.calls).c_str());
  if (report.skipped > 0) {
    std::printf("completed before this run, and not run again: %s\n",
                FormatCount(report.skipped).c_str());
  }
  if (!report.never_ran.empty()) {
    std::printf("%s\n", NeverRan(report).c_str());
  }
  if (report.completed < all) std::printf("--resume goes on with what is left\n");
}

Result<RunReport> Execute(TaskStorage& storage, const RunArguments& arguments,
                          const dag::Workflow& workflow, const ChosenRun& chosen,
                          const StopOnSignal& stop) {
  if (stop.token().stop_requested()) {
    return Status::Closed("told to stop before a task was begun");
  }
  dag::BuildOptions build;
  build.speed = arguments.speed;
  TASKWAL_ASSIGN(const Graph graph, dag::BuildGraph(workflow, build));
  Progress progress(workflow.name);
  RunOptions options;
  options.dag_id = chosen.dag_id;
  options.workers = arguments.workers;
  options.resume = arguments.resume;
  options.run_payload = dag::RunPayload(workflow.content_hash, arguments.file);
  options.stop = stop.token();
  // Of calls that wait for room: the ends of running tasks should still be kept, if there is some.
  options.writes.stop = stop.late();
  options.on_progress = [&progress](std::size_t done, std::size_t all) {
    progress.Update(done, all);
  };
  return dag::ExecuteRun(storage, graph, options, chosen.earlier);
}

Result<RunReport> ExecuteNoting(TaskStorage& storage, const RunArguments& arguments,
                                const dag::Workflow& workflow, const ChosenRun& chosen,
                                const StopOnSignal& stop) {
  if (arguments.acks.empty()) return Execute(storage, arguments, workflow, chosen, stop);
  TASKWAL_ASSIGN(const auto noted,
                 AckFile::Open(storage, arguments.acks, stop.token(), stop.late()));
  TASKWAL_ASSIGN(RunReport report, Execute(*noted, arguments, workflow, chosen, stop));
  TASKWAL_TRY(noted->written());
  return report;
}

struct Ran {
  int code = kExitDone;
  bool has_begun = true;  // false: told to stop before, or the database gave no answer
};

Ran StoppedBefore() {
  PrintError("run", "stopped before a task was begun");
  return {kExitDone, false};
}

Ran RunIn(const std::shared_ptr<TaskStorage>& storage, const RunArguments& arguments,
          const dag::Workflow& workflow, const StopOnSignal& stop) {
  const auto begin = std::chrono::steady_clock::now();
  const RunWish wish{arguments.file, arguments.options.wal_dir, arguments.run_id,
                     arguments.resume};
  ProgressBar bar("asking the database for earlier runs");
  const auto chosen = ChooseRun(storage, wish, workflow, stop.token());
  bar.End();
  if (!chosen.ok()) {
    // A database that did not answer is not waited for once more.
    return {Fail("run", chosen.status()), chosen.status().code() != StatusCode::kUnavailable};
  }
  if (chosen->is_stopped) return StoppedBefore();
  const std::size_t all = workflow.tasks.size();
  RunReport report;
  report.dag_id = chosen->dag_id;
  report.completed = report.skipped = all;
  if (!chosen->earlier.is_finished) {
    if (!arguments.json) {
      std::printf("%s: %s tasks of %s, %s completed before\n", chosen->dag_id.c_str(),
                  FormatCount(all).c_str(), arguments.file.c_str(),
                  FormatCount(chosen->earlier.completed.size()).c_str());
      std::fflush(stdout);
    }
    auto executed = ExecuteNoting(*storage, arguments, workflow, *chosen, stop);
    if (executed.status().code() == StatusCode::kClosed && stop.token().stop_requested()) {
      return StoppedBefore();
    }
    if (!executed.ok()) return {Fail("run", executed.status())};
    report = std::move(executed).value();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  PrintReport(arguments, report, all, took.count());
  std::fflush(stdout);
  // Stopped as told: what is left is for --resume, and no failure.
  const bool is_stopped = StopSignal::requested() && report.failed == 0;
  return {report.completed == all || is_stopped ? kExitDone : kExitFailed};
}

// Drains, and says what the database and the log have to say at the end.
int CloseStorage(TaskStorage& storage, const Options& options, bool damaged,
                 std::chrono::milliseconds drain_timeout) {
  const Status drained = Drain(storage, {.timeout = drain_timeout});
  ProgressBar bar("closing the log", {.limit = options.shutdown_timeout});
  const Status closed = storage.Shutdown(ShutdownMode::kImmediate, options.shutdown_timeout);
  bar.End();
  const Stats stats = storage.GetStats();
  const std::string& directory = options.wal_dir;
  const std::string quoted = ShellQuote(directory);
  int code = kExitDone;
  if (closed.code() == StatusCode::kIoError || drained.code() == StatusCode::kFenced) {
    PrintError("run", (drained.code() == StatusCode::kFenced ? drained : closed).message());
    code = kExitFailed;
  } else if (!closed.ok()) {
    PrintError("run", FormatCount(stats.pending) + " records are safe in " + directory +
                          " but not in the database yet, `taskwal recover --wal " + quoted +
                          " --db DSN` brings them: " +
                          (drained.ok() ? closed : drained).message());
    code = kExitNotDrained;
  }
  if (damaged || stats.lost > 0) {
    PrintError("run", directory + " is damaged: `taskwal verify " + quoted +
                          "` names what is lost; the rest went on");
    code = GraverExit(code, kExitDamage);
  }
  if (stats.dead_lettered > 0) {
    PrintError("run", "the database refused " + FormatCount(stats.dead_lettered) +
                          " records: `taskwal dlq list --wal " + quoted + "` shows them");
    code = GraverExit(code, kExitSomeRejected);
  }
  PrintAlarm("run", closed, stats);
  return code;
}

int RunWorkflow(const RunArguments& arguments) {
  StopSignal::Install();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is an error of write(), not the end
  // Where it is inherited as ignored, no exit code of a command could be read.
  std::signal(SIGCHLD, SIG_DFL);
  const auto targets = ResolveTargets(arguments.databases, "sqlite://taskwal.db");
  if (!targets.ok()) return Fail("run", targets.status());
  const Status place = CheckAckPlace({arguments.acks, arguments.file, arguments.options.wal_dir,
                                      arguments.databases, *targets});
  if (!place.ok()) return Fail("run", place);
  const auto workflow = dag::LoadWorkflow(arguments.file);
  if (!workflow.ok()) {
    PrintError("run", workflow.status().message());
    return kExitFailed;
  }
  bool damaged = false;
  Options options = arguments.options;
  options.on_recovery = [&damaged](const RecoveryEvent& event) { damaged = event.corrupt > 0; };
  const StopSignal::Minded minded;  // a second one ends what waits, and the log is still sealed
  std::shared_ptr<TaskStorage> storage;  // with a question that may be left behind: see Question
  Ran ran;
  // One time for all that is left to do once it is told to stop: calls that wait for room, and the
  // drain.
  std::chrono::milliseconds drain_timeout{0};
  {
    const StopOnSignal stop(
        [] {
          PrintError("run", "stopping: running tasks are told, what is acknowledged is drained");
        },
        options.shutdown_timeout);
    ProgressBar bar("opening the log, " + WaitingFor(*targets));
    auto opened = OpenStorage(*targets, options, stop.token());
    bar.End();
    if (!opened.ok()) return Fail("run", opened.status());
    storage = std::move(opened).value();
    ran = RunIn(storage, arguments, *workflow, stop);
    // Else nothing was acknowledged that could be waited for: what an earlier run left stays in the
    // log.
    if (ran.has_begun) drain_timeout = stop.patience_left();
  }
  return GraverExit(ran.code, CloseStorage(*storage, options, damaged, drain_timeout));
}

constexpr const char* kExamples =
    "A workflow in YAML, or in JSON (a file named .json, or beginning with { or [ where the name\n"
    "tells nothing):\n"
    "  name: nightly\n"
    "  tasks:\n"
    "    - {id: fetch, kind: shell, command: 'curl -o data …', retries: 3, retry_delay: 5s, "
    "timeout: 2m}\n"
    "    - {id: wait, kind: sleep, seconds: 1.5, depends_on: [fetch]}\n"
    "    - {id: done, kind: noop, depends_on: [wait]}\n"
    "Exit codes: 0 every task completed, or a signal stopped the run before that (--resume goes\n"
    "on); 1 a task failed; 2 the log is damaged; 3 the database refused records; 4 it has not got\n"
    "everything yet.\n"
    "Examples:\n"
    "  taskwal run nightly.yaml\n"
    "  taskwal run nightly.yaml --resume\n"
    "  taskwal run montage.json --speed 1000 --workers 16 --db sqlite://runs.db";

}  // namespace

void AddRunCommand(CLI::App& app, int* exit_code) {
  CLI::App* command = app.add_subcommand(
      "run", "Execute a workflow and log every step: a YAML or JSON file of ours, or a WfCommons "
             "trace (WfFormat), which is replayed.\nRuns are kept in sqlite://taskwal.db, by way "
             "of the log taskwal.wal, unless told otherwise.");
  // Shared with the callback, which outlives this function as long as the app does.
  const auto arguments = std::make_shared<RunArguments>();
  arguments->options.durability = Durability::kProcess;
  command->add_option("workflow", arguments->file, "File to execute")
      ->type_name("WORKFLOW")
      ->required();
  AddDatabasesOption(*command, &arguments->databases);
  AddWalOption(*command, &arguments->options.wal_dir, /*required=*/false);
  command
      ->add_option("--speed", arguments->speed,
                   "Replay a trace at this many times real speed; 0: without waiting (default 1)")
      ->type_name("X")
      ->check([](const std::string& text) {
        double speed = 0;
        const bool good = CLI::detail::lexical_cast(text, speed) && std::isfinite(speed);
        return good && speed >= 0 ? std::string() : "must be 0 or more, not " + text;
      });
  command->add_flag("--resume", arguments->resume,
                    "Go on with the last run of this file in this database, unless it is finished. "
                    "Which tasks are completed the database alone knows: it is waited for");
  command
      ->add_option("--run-id", arguments->run_id,
                   "The dag_id of the run (made when not given), which neither the log nor the "
                   "database may have yet. A database that is away is not waited for")
      ->type_name("ID")
      ->check([](const std::string& id) {
        const bool good = !id.empty() && id.size() <= kIdBytesMax && IsCleanText(id);
        if (!good) return std::string("must have 1 to 255 bytes of UTF-8");
        return HasControl(id) ? std::string("must have no line break or other control character")
                              : std::string();
      });
  command->add_option("--workers", arguments->workers, "Tasks that run at once (default 4)")
      ->type_name("N")
      ->check(CLI::Range(1u, 1024u));
  AddDurabilityOption(*command, &arguments->options);
  command
      ->add_option("--acks", arguments->acks,
                   "Append a line of JSON to this file for every call that is acknowledged, as "
                   "soon as it is: {\"lsn\":…,\"task_id\" or \"activity_id\":…}")
      ->type_name("FILE");
  AddSetOption(*command, &arguments->options);
  command->add_flag("--json", arguments->json,
                    "Print {\"dag_id\":…,\"completed\":N,\"failed\":N}");
  command->footer(kExamples);
  command->callback([arguments, exit_code] { *exit_code = RunWorkflow(*arguments); });
}

}  // namespace taskwal::cli

// What every command of the `taskwal` tool shares. One file per command: it adds itself to the app
// with its options, `--help` with examples in the footer, and a callback that leaves the exit code.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/status.h"
#include "taskwal/task.h"
#include "taskwal/task_storage.h"

namespace CLI {
class App;
}

namespace taskwal::cli {

// When several apply, the first that holds in this order: 64, 1, 2, 4, 3.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitDamage = 2;
inline constexpr int kExitSomeRejected = 3;
inline constexpr int kExitNotDrained = 4;
inline constexpr int kExitUsage = 64;
int GraverExit(int a, int b);

void AddRunCommand(CLI::App& app, int* exit_code);
void AddIngestCommand(CLI::App& app, int* exit_code);
void AddServeCommand(CLI::App& app, int* exit_code);
void AddRecoverCommand(CLI::App& app, int* exit_code);
void AddInspectCommand(CLI::App& app, int* exit_code);
void AddVerifyCommand(CLI::App& app, int* exit_code);
void AddDumpCommand(CLI::App& app, int* exit_code);
void AddDlqCommand(CLI::App& app, int* exit_code);      // list, show, export, retry, purge
void AddMetricsCommand(CLI::App& app, int* exit_code);
void AddTargetsCommand(CLI::App& app, int* exit_code);  // list, rebalance
void AddAdoptCommand(CLI::App& app, int* exit_code);
void AddQueryCommand(CLI::App& app, int* exit_code);    // tasks, activity, stats
void AddSchemaCommand(CLI::App& app, int* exit_code);   // print, migrate
void AddBenchCommand(CLI::App& app, int* exit_code);    // append, commit, flush, recover

// --- common.cc -----------------------------------------------------------------------------------
// "taskwal verify: cannot open DIR: …" on stderr, one line.
void PrintError(std::string_view command, std::string_view message);
// PrintError of the status, and the exit code for it: 64 for kInvalidArgument, else 1.
int Fail(std::string_view command, const Status& status);

// --db DSN (or TASKWAL_DB, or @FILE whose first line is the DSN). ResolveDsn after parsing.
void AddDatabaseOption(CLI::App& command, std::string* dsn);
Result<std::string> ResolveDsn(const std::string& given, std::string_view fallback = {});
// The first line of a file that holds a name or a secret: what @FILE stands for.
Result<std::string> FirstLineOf(const std::string& path);

// --- databases.cc --------------------------------------------------------------------------------
// --db as above, or several times [NAME[*WEIGHT]=]DSN.
void AddDatabasesOption(CLI::App& command, std::vector<std::string>* given);
Result<std::vector<TargetOptions>> ResolveTargets(const std::vector<std::string>& given,
                                                  std::string_view fallback = {});
// One database of no name, or several targets. A requested stop ends the wait for them.
Result<std::unique_ptr<TaskStorage>> OpenStorage(std::vector<TargetOptions> targets,
                                                 Options options,
                                                 const std::stop_token& stop = {});
// For eyes: "waiting for postgresql://u@host/db", "waiting for 3 databases".
std::string WaitingFor(const std::vector<TargetOptions>& targets);

// --- common.cc -----------------------------------------------------------------------------------
// --wal DIR.
void AddWalOption(CLI::App& command, std::string* directory, bool required);
// --set KEY=VALUE, for any Options field (pipeline/option_fields.h); the footer callback lists
// them, so examples go into the footer text. Applied to `options` while parsing; an unknown key or
// a bad value is a usage error naming a key that is near, or where all are listed.
void AddSetOption(CLI::App& command, Options* options);
// --durability memory|process|disk.
void AddDurabilityOption(CLI::App& command, Options* options);
// `name` DURATION, its default shown in the help.
void AddDurationOption(CLI::App& command, const std::string& name,
                       std::chrono::milliseconds* duration, const std::string& help);
// `name` LSN.
void AddLsnOption(CLI::App& command, const std::string& name, std::uint64_t* lsn,
                  const std::string& help);
Result<std::uint64_t> ParseLsn(std::string_view text);
// For CLI::Option::check: an empty value is most likely a variable that nobody set.
std::string NotEmpty(const std::string& given);
// "500ms", "30s", "2m", "1h", "0".
Result<std::chrono::milliseconds> ParseDuration(std::string_view text);
// RFC 3339, or an age such as "24h" (that long ago).
Result<Time> ParseTimeOrAge(std::string_view text);

// The first SIGINT or SIGTERM after Install makes requested() true (and wakes a blocking read with
// EINTR). A second one ends the process at once; but while it is minded (Minded lives), it makes
// insisted() true, and only a third one does.
class StopSignal {
 public:
  static void Install();
  static bool requested();
  static bool insisted();
  class Minded {
   public:
    Minded();
    ~Minded();
    Minded(const Minded&) = delete;
    Minded& operator=(const Minded&) = delete;
  };
  // Readable once requested: for poll(), so that no signal slips in between a look and a wait.
  static int fd();
};

// --- drain.cc ------------------------------------------------------------------------------------
// Waits until everything acknowledged so far is in the database or in dead letters, with a progress
// bar: for `timeout` in all, or (`while_progressing`) for that long without any progress. As
// TaskStorage::Flush; 0 asks once. A stop requested ends it, too, where it is `stoppable`, and a
// second stop signal in any case: what follows is an immediate shutdown.
struct DrainOptions {
  std::chrono::milliseconds timeout{30000};
  bool while_progressing = false;
  bool stoppable = false;
  std::chrono::milliseconds waited{0};  // of `timeout`, for progress, before
};
Status Drain(TaskStorage& storage, const DrainOptions& options);
// The wait for the first answer of the databases, at open, takes no longer than the drain may; a
// second at least, which a database that answers may need for it.
void BoundFirstContact(std::chrono::milliseconds timeout, Options* options);
// What needs a person though all went through: losses of a failover, letters near their limit.
// Nothing where `closed`, of the shutdown, has more to tell.
void PrintAlarm(std::string_view command, const Status& closed, const Stats& stats);

// --- report.cc -----------------------------------------------------------------------------------
// A table for eyes: columns padded, numbers right-aligned.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void AddRow(std::vector<std::string> cells);
  [[nodiscard]] std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// One line: what a library says over several is joined, and what a name in it holds plays with no
// terminal.
std::string OneLine(std::string_view message);
// One cell of a table: nothing in it breaks the line or plays with the terminal; cut where it is
// long.
std::string Cell(std::string text);

std::string FormatBytes(std::uint64_t bytes);    // "1.5 MiB"
std::string FormatCount(std::uint64_t count);    // "1,234,567"

}  // namespace taskwal::cli

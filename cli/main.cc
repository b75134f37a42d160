// The `taskwal` tool. Every command is a file of its own; this one names them and turns whatever
// goes wrong in parsing or by exception into one line and an exit code.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/line_logger.h"
#include "base/logging.h"
#include "base/nearest_name.h"
#include "base/threads.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/question.h"

namespace {

using namespace taskwal::cli;  // NOLINT: the tool's own names

void AddCommands(CLI::App& app, int* exit_code) {
  AddRunCommand(app, exit_code);
  AddIngestCommand(app, exit_code);
  AddServeCommand(app, exit_code);
  AddRecoverCommand(app, exit_code);
  AddInspectCommand(app, exit_code);
  AddVerifyCommand(app, exit_code);
  AddDumpCommand(app, exit_code);
  AddDlqCommand(app, exit_code);
  AddMetricsCommand(app, exit_code);
  AddTargetsCommand(app, exit_code);
  AddAdoptCommand(app, exit_code);
  AddQueryCommand(app, exit_code);
  AddSchemaCommand(app, exit_code);
  AddBenchCommand(app, exit_code);
}

// What names a file, a directory, an address or a database is never empty: in a script that is a
// variable nobody set, and no default must stand in for it.
void RefuseEmptyNames(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    const std::string type = option->get_type_name();
    const bool is_name = type == "DIR" || type == "FILE" || type == "WORKFLOW" || type == "URL" ||
                         type == "ADDRESS:PORT" || type.ends_with("DSN");
    if (!is_name) continue;
    option->check(NotEmpty);
  }
  for (CLI::App* inner : command.get_subcommands([](CLI::App* /*any*/) { return true; })) {
    RefuseEmptyNames(*inner);
  }
}

// "dlq list" of `taskwal dlq list --nonsense`, and that command.
std::string ParsedCommand(const CLI::App& app, const CLI::App** command) {
  std::string path;
  *command = &app;
  while (!(*command)->get_subcommands().empty()) {
    *command = (*command)->get_subcommands().front();
    path += (path.empty() ? "" : " ") + (*command)->get_name();
  }
  return path;
}

// What stands there and means nothing tells more than what is missing because of it.
std::string Complaint(const CLI::App& command, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = command.remaining();
  if (unknown.empty()) return error.what();
  const auto option = std::find_if(unknown.begin(), unknown.end(), [](const std::string& argument) {
    return argument.size() > 1 && argument.front() == '-';
  });
  if (option == unknown.end()) return '"' + unknown.front() + "\" was not expected";
  std::vector<std::string_view> names;
  for (const CLI::Option* known : command.get_options()) {
    if (!known->get_lnames().empty()) names.emplace_back(known->get_lnames().front());
  }
  const std::string_view given(*option);
  const std::string name(given.substr(std::min(given.find_first_not_of('-'), given.size())));
  return "there is no option \"" + *option + "\"" + taskwal::DidYouMean(name, names, "--");
}

std::string UnknownCommand(const CLI::App& app, const std::string& given) {
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* /*any*/) { return true; }))
    commands.push_back(command->get_name());
  const std::vector<std::string_view> names(commands.begin(), commands.end());
  return "there is no command \"" + given + "\"" + taskwal::DidYouMean(given, names) +
         " (see taskwal --help)";
}

// A closed standard stream would be taken by the next file that is opened. Input then ends at once;
// writing fails, as it would on the closed one.
void FillStandardStreams() {
  for (const int fd : {0, 1, 2}) {
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF) {
      [[maybe_unused]] const int opened = ::open("/dev/null", O_RDONLY);
    }
  }
}

// What was printed may never have arrived: on a full disk, say. Told here, of every command alike.
int FinishOutput(std::string_view command, int exit_code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  PrintError(command, "cannot write to standard output");
  return GraverExit(exit_code, kExitFailed);
}

// A command says what went wrong in one line, which the library's log would say twice. A server
// that may lose what it has committed is nothing that goes wrong.
void SetUpLog(const char* level) {
  if (level != nullptr) {
    taskwal::SetLogger(taskwal::MakeLineLogger(PutOnStderr));
    taskwal::Logger().set_level(spdlog::level::from_str(level));
  } else {
    taskwal::SetLogger(taskwal::MakeEventLogger(
        "server_not_durable", [](std::string_view what) { PrintError("warning", what); }));
  }
}

// `--json=false` would pass for `--json`.
void RefuseValuesOfFlags(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_max() == 0) option->disable_flag_override();
  }
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    RefuseValuesOfFlags(*command);
  }
}

int Run(int argc, char** argv) {
  CLI::App app(
      "A write-ahead log in front of a SQL database, for DAG and task engines.\n"
      "Exit codes: 0 done, 1 failed, 2 damage found, 3 some input rejected, 4 not drained "
      "(records\n"
      "are safe in the log), 64 bad usage.",
      "taskwal");
  app.set_version_flag("--version", "taskwal " TASKWAL_VERSION);
  app.require_subcommand(1);
  app.footer("TASKWAL_LOG=warn (or debug, info, error) shows the library's own log on stderr.");
  SetUpLog(std::getenv("TASKWAL_LOG"));
  int exit_code = kExitDone;
  AddCommands(app, &exit_code);
  RefuseEmptyNames(app);
  RefuseValuesOfFlags(app);
  const auto is_named = [argv](CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_named).empty()) {
    PrintError({}, UnknownCommand(app, argv[1]));
    return kExitUsage;
  }
  const CLI::App* parsed = nullptr;
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    exit_code = app.exit(asked, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    const std::string command = ParsedCommand(app, &parsed);
    const std::string see = command.empty() ? "taskwal --help" : "taskwal " + command + " --help";
    PrintError(command, Complaint(*parsed, error) + " (see " + see + ")");
    return kExitUsage;
  }
  return FinishOutput(ParsedCommand(app, &parsed), exit_code);
}

}  // namespace

int main(int argc, char** argv) {
  FillStandardStreams();
  int exit_code = kExitFailed;
  try {
    exit_code = Run(argc, argv);
  } catch (const std::system_error& error) {
    const bool has_no_thread = error.code() == std::errc::resource_unavailable_try_again;
    PrintError({}, has_no_thread ? taskwal::NoMoreThreads().message() : error.what());
  } catch (const std::exception& error) {
    PrintError({}, error.what());
  } catch (...) {
    PrintError({}, "unknown exception");
  }
  EndProcess(exit_code);
}

// taskwal serve: the daemon. HTTP in front of one log, until a signal ends it.
#include <poll.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/clock.h"
#include "base/logging.h"
#include "base/shell_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "config/daemon_config.h"
#include "server/access.h"
#include "server/http_server.h"
#include "server/service.h"

namespace taskwal::cli {
namespace {

struct ServeArguments {
  config::DaemonConfig config;
  std::vector<std::string> databases;  // instead of what the file names
};

// What the command line names, else the file, else the environment.
Result<std::vector<TargetOptions>> TargetsOf(const ServeArguments& arguments) {
  const config::DaemonConfig& config = arguments.config;
  if (!arguments.databases.empty()) return ResolveTargets(arguments.databases);
  if (config.options.targets.empty()) {
    return config.database.empty() ? ResolveTargets({}) : ResolveTargets({config.database});
  }
  std::vector<TargetOptions> targets = config.options.targets;
  for (TargetOptions& target : targets) {
    TASKWAL_ASSIGN(target.dsn, ResolveDsn(target.dsn));
  }
  return targets;
}

Result<std::string> TokenOf(const config::DaemonConfig& config) {
  std::string token = config.server.token;
  if (token.empty()) {
    if (const char* from_environment = std::getenv("TASKWAL_TOKEN")) token = from_environment;
  }
  if (token.starts_with('@')) return FirstLineOf(token.substr(1));
  return token;
}

void SetLogLevel(const std::string& level) {
  if (std::getenv("TASKWAL_LOG") == nullptr) {
    Logger().set_level(spdlog::level::from_str(level));
  }
}

void AwaitStop() {
  pollfd polled{StopSignal::fd(), POLLIN, 0};
  while (::poll(&polled, 1, -1) < 0 && errno == EINTR && !StopSignal::requested()) {
  }
}

int ExitOf(const Status& drained, const Stats& stats, std::uint64_t damaged,
           const Options& options) {
  int exit_code = kExitDone;
  if (damaged > 0 || stats.lost > 0) {
    PrintError("serve", options.wal_dir + " is damaged: `taskwal verify " +
                            ShellQuote(options.wal_dir) + "` names what is lost; the rest went on");
    exit_code = GraverExit(exit_code, kExitDamage);
  }
  if (drained.ok()) return exit_code;
  PrintError("serve", drained.message());
  return GraverExit(exit_code,
                    drained.code() == StatusCode::kUnavailable ? kExitNotDrained : kExitFailed);
}

// Callers may connect as soon as the address is bound, and are answered once the log is open.
int Serve(const config::DaemonConfig& config, std::vector<TargetOptions> targets) {
  server::Router router;
  auto http = server::HttpServer::Bind(config.server, router);
  if (!http.ok()) return Fail("serve", http.status());
  Options options = config.options;
  options.targets.clear();
  std::uint64_t damaged = 0;
  options.on_recovery = [&damaged](const RecoveryEvent& event) { damaged = event.corrupt; };
  const auto storage = OpenStorage(std::move(targets), options);
  if (!storage.ok()) return Fail("serve", storage.status());

  server::Service service(**storage, options, Clock::Real());
  server::AddIngestRoutes(router, service);
  server::AddQueryRoutes(router, service);
  server::AddAdminRoutes(router, service);
  server::AddBufferRoutes(router, service);
  server::AddLetterRoutes(router, service);
  server::AddPageRoutes(router);
  (*http)->Serve();
  std::printf("taskwal serve: listening on %s\n", (*http)->url().c_str());
  std::fflush(stdout);
  const StopSignal::Minded minded;  // the second one ends the drain, and the log is still sealed
  AwaitStop();
  service.is_stopping = true;
  (*http)->Stop();
  const Status drained = Drain(**storage, {.timeout = options.shutdown_timeout});
  const Status closed = (*storage)->Shutdown(ShutdownMode::kImmediate, options.shutdown_timeout);
  const bool is_fenced = drained.code() == StatusCode::kFenced;
  return ExitOf(is_fenced ? drained : closed, (*storage)->GetStats(), damaged, options);
}

int RunServe(ServeArguments arguments) {
  auto targets = TargetsOf(arguments);
  if (!targets.ok()) return Fail("serve", targets.status());
  auto token = TokenOf(arguments.config);
  if (!token.ok()) return Fail("serve", token.status());
  arguments.config.server.token = std::move(token).value();
  SetLogLevel(arguments.config.log_level);
  std::signal(SIGPIPE, SIG_IGN);  // a caller that has gone is an error of write(), not the end
  StopSignal::Install();
  return Serve(arguments.config, std::move(targets).value());
}

// The file is read while parsing, so that the options behind it go on top of it.
void AddConfigOption(CLI::App& command, config::DaemonConfig* config) {
  command
      .add_option_function<std::string>(
          "--config",
          [config](const std::string& file) {
            auto loaded = config::LoadConfig(file);
            if (!loaded.ok()) throw CLI::ValidationError("--config", loaded.status().message());
            *config = std::move(loaded).value();
          },
          "YAML file; examples/config/annotated.yaml explains every key")
      ->type_name("FILE");
}

}  // namespace

void AddServeCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<ServeArguments>();  // shared with the callback
  CLI::App* command =
      app.add_subcommand("serve", "The daemon: operations over HTTP, metrics, a dashboard");
  // First: CLI11 takes options in the order in which they were added.
  AddConfigOption(*command, &arguments->config);
  command
      ->add_option("--listen", arguments->config.server.listen,
                   "Address instead of the file's; port 0 picks a free one (default "
                   "127.0.0.1:8080)")
      ->type_name("ADDRESS:PORT");
  AddWalOption(*command, &arguments->config.options.wal_dir, false);
  AddDatabasesOption(*command, &arguments->databases);
  AddSetOption(*command, &arguments->config.options);
  command->footer(
      "The address is printed on stdout. SIGTERM or SIGINT stops it and brings what is left into "
      "the\n"
      "database; a second one ends it at once (the log keeps all).\n"
      "An address that is not loopback needs a token: server.token in the file, or "
      "TASKWAL_TOKEN.\n"
      "Exit codes: 0 done, 1 failed, 2 damage found, 4 not drained, 64 bad usage.\n"
      "Examples:\n"
      "  taskwal serve --config taskwal.yaml\n"
      "  taskwal serve --db sqlite://tasks.db --wal tasks.wal --listen 127.0.0.1:0\n"
      "  curl -d '[{\"op\":\"save_task\",\"task\":{\"id\":\"t1\"}}]' "
      "http://127.0.0.1:8080/api/v1/logs");
  command->callback([arguments, exit_code] { *exit_code = RunServe(*arguments); });
}

}  // namespace taskwal::cli

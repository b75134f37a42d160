// taskwal serve: the daemon. HTTP in front of one log, until a signal ends it.
#include <poll.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/line_logger.h"
#include "base/logging.h"
#include "base/posix_file.h"
#include "base/shell_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/stop_on_signal.h"
#include "config/daemon_config.h"
#include "config/reload.h"
#include "server/access.h"
#include "server/http_server.h"
#include "server/service.h"

namespace taskwal::cli {
namespace {

constexpr auto kSignalPoll = std::chrono::milliseconds(20);

struct ServeArguments {
  std::string file;           // --config
  config::DaemonConfig read;  // as it says
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

// SIGHUP reads the file again. Blocked in all threads, so made before any of them.
class Hangups {
 public:
  Hangups() {
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    ::pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
    signals_ = UniqueFd(::signalfd(-1, &hangup, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  [[nodiscard]] int fd() const { return signals_.get(); }
  // Several that came meanwhile are one.
  void Take() const {
    signalfd_siginfo one{};
    while (::read(signals_.get(), &one, sizeof one) > 0) {
    }
  }

 private:
  UniqueFd signals_;
};

void ReadAgain(config::Reloader* reloader, Control* control) {
  if (reloader == nullptr) {
    Logger().warn("config event=not_reloaded error=\"there is no --config\"");
    return;
  }
  const auto report = reloader->Reload(control);
  if (!report.ok()) {
    Logger().error("config event=not_reloaded error=\"{}\"", report.status().message());
    return;
  }
  for (const std::string& key : report->applied) Logger().info("config event=applied key={}", key);
  for (const std::string& key : report->need_restart) {
    Logger().warn("config event=needs_restart key={}", key);
  }
  Logger().info("config event=reloaded");
}

void AwaitStop(const Hangups& hangups, config::Reloader* reloader, Control* control) {
  pollfd polled[] = {{StopSignal::fd(), POLLIN, 0}, {hangups.fd(), POLLIN, 0}};
  while (!StopSignal::requested()) {
    if (::poll(polled, std::size(polled), -1) < 0 && errno != EINTR) return;
    if (polled[1].revents == 0) continue;
    hangups.Take();
    ReadAgain(reloader, control);
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

// A database that does not answer is not waited for once a signal has come; a second one ends it.
Result<std::unique_ptr<TaskStorage>> Open(std::vector<TargetOptions> targets, Options options) {
  const StopOnSignal stop;
  const ProgressBar bar("opening the log, " + WaitingFor(targets));
  return OpenStorage(std::move(targets), std::move(options), stop.token());
}

using std::chrono::milliseconds;
using std::chrono::steady_clock;

milliseconds LeftUntil(steady_clock::time_point until) {
  const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
  return std::max(left, milliseconds(0));
}

// Until a second signal, too.
Status EndRequestsAndDrain(server::HttpServer* http, TaskStorage* storage, const Options& options,
                           steady_clock::time_point until) {
  const ProgressBar bar("ending requests", {.limit = options.shutdown_timeout});
  http->End();
  while (!http->AwaitEnd(std::min(until, steady_clock::now() + kSignalPoll)) &&
         !StopSignal::insisted() && steady_clock::now() < until) {
  }
  return Drain(*storage, {.timeout = LeftUntil(until)});
}

// Callers may connect as soon as the address is bound, and are answered once the log is open.
int Serve(const config::DaemonConfig& config, std::vector<TargetOptions> targets,
          config::Reloader* reloader) {
  const Hangups hangups;
  server::Router router;
  auto http = server::HttpServer::Bind(config.server, router);
  if (!http.ok()) return Fail("serve", http.status());
  Options options = config.options;
  options.targets.clear();
  std::uint64_t damaged = 0;
  options.on_recovery = [&damaged](const RecoveryEvent& event) { damaged = event.corrupt; };
  auto storage = Open(std::move(targets), options);
  if (!storage.ok()) return Fail("serve", storage.status());

  server::Service service(**storage, options, Clock::Real());
  server::AddIngestRoutes(router, service);
  server::AddQueryRoutes(router, service);
  server::AddAdminRoutes(router, service);
  server::AddBufferRoutes(router, service);
  server::AddLetterRoutes(router, service);
  server::AddPageRoutes(router);
  const Status serving = (*http)->Serve();
  if (!serving.ok()) return Fail("serve", serving);
  std::printf("taskwal serve: listening on %s\n", (*http)->url().c_str());
  std::fflush(stdout);
  const StopSignal::Minded minded;  // the second one ends the drain, and the log is still sealed
  AwaitStop(hangups, reloader, (*storage)->GetControl());
  service.stopping.request_stop();
  // One deadline for all of it.
  const auto until = steady_clock::now() + options.shutdown_timeout;
  const Status drained = EndRequestsAndDrain(http->get(), storage->get(), options, until);
  ProgressBar closing("closing the log", {.limit = options.shutdown_timeout});
  const Status closed =
      StopSignal::insisted()
          ? (*storage)->Shutdown(ShutdownMode::kImmediate, options.shutdown_timeout)
          : (*storage)->Shutdown(ShutdownMode::kGraceful, LeftUntil(until));
  closing.End();
  // What is still under way waited for the storage, or for its caller.
  (*http)->Cut();
  (*http)->Stop();
  const bool is_fenced = drained.code() == StatusCode::kFenced;
  return ExitOf(is_fenced ? drained : closed, (*storage)->GetStats(), damaged, options);
}

int RunServe(ServeArguments arguments) {
  auto targets = TargetsOf(arguments);
  if (!targets.ok()) return Fail("serve", targets.status());
  auto token = TokenOf(arguments.config);
  if (!token.ok()) return Fail("serve", token.status());
  std::optional<config::Reloader> reloader;
  if (!arguments.file.empty()) {
    reloader.emplace(arguments.file, arguments.read, arguments.config);
  }
  arguments.config.server.token = std::move(token).value();
  // A daemon has no other voice.
  if (std::getenv("TASKWAL_LOG") == nullptr) SetLogger(MakeLineLogger(PutOnStderr));
  config::SetLogLevel(arguments.config.log_level);
  std::signal(SIGPIPE, SIG_IGN);  // a caller that has gone is an error of write(), not the end
  StopSignal::Install();
  return Serve(arguments.config, std::move(targets).value(), reloader ? &*reloader : nullptr);
}

// The file is read while parsing, so that the options behind it go on top of it.
void AddConfigOption(CLI::App& command, ServeArguments* arguments) {
  command
      .add_option_function<std::string>(
          "--config",
          [arguments](const std::string& file) {
            auto loaded = config::LoadConfig(file);
            if (!loaded.ok()) throw CLI::ValidationError("--config", loaded.status().message());
            arguments->file = file;
            arguments->read = std::move(loaded).value();
            arguments->config = arguments->read;
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
  AddConfigOption(*command, arguments.get());
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
      "database; a second one ends it at once (the log keeps all). SIGHUP reads the file again.\n"
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

// taskwal ingest: NDJSON in, one answer per line out, as soon as its durability level is reached.
//
// What has arrived is appended as a group, waited for once and answered with one write. A group
// ends where the input pauses, so that no answer waits for a line that may never come.
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <climits>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>

#include "base/json_text.h"
#include "base/shell_text.h"
#include "cli/command.h"
#include "cli/line_reader.h"
#include "cli/progress.h"
#include "cli/stop_on_signal.h"
#include "pipeline/append_operation.h"
#include "pipeline/option_fields.h"
#include "storage/ingest_line.h"
#include "taskwal/open.h"

namespace taskwal::cli {
namespace {

// A payload of 16 MiB beside a message of 1 MiB whose every byte is escaped.
constexpr std::size_t kLineBytesMax = 40u << 20;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kGroupLines = 8192;
constexpr std::size_t kGroupBytes = 4u << 20;
// A sync that takes longer leaves the lines of its group in doubt.
constexpr auto kSyncTimeout = std::chrono::seconds(60);
// How long, once told to stop, a reader of the answers may take none.
constexpr auto kReaderPatience = std::chrono::seconds(5);
constexpr int kReaderPollMs = 100;

struct IngestArguments {
  std::vector<std::string> databases;
  Options options;
  std::chrono::milliseconds drain_timeout{30000};
  bool json = false;
};

struct IngestReport {
  std::uint64_t lines = 0;
  std::uint64_t acknowledged = 0;
  std::uint64_t rejected = 0;  // nothing of it is kept
  std::uint64_t in_doubt = 0;
  bool output_closed = false;
  bool failed = false;  // input or log broke
};

bool IsReady(int fd) {
  pollfd polled{fd, POLLIN, 0};
  return ::poll(&polled, 1, 0) > 0;
}

void PutNumber(std::uint64_t number, std::string* out) {
  char digits[20];
  out->append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

using Appended = pipeline::AppendedOperation;

class Ingest {
 public:
  Ingest(TaskStorage& storage, Durability level)
      : storage_(storage), level_(level), reader_(STDIN_FILENO, kLineBytesMax) {
    struct stat input {};
    // Of a pipe nobody knows how much will come, and most of the time it is waited for.
    if (::fstat(STDIN_FILENO, &input) != 0 || !S_ISREG(input.st_mode)) return;
    input_bytes_ = static_cast<std::uint64_t>(input.st_size);
    bar_.emplace("taking lines", ProgressOptions{.beside_output = true});
  }

  // Until the input ends or a stop is requested.
  void Run() {
    for (;;) {
      std::string_view line;
      switch (reader_.Next(&line)) {
        case LineReader::Line::kWhole:
          if (StopSignal::requested()) return Settle();
          Take(line);
          continue;
        case LineReader::Line::kTooLong:
          Refuse("the line is longer than 40 MiB");
          continue;
        case LineReader::Line::kEnd:
          Settle();
          return;
        case LineReader::Line::kMore:
          break;
      }
      if (!IsReady(STDIN_FILENO)) Settle();
      if (report_.output_closed || !WaitForInput()) break;
      if (reader_.Fill() == LineReader::Filled::kFailed) {
        PrintError("ingest", "cannot read standard input: " + std::string(std::strerror(errno)));
        report_.failed = true;
      }
      TellProgress();
    }
    Settle();
  }

  [[nodiscard]] const IngestReport& report() const { return report_; }

 private:
  struct Answer {
    std::uint64_t line = 0;
    std::uint64_t lsn = 0;
    std::string error;
  };

  // False when a stop is requested.
  static bool WaitForInput() {
    std::array<pollfd, 2> polled{{{STDIN_FILENO, POLLIN, 0}, {StopSignal::fd(), POLLIN, 0}}};
    while (::poll(polled.data(), polled.size(), -1) < 0 && errno == EINTR) {
    }
    return !StopSignal::requested();
  }

  void TellProgress() {
    const off_t at = bar_ ? ::lseek(STDIN_FILENO, 0, SEEK_CUR) : -1;
    if (at > 0) bar_->Update(static_cast<std::uint64_t>(at), input_bytes_);
  }

  void Take(std::string_view line) {
    // As editors put it in front of a file's text.
    if (report_.lines == 0 && line.starts_with(kByteOrderMark)) {
      line.remove_prefix(kByteOrderMark.size());
    }
    Result<storage::OperationBody> operation = storage::ParseIngestLine(line);
    if (!operation.ok()) {
      Refuse(operation.status().message());
      return;
    }
    // Where there is no room, what was acknowledged before is answered before the waiting begins.
    Result<Appended> ack = Append(*operation, /*only_if_room=*/true);
    if (IsOverloaded(ack)) {
      Settle();
      ack = Append(*operation, /*only_if_room=*/false);
      // Told to stop while it waited: the line is not taken.
      if (IsOverloaded(ack) && StopSignal::requested()) return;
    }
    group_bytes_ += line.size();
    if (ack.ok() && ack->lsn == 0) return Refuse("below min_activity_level: not kept");
    if (ack.ok()) {
      AddAnswer({++report_.lines, ack->lsn, {}});
      return;
    }
    const StatusCode code = ack.status().code();
    if (code == StatusCode::kIoError || code == StatusCode::kClosed) report_.failed = true;
    if (code == StatusCode::kInDoubt) {
      ++report_.in_doubt;
      AddAnswer({++report_.lines, ack.status().lsn(), ack.status().message()});
    } else {
      Refuse(ack.status().message());
    }
  }

  static bool IsOverloaded(const Result<Appended>& ack) {
    return ack.status().code() == StatusCode::kOverloaded;
  }

  Result<Appended> Append(const storage::OperationBody& operation, bool only_if_room) {
    WriteOptions options;
    if (!only_if_room) options.stop = stop_.token();
    options.durability = level_;
    options.wait = WaitFor::kAppended;
    options.only_if_room = only_if_room;
    return pipeline::AppendOperation(storage_, operation, options);
  }

  void Refuse(std::string error) {
    ++report_.rejected;
    AddAnswer({++report_.lines, 0, std::move(error)});
  }

  void AddAnswer(Answer answer) {
    group_.push_back(std::move(answer));
    if (group_.size() >= kGroupLines || group_bytes_ >= kGroupBytes) Settle();
  }

  // Waits for the group's durability and answers it.
  void Settle() {
    if (group_.empty()) return;
    std::uint64_t last = 0;
    for (const Answer& answer : group_) last = answer.error.empty() ? answer.lsn : last;
    Status settled;
    if (last > 0) settled = storage_.Wait(last, WaitFor::kAcknowledged, level_, kSyncTimeout);
    for (Answer& answer : group_) {
      if (!answer.error.empty()) continue;
      if (!settled.ok() && !IsAcknowledged(answer.lsn)) {
        answer.error = settled.message();
        ++report_.in_doubt;
        report_.failed = true;
      } else {
        ++report_.acknowledged;
      }
    }
    for (const Answer& answer : group_) Print(answer);
    group_.clear();
    group_bytes_ = 0;
    WriteOut();
  }

  bool IsAcknowledged(std::uint64_t lsn) {
    return storage_.Wait(lsn, WaitFor::kAcknowledged, level_, std::chrono::milliseconds(0)).ok();
  }

  void Print(const Answer& answer) {
    out_ += "{\"line\":";
    PutNumber(answer.line, &out_);
    if (answer.lsn > 0) {
      out_ += ",\"lsn\":";
      PutNumber(answer.lsn, &out_);
    }
    if (!answer.error.empty()) out_ += ",\"error\":" + JsonQuote(answer.error);
    out_ += "}\n";
  }

  // False where the reader takes nothing though this is told to stop: for a while, or twice.
  static bool AwaitReader() {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      pollfd output{STDOUT_FILENO, POLLOUT, 0};
      if (::poll(&output, 1, kReaderPollMs) > 0) return true;
      const bool is_stopped = StopSignal::requested();
      if (!is_stopped) continue;
      if (StopSignal::insisted()) return false;
      if (std::chrono::steady_clock::now() - begin > kReaderPatience) return false;
    }
  }

  void WriteOut() {
    std::string_view left = out_;
    while (!left.empty() && !report_.output_closed) {
      if (!AwaitReader()) {
        PrintError("ingest", "told to stop, and nobody reads the answers; what was acknowledged is "
                             "drained");
        report_.output_closed = true;
        break;
      }
      // A pipe that is ready takes so much without waiting.
      const std::size_t bytes = std::min<std::size_t>(left.size(), PIPE_BUF);
      const ssize_t written = ::write(STDOUT_FILENO, left.data(), bytes);
      if (written >= 0) {
        left.remove_prefix(static_cast<std::size_t>(written));
      } else if (errno != EINTR) {
        PrintError("ingest", "cannot write answers: " + std::string(std::strerror(errno)) +
                                 "; what was acknowledged is drained");
        report_.output_closed = true;
      }
    }
    out_.clear();
  }

  TaskStorage& storage_;
  const Durability level_;
  const StopOnSignal stop_;  // for calls that wait
  LineReader reader_;
  std::uint64_t input_bytes_ = 0;
  std::optional<ProgressBar> bar_;  // where the input is a file
  std::vector<Answer> group_;
  std::size_t group_bytes_ = 0;
  std::string out_;
  IngestReport report_;
};

void PrintReport(const IngestArguments& arguments, const IngestReport& report, const Stats& stats,
                 bool drained) {
  if (arguments.json) {
    std::fprintf(stderr,
                 "{\"lines\":%llu,\"acknowledged\":%llu,\"rejected\":%llu,\"in_doubt\":%llu,"
                 "\"applied\":%llu,\"dead_lettered\":%llu,\"lost\":%llu,\"pending\":%llu,"
                 "\"drained\":%s}\n",
                 static_cast<unsigned long long>(report.lines),
                 static_cast<unsigned long long>(report.acknowledged),
                 static_cast<unsigned long long>(report.rejected),
                 static_cast<unsigned long long>(report.in_doubt),
                 static_cast<unsigned long long>(stats.applied),
                 static_cast<unsigned long long>(stats.dead_lettered),
                 static_cast<unsigned long long>(stats.lost),
                 static_cast<unsigned long long>(stats.pending), drained ? "true" : "false");
    return;
  }
  if (report.rejected > 0) {
    PrintError("ingest", FormatCount(report.rejected) + " of " + FormatCount(report.lines) +
                             " lines were rejected: their answers say why");
  }
  if (report.in_doubt > 0) {
    PrintError("ingest", FormatCount(report.in_doubt) +
                             " lines are in doubt: they have an LSN and may still take effect");
  }
  if (stats.dead_lettered > 0) {
    PrintError("ingest", FormatCount(stats.dead_lettered) +
                             " records were refused by the database: `taskwal dlq list --wal " +
                             ShellQuote(arguments.options.wal_dir) + "` shows them");
  }
}

void PrintDamage(const std::string& directory) {
  PrintError("ingest", directory + " is damaged: `taskwal verify " + ShellQuote(directory) +
                           "` names what is lost; the rest went on");
}

int RunIngest(IngestArguments arguments) {
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail("ingest", targets.status());
  std::signal(SIGPIPE, SIG_IGN);  // a closed output is an error of write(), not the end
  StopSignal::Install();
  const StopSignal::Minded minded;  // the second one ends the drain, and the log is still sealed
  std::uint64_t damaged = 0;
  arguments.options.on_recovery = [&damaged](const RecoveryEvent& event) {
    damaged = event.corrupt;
  };
  ProgressBar bar("opening the log, " + WaitingFor(*targets));
  const auto storage = OpenStorage(*targets, arguments.options);
  bar.End();
  if (!storage.ok()) return Fail("ingest", storage.status());

  IngestReport report;
  {
    Ingest ingest(**storage, arguments.options.durability);
    ingest.Run();
    report = ingest.report();
  }
  const Status flushed = Drain(**storage, {arguments.drain_timeout, false, false});
  ProgressBar closing("closing the log", {.limit = arguments.drain_timeout});
  const Status closed = (*storage)->Shutdown(ShutdownMode::kImmediate, arguments.drain_timeout);
  closing.End();
  const Stats stats = (*storage)->GetStats();
  PrintReport(arguments, report, stats, closed.ok());

  int exit_code = report.failed || report.output_closed ? kExitFailed : kExitDone;
  if (damaged > 0 || stats.lost > 0) {
    PrintDamage(arguments.options.wal_dir);
    exit_code = GraverExit(exit_code, kExitDamage);
  }
  PrintAlarm("ingest", closed, stats);
  if (!closed.ok()) {
    const bool is_refused =
        closed.code() == StatusCode::kIoError || flushed.code() == StatusCode::kFenced;
    const std::string advice = "; `taskwal recover --wal " +
                               ShellQuote(arguments.options.wal_dir) + " --db DSN` brings them";
    PrintError("ingest", closed.message() + (flushed.ok() ? "" : ": " + flushed.message()) +
                             (is_refused ? "" : advice));
    exit_code = GraverExit(exit_code, is_refused ? kExitFailed : kExitNotDrained);
  }
  return report.rejected > 0 ? GraverExit(exit_code, kExitSomeRejected) : exit_code;
}

}  // namespace

void AddIngestCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<IngestArguments>();  // shared with the callback
  CLI::App* command = app.add_subcommand(
      "ingest", "Take operations as NDJSON on stdin, answer each line on stdout");
  AddWalOption(*command, &arguments->options.wal_dir, true);
  AddDatabasesOption(*command, &arguments->databases);
  AddDurabilityOption(*command, &arguments->options);
  AddDurationOption(*command, "--drain-timeout", &arguments->drain_timeout,
                    "At end of input, wait this long for the database; 0: do not wait");
  command->add_flag("--json", arguments->json, "Print a report as JSON on stderr at the end");
  AddSetOption(*command, &arguments->options);
  command->footer(
      "Lines: {\"op\":\"save_task\",\"task\":{\"id\":\"t1\",…}}\n"
      "       {\"op\":\"update_status\",\"task_id\":\"t1\",\"status\":\"running\"}\n"
      "       {\"op\":\"delete_task\",\"task_id\":\"t1\"}\n"
      "       {\"op\":\"save_tasks\",\"tasks\":[{\"id\":\"t1\",…},…]} (all or none)\n"
      "       {\"op\":\"delete_dag\",\"dag_id\":\"d1\"}\n"
      "       {\"op\":\"log_activity\",\"activity\":{\"task_id\":\"t1\",\"action\":\"start\",…}}\n"
      "Answers: {\"line\":1,\"lsn\":1} or {\"line\":2,\"error\":\"…\"}\n"
      "Exit codes: 0 done, 1 the input, the answers or the log failed, 2 the log is damaged, 3\n"
      "some lines were rejected, 4 the database has not got everything yet.\n"
      "Example: taskwal ingest --wal w --db sqlite://tasks.db < operations.ndjson");
  command->callback([arguments, exit_code] { *exit_code = RunIngest(*arguments); });
}

}  // namespace taskwal::cli

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>

#include "base/nearest_name.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "pipeline/option_fields.h"
#include "pipeline/query_text.h"

namespace taskwal::cli {
namespace {

// CLI11 reports what a parser throws as a usage error.
[[noreturn]] void ThrowUsage(const std::string& option, const Status& status) {
  throw CLI::ValidationError(option, status.message());
}

// Given by --wal, and by nothing else.
constexpr std::string_view kDirectoryOption = "wal_dir";

std::string OptionsHelp() {
  const Options defaults;
  std::string text = "Options for --set KEY=VALUE (default; what it does):\n";
  for (const auto& field : pipeline::OptionFields()) {
    if (field.name == kDirectoryOption) continue;
    std::string name =
        "  " + std::string(field.name) + " = " + pipeline::GetOption(defaults, field.name);
    name.resize(std::max<std::size_t>(name.size() + 2, 38), ' ');
    text += name + std::string(field.effect) + " (" + std::string(field.unit) + ")\n";
  }
  return text;
}

// Keys that --set takes, and no other: where none is near, what lists them is named.
Status CheckKey(const std::string& name) {
  if (name == kDirectoryOption) return Status::InvalidArgument("the directory is given by --wal");
  std::vector<std::string_view> keys;
  for (const auto& field : pipeline::OptionFields()) {
    if (field.name == name) return Status::Ok();
    if (field.name != kDirectoryOption) keys.push_back(field.name);
  }
  const std::string meant = DidYouMean(name, keys);
  return Status::InvalidArgument("there is no key \"" + name + "\"" +
                                 (meant.empty() ? ": the end of --help lists them all" : meant));
}

// Written by a signal handler: only lock-free atomics and a pipe.
std::atomic<int> stop_signals{0};
std::atomic<int> minded{0};
std::atomic<std::int64_t> first_stop_ms{0};
std::atomic<int> first_stop_signal{0};
// Within it the same signal is the same wish: timeout(1) signals the process and then its group.
constexpr std::int64_t kSameWishMs = 50;
int stop_pipe[2] = {-1, -1};

void OnStopSignal(int signal) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::int64_t now_ms = std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
  std::int64_t first = 0;
  if (first_stop_ms.compare_exchange_strong(first, now_ms)) {
    first_stop_signal.store(signal);
  } else if (now_ms - first < kSameWishMs && first_stop_signal.load() == signal) {
    return;
  }
  const int before = stop_signals.fetch_add(1);
  if (before > 1 || (before == 1 && minded.load() == 0)) ::_exit(128 + signal);
  if (before == 1) return;
  const int saved = errno;
  // The pipe is empty but for this byte, so the write cannot fail for want of room.
  [[maybe_unused]] const auto written = ::write(stop_pipe[1], "x", 1);
  errno = saved;
}

}  // namespace

std::string OneLine(std::string_view message) {
  std::string line(message);
  while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
  for (std::size_t at = 0; (at = line.find('\n', at)) != std::string::npos;) {
    line.replace(at, 1, "; ");
  }
  std::replace(line.begin(), line.end(), '\t', ' ');
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  std::replace_if(line.begin(), line.end(), is_control, '?');
  return line;
}

void PrintError(std::string_view command, std::string_view message) {
  const std::string line =
      "taskwal" + (command.empty() ? "" : " " + std::string(command)) + ": " + OneLine(message);
  PutOnStderr(line + "\n");
}

int Fail(std::string_view command, const Status& status) {
  PrintError(command, status.message());
  return status.code() == StatusCode::kInvalidArgument ? kExitUsage : kExitFailed;
}

int GraverExit(int a, int b) {
  for (const int code :
       {kExitUsage, kExitFailed, kExitDamage, kExitNotDrained, kExitSomeRejected}) {
    if (a == code || b == code) return code;
  }
  return kExitDone;
}

void AddDatabaseOption(CLI::App& command, std::string* dsn) {
  command
      .add_option("--db", *dsn,
                  "Database: sqlite://FILE, memory:, or @FILE whose first line names it "
                  "(TASKWAL_DB when not given)")
      ->type_name("DSN");
}

Result<std::string> ResolveDsn(const std::string& given, std::string_view fallback) {
  std::string dsn = given;
  if (dsn.empty()) {
    if (const char* from_environment = std::getenv("TASKWAL_DB")) dsn = from_environment;
  }
  if (dsn.empty()) dsn = std::string(fallback);
  if (dsn.empty()) return Status::InvalidArgument("no database: give --db DSN or set TASKWAL_DB");
  if (dsn == "@") return Status::InvalidArgument("no file is named behind the @ of the database");
  if (dsn.front() == '@') return FirstLineOf(dsn.substr(1));
  return dsn;
}

Result<std::string> FirstLineOf(const std::string& path) {
  errno = 0;
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) {
    std::string why = errno != 0 ? std::strerror(errno) : "it is empty";
    if (errno == EISDIR) why += ": name a file";
    if (errno == ENOENT) why += ": name a file that is there";
    return Status::InvalidArgument("cannot read a first line from " + path + ": " + why);
  }
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  if (line.empty()) return Status::InvalidArgument("the first line of " + path + " is empty");
  return line;
}

void AddWalOption(CLI::App& command, std::string* directory, bool required) {
  command.add_option("--wal", *directory, "Log directory")
      ->type_name("DIR")
      ->required(required);
}

void AddSetOption(CLI::App& command, Options* options) {
  command
      .add_option_function<std::vector<std::string>>(
          "--set",
          [options](const std::vector<std::string>& settings) {
            for (const std::string& setting : settings) {
              const auto equals = setting.find('=');
              if (equals == std::string::npos) {
                ThrowUsage("--set", Status::InvalidArgument("expected KEY=VALUE, got " + setting));
              }
              const std::string name = setting.substr(0, equals);
              if (const Status key = CheckKey(name); !key.ok()) ThrowUsage("--set", key);
              const Status set = pipeline::SetOption(options, name, setting.substr(equals + 1));
              if (!set.ok()) ThrowUsage("--set", set);
            }
            const Status checked = pipeline::CheckOptions(*options);
            if (!checked.ok()) ThrowUsage("--set", checked);
          },
          "Set any option of the log or the flusher, listed below (repeatable)")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.footer(OptionsHelp);
}

void AddDurabilityOption(CLI::App& command, Options* options) {
  command
      .add_option_function<std::string>(
          "--durability",
          [options](const std::string& text) {
            const auto level = pipeline::ParseDurability(text);
            if (!level.ok()) ThrowUsage("--durability", level.status());
            options->durability = *level;
          },
          "When a record is acknowledged: memory, process or disk (default " +
              std::string(pipeline::DurabilityName(options->durability)) + ")")
      ->type_name("LEVEL");
}

void AddDurationOption(CLI::App& command, const std::string& name,
                       std::chrono::milliseconds* duration, const std::string& help) {
  command
      .add_option_function<std::string>(
          name,
          [name, duration](const std::string& text) {
            const auto parsed = pipeline::ParseDuration(text);
            if (!parsed.ok()) ThrowUsage(name, parsed.status());
            *duration = *parsed;
          },
          help + " (default " + pipeline::FormatDuration(*duration) + ")")
      ->type_name("DURATION");
}

// Decimal, and all of it: 010 is ten, and what does not fit is not the largest that does.
Result<std::uint64_t> ParseLsn(std::string_view text) {
  std::uint64_t lsn = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, lsn);
  if (error == std::errc() && stop == end) return lsn;
  return Status::InvalidArgument("\"" + std::string(text) + "\" is no LSN: write a number such as "
                                 "1042");
}

void AddLsnOption(CLI::App& command, const std::string& name, std::uint64_t* lsn,
                  const std::string& help) {
  command
      .add_option_function<std::string>(
          name,
          [name, lsn](const std::string& text) {
            const auto parsed = ParseLsn(text);
            if (!parsed.ok()) ThrowUsage(name, parsed.status());
            *lsn = *parsed;
          },
          help)
      ->type_name("LSN");
}

std::string NotEmpty(const std::string& given) { return given.empty() ? "must not be empty" : ""; }

Result<std::chrono::milliseconds> ParseDuration(std::string_view text) {
  return pipeline::ParseDuration(text);
}

Result<Time> ParseTimeOrAge(std::string_view text) { return pipeline::ParseTimeOrAge(text); }

void StopSignal::Install() {
  // Without descriptors there is none, and nothing that a command does will get very far.
  [[maybe_unused]] static const int made = ::pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK);
  struct sigaction action {};
  action.sa_handler = OnStopSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a blocking read returns with EINTR
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool StopSignal::requested() { return stop_signals.load() > 0; }

bool StopSignal::insisted() { return stop_signals.load() > 1; }

StopSignal::Minded::Minded() { minded.fetch_add(1); }

StopSignal::Minded::~Minded() { minded.fetch_sub(1); }

int StopSignal::fd() { return stop_pipe[0]; }

}  // namespace taskwal::cli

// taskwal bench: what this machine can do, measured against bare yardsticks in the same run.
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <stdlib.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/clock.h"
#include "bench/comparison.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/stop_on_signal.h"
#include "storage/backend.h"
#include "storage/dsn.h"

namespace taskwal::cli {
namespace {

using bench::Comparison;
using bench::Goal;
using OrderedJson = nlohmann::ordered_json;

struct BenchArguments {
  std::string directory = ".";
  int rounds = 5;
  bool quick = false;
  bool json = false;
  // --- flush
  std::string dsn;  // when it runs: of a server, or empty
  std::string part;
};

using RunBenchmark = Result<bench::Report> (*)(const bench::Settings&);

// Everything that is written goes into a directory of its own, gone at the end.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& parent) : path_(parent + "/taskwal-bench-XXXXXX") {
    is_made_ = ::mkdtemp(path_.data()) != nullptr;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    if (is_made_) std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  [[nodiscard]] bool is_made() const { return is_made_; }
  [[nodiscard]] std::string path() const { return std::filesystem::absolute(path_).string(); }

 private:
  std::string path_;
  bool is_made_ = false;
};

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string CommandOf(const std::string& benchmark, const BenchArguments& arguments) {
  std::string command = "taskwal bench " + benchmark;
  if (arguments.json) command += " --json";
  if (arguments.quick) command += " --quick";
  if (!arguments.dsn.empty()) command += " --db " + storage::MaskDsn(arguments.dsn);
  if (!arguments.part.empty()) command += " --part " + arguments.part;
  return command + " --rounds " + std::to_string(arguments.rounds);
}

OrderedJson MachineJson() {
  utsname system{};
  ::uname(&system);
  return {{"cpu", CpuModel()},
          {"processors", std::thread::hardware_concurrency()},
          {"kernel", system.release}};
}

// What the goal is asked of, and the ratio where there is a yardstick.
double RatioOf(const Comparison& row) { return bench::MedianOf(row.ratios()); }

OrderedJson RowJson(const Comparison& row) {
  OrderedJson json{{"scenario", row.scenario},
                   {"producers", row.producers},
                   {"unit", row.unit},
                   {"ours", bench::MedianOf(row.ours)}};
  if (!row.yardstick.empty()) {
    const std::vector<double> ratios = row.ratios();
    json["yardstick"] = row.yardstick;
    json["theirs"] = bench::MedianOf(row.theirs);
    json["ratio"] = RatioOf(row);
    json["ratio_min"] = ratios.empty() ? 0 : *std::min_element(ratios.begin(), ratios.end());
    json["ratio_max"] = ratios.empty() ? 0 : *std::max_element(ratios.begin(), ratios.end());
  }
  if (row.goal.kind != Goal::Kind::kNone) {
    json["goal"] = {
        {row.goal.kind == Goal::Kind::kAtLeast ? "at_least" : "at_most", row.goal.bound},
        {"met", row.is_met()}};
  }
  return json;
}

// One result per line, so that line tools (bench/plot) can read it.
void PrintJson(const bench::Report& report, const BenchArguments& arguments) {
  const OrderedJson head{{"benchmark", report.benchmark},
                         {"command", CommandOf(report.benchmark, arguments)},
                         {"date", FormatTime(Clock::Real().WallNow())},
                         {"machine", MachineJson()},
                         {"rounds", arguments.rounds},
                         {"quick", arguments.quick}};
  std::string text = head.dump();
  text.back() = ',';
  text += "\"results\":[";
  for (std::size_t i = 0; i < report.comparisons.size(); ++i) {
    text += (i > 0 ? ",\n" : "\n") + RowJson(report.comparisons[i]).dump();
  }
  std::printf("%s\n]}\n", text.c_str());
}

// Three significant digits, thousands separated.
std::string FormatFigure(double figure) {
  if (figure >= 1000) return FormatCount(static_cast<std::uint64_t>(std::llround(figure)));
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", figure >= 100 ? 0 : figure >= 10 ? 1 : 2, figure);
  return text;
}

std::string FormatRatios(const Comparison& row) {
  const std::vector<double> ratios = row.ratios();
  if (ratios.empty()) return "";
  char text[64];
  std::snprintf(text, sizeof text, "%.2f [%.2f-%.2f]", RatioOf(row),
                *std::min_element(ratios.begin(), ratios.end()),
                *std::max_element(ratios.begin(), ratios.end()));
  return text;
}

std::string FormatGoal(const Goal& goal) {
  if (goal.kind == Goal::Kind::kNone) return "";
  return (goal.kind == Goal::Kind::kAtLeast ? "at least " : "at most ") + FormatFigure(goal.bound);
}

void PrintTable(const bench::Report& report) {
  Table table({"scenario", "producers", "unit", "ours", "yardstick", "theirs",
               "ratio [min-max]", "goal", ""});
  for (const Comparison& row : report.comparisons) {
    const bool has_goal = row.goal.kind != Goal::Kind::kNone;
    table.AddRow({row.scenario, row.producers > 0 ? std::to_string(row.producers) : "-", row.unit,
                  FormatFigure(bench::MedianOf(row.ours)), row.yardstick,
                  row.yardstick.empty() ? "-" : FormatFigure(bench::MedianOf(row.theirs)),
                  FormatRatios(row), FormatGoal(row.goal),
                  has_goal ? (row.is_met() ? "met" : "not met") : ""});
  }
  std::printf("%s", table.ToString().c_str());
}

int RunBench(const std::string& name, RunBenchmark run, const BenchArguments& arguments) {
  const std::string command = "bench " + name;
  StopSignal::Install();
  const StopOnSignal stop;
  const ScratchDirectory scratch(arguments.directory);
  if (!scratch.is_made()) {
    PrintError(command, "cannot make a directory in " + arguments.directory + ": " +
                            std::strerror(errno) + ": name another by --dir");
    return kExitFailed;
  }
  bench::Settings settings;
  settings.directory = scratch.path();
  settings.rounds = arguments.rounds;
  settings.quick = arguments.quick;
  settings.database = arguments.dsn;
  settings.part = arguments.part;
  settings.stop = stop.token();
  ProgressBar bar(command);
  settings.on_progress = [&](std::uint64_t done, std::uint64_t all) { bar.Update(done, all); };
  const Result<bench::Report> report = run(settings);
  bar.End();
  if (!report.ok()) return Fail(command, report.status());
  if (arguments.json) {
    PrintJson(*report, arguments);
  } else {
    PrintTable(*report);
  }
  return kExitDone;
}

// The server to measure; empty for SQLite, of which --dir gets a file.
Result<std::string> ServerToMeasure(const BenchArguments& arguments) {
  auto dsn = ResolveDsn(arguments.dsn, "sqlite://taskwal.db");
  if (!dsn.ok()) return dsn.status();
  const auto parsed = storage::ParseDsn(*dsn);
  if (!parsed.ok()) return parsed.status();
  if (parsed->kind == storage::Dsn::Kind::kMemory) {
    return Status::InvalidArgument("flush measures SQLite, PostgreSQL and MySQL, not memory:");
  }
  if (parsed->kind != storage::Dsn::Kind::kSqlite) {
    // A driver that cannot read it would quote it, and the password with it.
    const auto backend = storage::MakeBackend(*dsn, {});
    return backend.ok() ? dsn : backend.status();
  }
  if (!arguments.part.empty()) {
    return Status::InvalidArgument("--part is for servers: give --db postgresql:// or mysql://");
  }
  return std::string();
}

int RunFlush(BenchArguments arguments) {
  auto server = ServerToMeasure(arguments);
  if (!server.ok()) return Fail("bench flush", server.status());
  arguments.dsn = std::move(server).value();
  return RunBench("flush", bench::RunFlush, arguments);
}

CLI::App* AddBenchmark(CLI::App& bench, const std::string& name, const std::string& help,
                       BenchArguments* arguments) {
  CLI::App* command = bench.add_subcommand(name, help);
  command->add_option("--dir", arguments->directory, "Where to write; removed again")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--rounds", arguments->rounds, "Rounds; figures are their medians")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--quick", arguments->quick,
                    "Tiny sizes: shows that it works, measures nothing");
  command->add_flag("--json", arguments->json, "As JSON, with machine, date and command");
  return command;
}

void AddBenchmark(CLI::App& bench, const std::string& name, const std::string& help,
                  RunBenchmark run, int* exit_code) {
  // shared_ptr: CLI11 copies the callback, which keeps the arguments alive.
  const auto arguments = std::make_shared<BenchArguments>();
  AddBenchmark(bench, name, help, arguments.get())->callback([=] {
    *exit_code = RunBench(name, run, *arguments);
  });
}

void AddFlushBenchmark(CLI::App& bench, int* exit_code) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = AddBenchmark(
      bench, "flush", "Into a database: calls end to end, draining a backlog", arguments.get());
  command
      ->add_option("--db", arguments->dsn,
                   "postgresql://... or mysql://...: measure that server, in a schema or database "
                   "made for it and dropped again; else SQLite, in a file below --dir "
                   "(TASKWAL_DB when not given)")
      ->type_name("DSN");
  command->add_option("--part", arguments->part, "Of a server: only one part of the scenarios")
      ->check(CLI::IsMember(bench::ServerParts()));
  command->callback([=] { *exit_code = RunFlush(*arguments); });
}

}  // namespace

void AddBenchCommand(CLI::App& app, int* exit_code) {
  CLI::App* bench = app.add_subcommand(
      "bench", "Measure this machine: our figures beside bare yardsticks of the same run");
  bench->require_subcommand(1);
  bench->footer(
      "Examples:\n"
      "  taskwal bench append\n"
      "  taskwal bench commit --json --rounds 5 --dir /var/lib/taskwal\n"
      "  taskwal bench flush --db postgresql://user@host/db --part calls");
  AddBenchmark(*bench, "append", "Level process: throughput and the caller's latency",
               bench::RunAppend, exit_code);
  AddBenchmark(*bench, "commit", "Level disk: group commit", bench::RunCommit, exit_code);
  AddFlushBenchmark(*bench, exit_code);
  AddBenchmark(*bench, "recover", "Scanning, opening and draining a large log", bench::RunRecover,
               exit_code);
}

}  // namespace taskwal::cli

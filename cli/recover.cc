// taskwal recover: repairs the log's end, brings the database everything that can be brought, and
// says what is where. --dry-run tells the same of a directory that it leaves alone, with --salvage
// what that would do.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "base/file_system.h"
#include "base/json_text.h"
#include "base/shell_text.h"
#include "cli/command.h"
#include "cli/findings.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/rehearsal.h"
#include "cli/stop_on_signal.h"
#include "pipeline/flush/missing_records.h"
#include "pipeline/option_fields.h"
#include "pipeline/wal_task_storage.h"
#include "recovery/scanner.h"
#include "storage/backend.h"

namespace taskwal::cli {
namespace {

using wal::LsnRange;

constexpr std::size_t kDamageShown = 10;

struct RecoverArguments {
  std::vector<std::string> databases;
  Options options;
  std::chrono::milliseconds drain_timeout{30000};
  bool dry_run = false;
  bool salvage = false;
  bool json = false;
};

struct RecoverReport {
  std::uint64_t scanned = 0;  // = replayed + already_there + dead_lettered + pending
  std::uint64_t replayed = 0;
  std::uint64_t already_there = 0;
  std::uint64_t torn = 0;     // torn ends
  std::uint64_t corrupt = 0;  // damaged regions
  std::vector<std::string> damage;  // each of them, in a line
  std::uint64_t dead_lettered = 0;
  std::uint64_t pending = 0;
  std::vector<LsnRange> lost;
  std::vector<pipeline::MissingRecords> missing;  // by a database that went back
  std::vector<LsnRange> unknown;
  std::vector<std::string> quarantined;
};

// Sorted, and merged where they touch.
std::vector<LsnRange> Merge(std::vector<LsnRange> ranges) {
  std::erase_if(ranges, [](const LsnRange& range) { return range.empty(); });
  std::sort(ranges.begin(), ranges.end(),
            [](const LsnRange& a, const LsnRange& b) { return a.from < b.from; });
  std::vector<LsnRange> merged;
  for (const LsnRange& range : ranges) {
    if (!merged.empty() && range.from <= merged.back().to + 1) {
      merged.back().to = std::max(merged.back().to, range.to);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::string RangesText(const std::vector<LsnRange>& ranges) {
  std::string text;
  for (const LsnRange& range : ranges) {
    text += (text.empty() ? "LSN " : ", ") + std::to_string(range.from);
    if (range.to != range.from) text += "-" + std::to_string(range.to);
  }
  return text;
}

std::string RangeJson(const LsnRange& range, const std::string& partitions = {}) {
  std::string text = "{\"from\":" + std::to_string(range.from);
  text += ",\"to\":" + std::to_string(range.to);
  if (!partitions.empty()) text += ",\"partitions\":[" + partitions + "]";
  return text + "}";
}

std::string ArrayJson(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "[" : ",") + value;
  return text.empty() ? "[]" : text + "]";
}

std::string RangesJson(const std::vector<LsnRange>& ranges) {
  std::vector<std::string> values;
  for (const LsnRange& range : ranges) values.push_back(RangeJson(range));
  return ArrayJson(values);
}

std::string LostJson(const RecoverReport& report) {
  std::vector<std::string> values;
  for (const LsnRange& range : report.lost) values.push_back(RangeJson(range));
  for (const pipeline::MissingRecords& one : report.missing) {
    values.push_back(RangeJson(one.lsns, pipeline::PartitionsText(one)));
  }
  return ArrayJson(values);
}

std::string ReportJson(const RecoverArguments& arguments, const RecoverReport& report) {
  const auto member = [](const char* name, std::uint64_t value) {
    return "\"" + std::string(name) + "\":" + std::to_string(value) + ",";
  };
  std::string quarantined;
  if (arguments.salvage) {
    std::vector<std::string> files;
    for (const std::string& file : report.quarantined) files.push_back(JsonQuote(file));
    quarantined = ",\"quarantined\":" + ArrayJson(files);
  }
  return "{" + member("scanned", report.scanned) + member("replayed", report.replayed) +
         member("already_there", report.already_there) + member("torn", report.torn) +
         member("corrupt", report.corrupt) + member("dead_lettered", report.dead_lettered) +
         "\"lost\":" + LostJson(report) + ",\"unknown\":" + RangesJson(report.unknown) +
         quarantined + "}";
}

void PrintDamage(const RecoverArguments& arguments, const RecoverReport& report) {
  const std::size_t shown = std::min(report.damage.size(), kDamageShown);
  for (std::size_t i = 0; i < shown; ++i) std::printf("corrupt: %s\n", report.damage[i].c_str());
  if (shown == report.damage.size()) return;
  std::printf("%s more: `taskwal verify %s` names them as long as they are there\n",
              FormatCount(report.damage.size() - shown).c_str(),
              ShellQuote(arguments.options.wal_dir).c_str());
}

void PrintReport(const RecoverArguments& arguments, const RecoverReport& report) {
  if (arguments.json) {
    std::printf("%s\n", ReportJson(arguments, report).c_str());
    return;
  }
  Table table({arguments.dry_run ? "would be" : "records", "count"});
  table.AddRow({"scanned", FormatCount(report.scanned)});
  table.AddRow({"replayed", FormatCount(report.replayed)});
  table.AddRow({"already there", FormatCount(report.already_there)});
  table.AddRow({"dead-lettered", FormatCount(report.dead_lettered)});
  if (report.pending > 0) table.AddRow({"still in the log", FormatCount(report.pending)});
  table.AddRow({"torn ends", FormatCount(report.torn)});
  table.AddRow({"corrupt regions", FormatCount(report.corrupt)});
  std::printf("%s", table.ToString().c_str());
  PrintDamage(arguments, report);
  if (!report.lost.empty()) {
    const bool is_to_come = arguments.dry_run && arguments.salvage;
    std::printf("%s: %s\n", is_to_come ? "would be declared lost" : "lost",
                RangesText(report.lost).c_str());
  }
  if (!report.missing.empty()) {
    std::printf("lost by the database: LSN %s\n", pipeline::MissingText(report.missing).c_str());
  }
  if (!report.unknown.empty()) {
    std::printf("unknown standing: %s\n", RangesText(report.unknown).c_str());
  }
  for (const std::string& file : report.quarantined) {
    std::printf("%s: quarantine/%s\n",
                arguments.dry_run ? "would be kept aside" : "kept aside", file.c_str());
  }
}

std::uint64_t CountOf(const recovery::ScanReport& scan, bool (*is_meant)(recovery::Verdict)) {
  return static_cast<std::uint64_t>(
      std::count_if(scan.findings.begin(), scan.findings.end(),
                    [&](const recovery::Finding& finding) { return is_meant(finding.verdict); }));
}

RecoverReport WhatIsThere(const recovery::ScanReport& scan) {
  RecoverReport report;
  report.scanned = scan.scanned + scan.ring_records;
  report.torn =
      CountOf(scan, [](recovery::Verdict v) { return v == recovery::Verdict::kTornTail; });
  report.corrupt = CountOf(scan, recovery::IsDamage);
  for (const recovery::Finding& finding : scan.findings) {
    if (recovery::IsDamage(finding.verdict)) report.damage.push_back(FindingLine(finding));
  }
  report.lost = Merge(scan.lost);
  report.unknown = Merge(scan.unknown);
  return report;
}

Result<recovery::ScanReport> ScanWithProgress(const std::string& directory) {
  ProgressBar bar("scanning");
  recovery::ScanOptions options;
  options.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.Update(done, all); };
  return recovery::Scan(FileSystem::Real(), directory, options);
}

void PrintLosses(const RecoverArguments& arguments, const RecoverReport& report) {
  if (!report.missing.empty()) {
    PrintError("recover",
               "the database went back behind what it had confirmed, and these records are not in "
               "the log any more: LSN " + pipeline::MissingText(report.missing));
  }
  if (report.lost.empty()) return;
  PrintError("recover", "records are missing because of damage: " + RangesText(report.lost) +
                            (arguments.salvage ? "" : " (--salvage declares the loss)"));
}

int ExitCodeOf(const RecoverReport& report, bool drained) {
  const bool is_whole = report.lost.empty() && report.missing.empty();
  return GraverExit(is_whole ? kExitDone : kExitDamage,
                    drained ? kExitDone : kExitNotDrained);
}

int DryRun(const RecoverArguments& arguments, const std::vector<TargetOptions>& targets,
           const recovery::ScanReport& scan, RecoverReport report) {
  ProgressBar bar("reading the log, " + WaitingFor(targets));
  const auto rehearsal =
      Rehearse({arguments.options.wal_dir, targets, arguments.options.database_timeout,
                arguments.salvage},
               scan);
  bar.End();
  const Status& failure = rehearsal.ok() ? rehearsal->refused : rehearsal.status();
  if (!failure.ok()) return Fail("recover", failure);
  // Where nothing is left to be brought, nobody is missed.
  const bool drained = rehearsal->unreachable.ok() || rehearsal->missing == 0;
  (drained ? report.replayed : report.pending) = rehearsal->missing;
  report.dead_lettered = rehearsal->dead_lettered;
  const std::uint64_t elsewhere = rehearsal->missing + report.dead_lettered;
  report.already_there = report.scanned - std::min(report.scanned, elsewhere);
  report.lost = Merge(rehearsal->lost);
  report.missing = rehearsal->gone;
  report.quarantined = rehearsal->quarantined;
  PrintReport(arguments, report);
  if (!drained) PrintError("recover", rehearsal->unreachable.message());
  PrintLosses(arguments, report);
  return ExitCodeOf(report, drained);
}

// What became of the records, once the storage is closed.
void Count(const pipeline::WalTaskStorage& storage, const pipeline::OpenReport& opened,
           bool salvaged, RecoverReport* report) {
  const pipeline::FlusherStats flush = storage.flusher_stats();
  const wal::LogState state = storage.log().state();
  std::vector<LsnRange> lost = salvaged ? opened.salvaged.lost : report->lost;
  for (const auto* ranges : {&flush.losses, &opened.lost}) {
    for (const LsnRange& range : *ranges) {
      const bool declared =
          std::any_of(state.lost.begin(), state.lost.end(),
                      [&](const LsnRange& d) { return d.from <= range.from && range.to <= d.to; });
      if (!declared) lost.push_back(range);
    }
  }
  // Declared by an earlier run that did not live to drain past them: nobody was told yet.
  for (LsnRange range : state.lost) {
    range.from = std::max(range.from, flush.start_lsn);
    if (flush.start_lsn > 0 && !range.empty()) lost.push_back(range);
  }
  report->lost = Merge(std::move(lost));
  report->missing = flush.missing;
  report->quarantined = opened.salvaged.quarantined;
  report->replayed = flush.applied - std::min(flush.already_there, flush.applied);
  report->dead_lettered = storage.dead_letters().count();
  const wal::Lsn end = storage.log().end_lsn();
  report->pending = end - std::min(storage.flushed_lsn(), end);
  const std::uint64_t elsewhere = report->replayed + report->dead_lettered + report->pending;
  report->scanned = std::max(report->scanned, report->replayed + report->pending);
  report->already_there = report->scanned - std::min(report->scanned, elsewhere);
}

// What keeps the database from taking the rest may be the disk that both are on.
std::string Advice(const wal::LogStats& log) {
  if (!log.full) return "; run it again when the database answers";
  return "; run it again when the database answers. The log is full, too: " + log.full_reason +
         ". Where that is the database's disk as well, make room elsewhere on it (never remove a "
         "wal-* file)";
}

int Recover(const RecoverArguments& arguments, std::vector<pipeline::TargetSetup> targets,
            const std::string& waiting, RecoverReport report) {
  pipeline::WalStorageSetup setup;
  setup.options = arguments.options;
  BoundFirstContact(arguments.drain_timeout, &setup.options);
  setup.targets = std::move(targets);
  setup.create = false;
  setup.needs_database = true;
  setup.salvage = arguments.salvage;
  StopSignal::Install();
  const StopSignal::Minded minded;  // the second one ends the drain, and the log is still sealed
  const StopOnSignal stop;
  setup.stop = stop.token();
  pipeline::OpenReport opened;
  ProgressBar bar(waiting);
  const auto storage = pipeline::WalTaskStorage::Open(std::move(setup), &opened);
  if (!storage.ok()) return Fail("recover", storage.status());
  const Status drained = Drain(**storage, {arguments.drain_timeout, true, true, opened.waited});
  bar.GoOnTo("closing the log");
  const Status closed = (*storage)->Shutdown(ShutdownMode::kImmediate, {});
  bar.End();
  Count(**storage, opened, arguments.salvage, &report);
  PrintReport(arguments, report);
  if (!closed.ok()) {
    const bool is_refused =
        closed.code() == StatusCode::kIoError || drained.code() == StatusCode::kFenced;
    PrintError("recover", closed.message() + (drained.ok() ? "" : ": " + drained.message()) +
                              (is_refused ? "" : Advice((*storage)->log().GetStats())));
  }
  if (closed.code() == StatusCode::kIoError || drained.code() == StatusCode::kFenced) {
    return kExitFailed;
  }
  PrintLosses(arguments, report);
  return ExitCodeOf(report, closed.ok());
}

int RunRecover(const RecoverArguments& arguments) {
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail("recover", targets.status());
  const Status place = CheckDatabasePlaces(*targets, arguments.options.wal_dir);
  if (!place.ok()) return Fail("recover", place);
  auto made = pipeline::MakeTargets(*targets, {arguments.options.database_timeout});
  if (!made.ok()) return Fail("recover", made.status());
  const auto scan = ScanWithProgress(arguments.options.wal_dir);
  if (!scan.ok()) {
    PrintError("recover", scan.status().message());
    return kExitFailed;
  }
  RecoverReport report = WhatIsThere(*scan);
  if (arguments.dry_run) return DryRun(arguments, *targets, *scan, std::move(report));
  return Recover(arguments, std::move(made).value(), "opening the log, " + WaitingFor(*targets),
                 std::move(report));
}

}  // namespace

void AddRecoverCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<RecoverArguments>();  // shared with the callback
  CLI::App* command =
      app.add_subcommand("recover", "Repair the end of a log and bring the database what it lacks");
  AddWalOption(*command, &arguments->options.wal_dir, true);
  AddDatabasesOption(*command, &arguments->databases);
  command->add_flag("--dry-run", arguments->dry_run,
                    "Only report what would be done, with --salvage by that; nothing is changed "
                    "anywhere");
  command->add_flag("--salvage", arguments->salvage,
                    "Rewrite damaged files with what is intact in them, keep the originals in "
                    "quarantine/, and declare the rest lost");
  AddDurationOption(*command, "--drain-timeout", &arguments->drain_timeout,
                    "Give up when the database has taken nothing for this long");
  command->add_flag("--json", arguments->json, "Print the report as JSON");
  AddSetOption(*command, &arguments->options);
  command->footer(
      "Exit codes: 0 all is in the database or in dead letters, 2 records are missing because of\n"
      "damage (the rest is drained), 4 the database could not take it all, 1 anything else.\n"
      "Example: taskwal recover --wal w --db sqlite://tasks.db --json");
  command->callback([arguments, exit_code] { *exit_code = RunRecover(*arguments); });
}

}  // namespace taskwal::cli

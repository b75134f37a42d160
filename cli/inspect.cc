// taskwal inspect: what a log directory holds: segments, checkpoints, identity.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/shell_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/findings.h"
#include "cli/progress.h"
#include "recovery/identity.h"
#include "recovery/scanner.h"
#include "wal/log_directory.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;
using recovery::ScanReport;
using recovery::SegmentSummary;

struct InspectArguments {
  std::string directory;
  bool json = false;
};

struct Contents {
  ScanReport report;
  wal::LogState state;
};

Result<Contents> ReadContents(const InspectArguments& arguments) {
  FileSystem& fs = FileSystem::Real();
  Contents contents;
  ProgressBar bar("inspecting");
  recovery::ScanOptions options;
  options.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.Update(done, all); };
  TASKWAL_ASSIGN(contents.report, recovery::Scan(fs, arguments.directory, options));
  TASKWAL_ASSIGN(const auto numbers, wal::ListSegments(fs, arguments.directory));
  auto identity = recovery::ReadIdentity(fs, arguments.directory, numbers);
  // Beyond repair is a finding of the scan already.
  if (identity.ok()) contents.state = std::move(identity->state);
  return contents;
}

std::string LsnText(const wal::LsnRange& lsns) {
  if (lsns.empty()) return "-";
  return std::to_string(lsns.from) + "-" + std::to_string(lsns.to);
}

Json SegmentJson(const SegmentSummary& segment) {
  Json json;
  json["number"] = segment.number;
  json["file"] = wal::SegmentName(segment.number);
  json["state"] = segment.state;
  json["first_lsn"] = segment.lsns.empty() ? 0 : segment.lsns.from;
  json["last_lsn"] = segment.lsns.to;
  json["records"] = segment.records;
  json["frames"] = segment.frames;
  json["bytes"] = segment.file_bytes;
  json["epoch"] = segment.epoch;
  json["sealed"] = segment.sealed;
  return json;
}

Json StateJson(const wal::LogState& state) {
  Json json;
  json["wal_id"] = state.wal_id.ToString();
  json["epoch"] = state.epoch;
  json["partitions"] = state.partitions;
  json["clean_end"] = state.clean;
  json["copied"] = state.copied;
  json["first_lsn"] = state.first_lsn;
  json["flushed_lsn"] = state.flushed_lsn;
  json["db_id"] = state.db_id.IsZero() ? Json() : Json(state.db_id.ToString());
  json["checkpoints"] = state.watermarks;
  return json;
}

void PrintJson(const Contents& contents) {
  Json json = StateJson(contents.state);
  json["records"] = contents.report.scanned;
  json["last_lsn"] = contents.report.lsns.to;
  json["synced_lsn"] = contents.report.synced_lsn;
  json["ring_records"] = contents.report.ring_records;
  json["damaged"] = contents.report.damaged();
  json["segments"] = Json::array();
  for (const SegmentSummary& segment : contents.report.segments) {
    json["segments"].push_back(SegmentJson(segment));
  }
  json["findings"] = Json::parse(FindingsJson(contents.report.findings));
  std::printf("%s\n", json.dump().c_str());
}

void PrintIdentity(const Contents& contents) {
  const wal::LogState& state = contents.state;
  const ScanReport& report = contents.report;
  std::printf("log       %s%s\n", state.wal_id.ToString().c_str(),
              state.copied ? " (this directory is a copy)" : "");
  std::printf("epoch     %llu, %u partitions, %s\n", static_cast<unsigned long long>(state.epoch),
              state.partitions, state.clean ? "ended cleanly" : "open, or its process was killed");
  std::printf("records   %s, LSN %s, synced to %llu\n", FormatCount(report.scanned).c_str(),
              LsnText(report.lsns).c_str(), static_cast<unsigned long long>(report.synced_lsn));
  if (report.ring_records > 0) {
    std::printf("buffer    %s records\n", FormatCount(report.ring_records).c_str());
  }
  std::printf("database  %s, everything up to LSN %llu is in it\n\n",
              state.db_id.IsZero() ? "none yet" : state.db_id.ToString().c_str(),
              static_cast<unsigned long long>(state.flushed_lsn));
}

void PrintText(const Contents& contents) {
  PrintIdentity(contents);
  Table segments({"segment", "state", "LSN", "records", "frames", "size", "epoch", "sealed"});
  for (const SegmentSummary& segment : contents.report.segments) {
    segments.AddRow({wal::SegmentName(segment.number), segment.state, LsnText(segment.lsns),
                     FormatCount(segment.records), FormatCount(segment.frames),
                     FormatBytes(segment.file_bytes), std::to_string(segment.epoch),
                     segment.sealed ? "yes" : "no"});
  }
  std::printf("%s", segments.ToString().c_str());
  if (!contents.state.watermarks.empty()) {
    Table checkpoints({"partition", "checkpoint"});
    for (std::size_t i = 0; i < contents.state.watermarks.size(); ++i) {
      checkpoints.AddRow({std::to_string(i), std::to_string(contents.state.watermarks[i])});
    }
    std::printf("\n%s", checkpoints.ToString().c_str());
  }
  if (!contents.report.findings.empty()) std::printf("\n");
  for (const recovery::Finding& finding : contents.report.findings) {
    std::printf("%s\n", FindingLine(finding).c_str());
  }
}

int RunInspect(const InspectArguments& arguments) {
  const auto contents = ReadContents(arguments);
  if (!contents.ok()) {
    PrintError("inspect", contents.status().message());
    return kExitFailed;
  }
  arguments.json ? PrintJson(*contents) : PrintText(*contents);
  if (!contents->report.damaged()) return kExitDone;
  PrintError("inspect", "there is damage: `taskwal recover --salvage --wal " +
                            ShellQuote(arguments.directory) + " --db DSN` brings what is intact");
  return kExitDamage;
}

}  // namespace

void AddInspectCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<InspectArguments>();  // shared with the callback
  CLI::App* command =
      app.add_subcommand("inspect", "Show segments, checkpoints and identity of a log directory");
  command->add_option("DIR", arguments->directory, "The log directory")
      ->type_name("DIR")
      ->required();
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->footer(
      "States of a segment: active (not sealed), flushing (sealed, not yet all in the database),\n"
      "flushed, failed (damaged). Checkpoints are those that STATE last recorded; the database's\n"
      "own may be newer. Below them what `verify` finds. Exit code 2 when there is damage.\n"
      "Examples:\n"
      "  taskwal inspect taskwal.wal\n"
      "  taskwal inspect taskwal.wal --json | jq '.segments[] | select(.state == \"failed\")'");
  command->callback([arguments, exit_code] { *exit_code = RunInspect(*arguments); });
}

}  // namespace taskwal::cli

// taskwal verify: every checksum of a log directory, beside a live process or not.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "cli/command.h"
#include "cli/findings.h"
#include "cli/progress.h"
#include "recovery/scanner.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;
using recovery::Finding;
using recovery::ScanReport;
using wal::LsnRange;

struct VerifyArguments {
  std::string directory;
  bool json = false;
};

Json RangesJson(const std::vector<LsnRange>& ranges) {
  Json json = Json::array();
  for (const LsnRange& range : ranges) json.push_back({{"from", range.from}, {"to", range.to}});
  return json;
}

void PrintJson(const ScanReport& report) {
  Json json;
  json["clean"] = !report.damaged();
  json["segments"] = report.segments.size();
  json["records"] = report.scanned;
  json["first_lsn"] = report.lsns.empty() ? 0 : report.lsns.from;
  json["last_lsn"] = report.lsns.to;
  json["synced_lsn"] = report.synced_lsn;
  json["ring_records"] = report.ring_records;
  json["torn_bytes"] = report.torn_bytes;
  json["lost"] = RangesJson(report.lost);
  json["declared"] = RangesJson(report.declared);
  json["unknown"] = RangesJson(report.unknown);
  json["findings"] = Json::parse(FindingsJson(report.findings));
  std::printf("%s\n", json.dump().c_str());
}

std::string Counted(std::uint64_t count, const char* noun) {
  return FormatCount(count) + " " + noun + (count == 1 ? "" : "s");
}

void PrintText(const ScanReport& report) {
  for (const Finding& finding : report.findings) {
    std::printf("%s\n", FindingLine(finding).c_str());
  }
  for (const LsnRange& range : report.declared) {
    std::printf("declared lost before: %s\n", RangeText(range).c_str());
  }
  for (const LsnRange& range : report.unknown) {
    std::printf("%s is whole and kept, but nothing tells whether more was acknowledged behind it "
                "before the power went: nothing to repair, the next open brings it to the "
                "database\n",
                RangeText(range).c_str());
  }
  std::string line = report.damaged() ? "damaged: " : "clean: ";
  line += Counted(report.scanned, "record");
  if (!report.lsns.empty()) line += ", " + RangeText(report.lsns);
  line += ", " + Counted(report.segments.size(), "segment");
  if (report.ring_records > 0) {
    line += ", " + Counted(report.ring_records, "record") + " in the log buffer";
  }
  std::printf("%s\n", line.c_str());
}

int RunVerify(const VerifyArguments& arguments) {
  const auto report = [&] {
    ProgressBar bar("verifying");
    recovery::ScanOptions options;
    options.on_progress = [&bar](std::uint64_t done, std::uint64_t all) { bar.Update(done, all); };
    return recovery::Scan(FileSystem::Real(), arguments.directory, options);
  }();
  if (!report.ok()) {
    PrintError("verify", report.status().message());
    return kExitFailed;
  }
  arguments.json ? PrintJson(*report) : PrintText(*report);
  return report->damaged() ? kExitDamage : kExitDone;
}

}  // namespace

void AddVerifyCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<VerifyArguments>();  // shared with the callback
  CLI::App* command = app.add_subcommand(
      "verify", "Check every checksum of a log directory; changes nothing, beside a live process");
  command->add_option("DIR", arguments->directory, "The log directory")
      ->type_name("DIR")
      ->required();
  command->add_flag("--json", arguments->json, "Print one JSON object, with a findings array");
  command->footer(
      "One line for each finding: file, offset, what it is, the LSNs it concerns.\n"
      "Exit codes: 0 clean, or only a torn end that was never acknowledged, a tail of unknown\n"
      "standing, spares and half-made files; 2 damage to what was synced, a missing or foreign\n"
      "segment; 1 no log there, or it cannot be read.\n"
      "Examples:\n"
      "  taskwal verify taskwal.wal\n"
      "  taskwal verify taskwal.wal --json | jq '.findings[]'");
  command->callback([arguments, exit_code] { *exit_code = RunVerify(*arguments); });
}

}  // namespace taskwal::cli

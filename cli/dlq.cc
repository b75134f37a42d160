// taskwal dlq: what no database would take, and what was declared lost. Read-only, beside a live
// process or not.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "cli/command.h"
#include "pipeline/flush/dead_letters.h"
#include "storage/operation.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;
using pipeline::DeadLetter;
using pipeline::DeadLetters;

constexpr std::size_t kErrorWidth = 60;

struct DlqArguments {
  std::string directory;
  std::string id;
  bool json = false;
};

bool IsLoss(const DeadLetter& letter) { return letter.kind == DeadLetter::Kind::kLoss; }

std::string TypeText(const DeadLetter& letter) {
  const std::string_view name = storage::OperationTypeName(letter.type);
  if (!name.empty()) return std::string(name);
  return "type " + std::to_string(static_cast<int>(letter.type));
}

std::string LsnText(const DeadLetter& letter) {
  std::string text = std::to_string(letter.lsns.from);
  if (letter.lsns.to != letter.lsns.from) text += "-" + std::to_string(letter.lsns.to);
  return text;
}

// One line of a table: no line breaks, and no more than fits.
std::string Shortened(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c >= 0 && c < ' '; }, ' ');
  if (text.size() <= kErrorWidth) return text;
  std::size_t end = kErrorWidth - 3;
  while (end > 0 && (text[end] & 0xc0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "...";
}

Json ToJson(const DeadLetter& letter) {
  Json json;
  json["id"] = letter.id();
  json["kind"] = IsLoss(letter) ? "loss" : "rejected";
  json["lsn"] = letter.lsns.from;
  if (IsLoss(letter)) {
    json["from"] = letter.lsns.from;
    json["to"] = letter.lsns.to;
  }
  json["wal_id"] = letter.wal_id.ToString();
  if (!IsLoss(letter)) {
    json["type"] = TypeText(letter);
    json["task_id"] = letter.task_id;
  }
  json["error"] = letter.error;
  if (!IsLoss(letter)) json["sql_code"] = letter.sql_code;
  json["attempts"] = letter.attempts;
  json["first_failed_at"] = FormatTime(letter.first_failed);
  json["last_failed_at"] = FormatTime(letter.last_failed);
  json["backend"] = letter.backend;
  return json;
}

// A driver's message need not be UTF-8.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string OperationText(const DeadLetter& letter) {
  const auto body = storage::Decode(letter.type, letter.body);
  return body.ok() ? storage::OperationToJson(*body) : "null";
}

Result<std::unique_ptr<DeadLetters>> OpenLetters(const DlqArguments& arguments,
                                                 std::vector<std::string>* damage) {
  FileSystem& fs = FileSystem::Real();
  const auto stat = fs.Stat(arguments.directory);
  if (!stat.ok()) return stat.status();
  return DeadLetters::Open(fs, arguments.directory, true, damage);
}

// Visits all letters; the exit code, damage in the store included.
int ForEach(const DlqArguments& arguments, const std::function<bool(const DeadLetter&)>& visit) {
  std::vector<std::string> damage;
  const auto letters = OpenLetters(arguments, &damage);
  if (!letters.ok()) return Fail("dlq", letters.status());
  const Status read = (*letters)->ForEach(visit);
  for (const std::string& what : damage) PrintError("dlq", "damaged: " + what);
  if (read.ok()) return damage.empty() ? kExitDone : kExitDamage;
  PrintError("dlq", read.message());
  return read.code() == StatusCode::kCorruption ? kExitDamage : kExitFailed;
}

int RunList(const DlqArguments& arguments) {
  Table table({"ID", "LSN", "TYPE", "TASK", "LAST FAILED", "ERROR"});
  std::uint64_t rejected = 0;
  std::uint64_t lost = 0;
  const int exit_code = ForEach(arguments, [&](const DeadLetter& letter) {
    if (arguments.json) {
      std::printf("%s\n", Dump(ToJson(letter)).c_str());
      return true;
    }
    table.AddRow({letter.id(), LsnText(letter), IsLoss(letter) ? "loss" : TypeText(letter),
                  letter.task_id, FormatTime(letter.last_failed), Shortened(letter.error)});
    if (IsLoss(letter)) {
      lost += letter.lsns.count();
    } else {
      ++rejected;
    }
    return true;
  });
  if (arguments.json || exit_code == kExitFailed) return exit_code;
  if (rejected + lost > 0) std::printf("%s", table.ToString().c_str());
  std::printf("%s rejected, %s lost\n", FormatCount(rejected).c_str(), FormatCount(lost).c_str());
  return exit_code;
}

void PrintLetter(const DlqArguments& arguments, const DeadLetter& letter) {
  const Json json = ToJson(letter);
  if (arguments.json) {
    std::string line = Dump(json);
    if (!IsLoss(letter)) {
      // Spliced in as text: payload and data keep their bytes.
      line.pop_back();
      line += ",\"operation\":" + OperationText(letter) + "}";
    }
    std::printf("%s\n", line.c_str());
    return;
  }
  for (const auto& [name, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::printf("%-16s %s\n", name.c_str(), text.c_str());
  }
  if (!IsLoss(letter)) std::printf("%-16s %s\n", "operation", OperationText(letter).c_str());
}

int RunShow(const DlqArguments& arguments) {
  bool found = false;
  const int exit_code = ForEach(arguments, [&](const DeadLetter& letter) {
    if (letter.id() != arguments.id) return true;
    found = true;
    PrintLetter(arguments, letter);
    return false;
  });
  if (found || exit_code != kExitDone) return exit_code;
  PrintError("dlq", "no dead letter " + arguments.id + " in " + arguments.directory +
                        " (`taskwal dlq list` names them)");
  return kExitFailed;
}

}  // namespace

void AddDlqCommand(CLI::App& app, int* exit_code) {
  CLI::App* dlq = app.add_subcommand("dlq", "Dead letters: records that no database would take");
  dlq->require_subcommand(1);

  auto listed = std::make_shared<DlqArguments>();  // shared with the callback
  CLI::App* list =
      dlq->add_subcommand("list", "All dead letters and declared losses, oldest first");
  AddWalOption(*list, &listed->directory, true);
  list->add_flag("--json", listed->json, "Print one JSON object a line");
  list->footer(
      "Exit codes: 0 done, 1 the directory cannot be read, 2 the dead letters are damaged.\n"
      "Examples:\n"
      "  taskwal dlq list --wal taskwal.wal\n"
      "  taskwal dlq list --wal taskwal.wal --json | jq -r .error");
  list->callback([listed, exit_code] { *exit_code = RunList(*listed); });

  auto shown = std::make_shared<DlqArguments>();  // shared with the callback
  CLI::App* show = dlq->add_subcommand("show", "One dead letter with its operation");
  AddWalOption(*show, &shown->directory, true);
  show->add_option("ID", shown->id, "As `dlq list` prints it")->required();
  show->add_flag("--json", shown->json, "Print a JSON object");
  show->footer(
      "Exit codes: 0 done, 1 no such letter, 2 the dead letters are damaged.\n"
      "Example:\n"
      "  taskwal dlq show --wal taskwal.wal 6f1e...-1042 --json | jq .operation");
  show->callback([shown, exit_code] { *exit_code = RunShow(*shown); });
}

}  // namespace taskwal::cli

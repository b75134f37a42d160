// taskwal dlq: what no database would take, and what was declared lost. list, show and export only
// read, beside a live process or not.
#include "cli/dlq.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "base/file_system.h"
#include "base/posix_file.h"
#include "base/status_macros.h"
#include "base/uuid.h"
#include "cli/command.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "pipeline/letter_desk.h"
#include "wal/state_file.h"

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;
using pipeline::DeadLetter;
using pipeline::DeadLetters;

constexpr const char* kReading = "reading the dead letters";

struct DlqArguments {
  std::string directory;
  std::string id;
  std::string output;
  LetterChoice choice;
  bool json = false;
};

std::string LsnText(const DeadLetterInfo& letter) {
  std::string text = std::to_string(letter.from_lsn);
  if (letter.to_lsn != letter.from_lsn) text += "-" + std::to_string(letter.to_lsn);
  return text;
}

// Without the name of the database, which would take all the room.
std::string ReasonOf(const DeadLetterInfo& letter) {
  const std::string name = letter.database + ": ";
  return letter.error.starts_with(name) ? letter.error.substr(name.size()) : letter.error;
}

int RunList(const DlqArguments& arguments) {
  Table table({"ID", "LSN", "TYPE", "TASK", "LAST FAILED", "RETRIES", "ERROR"});
  std::uint64_t rejected = 0;
  std::uint64_t lost = 0;
  ProgressBar bar(kReading, {.beside_output = arguments.json});
  const int exit_code = ForEachLetter("dlq list", arguments.directory,
                                      [&](const DeadLetter& letter) {
    const DeadLetterInfo info = pipeline::InfoOf(letter);
    if (arguments.json) {
      std::printf("%s\n", pipeline::LetterJson(info, false).c_str());
      return true;
    }
    table.AddRow({info.id, LsnText(info), info.is_loss ? "loss" : info.type, Cell(info.task_id),
                  FormatTime(info.last_failed), std::to_string(info.retries),
                  Cell(ReasonOf(info))});
    (info.is_loss ? lost : rejected) += info.is_loss ? letter.lsns.count() : 1;
    return true;
  });
  bar.End();
  if (arguments.json || exit_code == kExitFailed) return exit_code;
  if (rejected + lost > 0) std::printf("%s", table.ToString().c_str());
  std::printf("%s rejected, %s lost\n", FormatCount(rejected).c_str(), FormatCount(lost).c_str());
  return exit_code;
}

void PrintLetter(const DlqArguments& arguments, const DeadLetterInfo& letter) {
  if (arguments.json) {
    std::printf("%s\n", pipeline::LetterJson(letter, true).c_str());
    return;
  }
  const Json fields = Json::parse(pipeline::LetterJson(letter, false));
  for (const auto& [name, value] : fields.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::printf("%-16s %s\n", name.c_str(), text.c_str());
  }
  if (!letter.is_loss) std::printf("%-16s %s\n", "operation", letter.operation.c_str());
}

int RunShow(const DlqArguments& arguments) {
  bool found = false;
  ProgressBar bar(kReading);
  const int exit_code = ForEachLetter("dlq show", arguments.directory,
                                      [&](const DeadLetter& letter) {
    if (letter.id() != arguments.id) return true;
    found = true;
    bar.End();
    PrintLetter(arguments, pipeline::InfoOf(letter));
    return false;
  });
  if (found || exit_code != kExitDone) return exit_code;
  PrintError("dlq show", "no dead letter " + arguments.id + " in " + arguments.directory +
                             " (`taskwal dlq list` names them)");
  return kExitFailed;
}

// A JSON array, one letter a line, to standard output, a file that appears as a whole (where a link
// leads to), or a pipe or device, which is written to as it is.
class Export {
 public:
  Status Open(const std::string& output) {
    namespace fs = std::filesystem;
    output_ = output;
    if (output.empty()) return Status::Ok();
    std::error_code ignored;
    const fs::file_status found = fs::status(output, ignored);
    if (fs::exists(found) && !fs::is_regular_file(found)) {
      stream_.reset(std::fopen(output.c_str(), "we"));
      return stream_ ? Status::Ok() : ErrnoStatus("open " + output, errno);
    }
    const fs::path target = fs::exists(found) ? fs::canonical(output, ignored) : fs::path();
    if (!target.empty()) output_ = target.string();
    made_ = output_ + "." + Uuid::Make().ToString() + ".tmp";
    TASKWAL_ASSIGN(file_, FileSystem::Real().OpenWritable(made_, true));
    return Status::Ok();
  }
  Status Add(const DeadLetter& letter) {
    const std::string line = pipeline::LetterExportJson(pipeline::InfoOf(letter));
    return Put((count_++ == 0 ? "[\n" : ",\n") + line);
  }
  Status Finish() {
    TASKWAL_TRY(Put(count_ == 0 ? "[]\n" : "\n]\n"));
    if (stream_ != nullptr && std::fclose(stream_.release()) != 0) {
      return ErrnoStatus("write " + output_, errno);
    }
    if (file_ == nullptr) return Status::Ok();
    TASKWAL_TRY(file_->Sync());
    return FileSystem::Real().Rename(made_, output_);
  }
  void Abandon() {
    if (file_ == nullptr) return;
    IgnoreStatus(FileSystem::Real().Remove(made_), "it is nobody's");
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  Status Put(const std::string& text) {
    if (stream_ != nullptr) {
      return std::fputs(text.c_str(), stream_.get()) >= 0 ? Status::Ok()
                                                          : ErrnoStatus("write " + output_, errno);
    }
    if (file_ == nullptr) {
      return std::fputs(text.c_str(), stdout) >= 0
                 ? Status::Ok()
                 : Status::IoError("cannot write to standard output");
    }
    TASKWAL_TRY(file_->Write(written_, std::as_bytes(std::span(text))));
    written_ += text.size();
    return Status::Ok();
  }

  struct Close {
    void operator()(std::FILE* stream) const { std::fclose(stream); }
  };

  std::string output_;
  std::string made_;  // until it is whole
  std::unique_ptr<WritableFile> file_;
  std::unique_ptr<std::FILE, Close> stream_;
  std::uint64_t written_ = 0;
  std::uint64_t count_ = 0;
};

void PrintExported(const DlqArguments& arguments, std::uint64_t count) {
  if (arguments.json) {
    std::printf("{\"exported\":%llu}\n", static_cast<unsigned long long>(count));
  } else {
    std::printf("%s dead letters in %s\n", FormatCount(count).c_str(), arguments.output.c_str());
  }
}

int RunExport(const DlqArguments& arguments) {
  auto chosen = arguments.choice;
  const bool is_chosen = chosen.Resolve().ok() || !chosen.failed_before.empty();
  if (!is_chosen) chosen.selection.all = true;
  const auto selection = chosen.Resolve();
  if (!selection.ok()) return Fail("dlq export", selection.status());
  if (!arguments.output.empty() && IsInside(arguments.output, arguments.directory)) {
    PrintError("dlq export", "--output " + arguments.output +
                                 " is inside the log's directory: name a file elsewhere");
    return kExitUsage;
  }
  Export out;
  Status written = out.Open(arguments.output);
  int exit_code = kExitFailed;
  ProgressBar bar(kReading, {.beside_output = arguments.output.empty()});
  if (written.ok()) {
    exit_code = ForEachLetter("dlq export", arguments.directory, [&](const DeadLetter& letter) {
      if (pipeline::IsMeant(*selection, letter)) written = out.Add(letter);
      return written.ok();
    });
  }
  const bool is_unknown = out.count() == 0 && NamesLetters(*selection);
  if (written.ok() && exit_code != kExitFailed && is_unknown) {
    out.Abandon();
    PrintError("dlq export", kNoSuchLetter);
    return GraverExit(exit_code, kExitFailed);
  }
  if (written.ok() && exit_code != kExitFailed) written = out.Finish();
  if (!written.ok()) {
    out.Abandon();
    // Told at the end, as of every command.
    if (std::ferror(stdout) == 0) PrintError("dlq export", written.message());
    return kExitFailed;
  }
  bar.End();
  if (!arguments.output.empty() && exit_code != kExitFailed) {
    PrintExported(arguments, out.count());
  }
  return exit_code;
}

void AddListCommand(CLI::App& dlq, int* exit_code) {
  auto arguments = std::make_shared<DlqArguments>();  // shared with the callback
  CLI::App* command =
      dlq.add_subcommand("list", "All open dead letters and declared losses, oldest first");
  AddWalOption(*command, &arguments->directory, true);
  command->add_flag("--json", arguments->json, "Print one JSON object a line");
  command->footer(
      "Exit codes: 0 done, 1 the directory cannot be read, 2 the dead letters are damaged.\n"
      "Examples:\n"
      "  taskwal dlq list --wal taskwal.wal\n"
      "  taskwal dlq list --wal taskwal.wal --json | jq -r .error");
  command->callback([arguments, exit_code] { *exit_code = RunList(*arguments); });
}

void AddShowCommand(CLI::App& dlq, int* exit_code) {
  auto arguments = std::make_shared<DlqArguments>();  // shared with the callback
  CLI::App* command = dlq.add_subcommand("show", "One dead letter with its operation");
  AddWalOption(*command, &arguments->directory, true);
  command->add_option("ID", arguments->id, "As `dlq list` prints it")
      ->required()
      ->check(NotEmpty);
  command->add_flag("--json", arguments->json, "Print a JSON object");
  command->footer(
      "Exit codes: 0 done, 1 no such letter, 2 the dead letters are damaged.\n"
      "Example:\n"
      "  taskwal dlq show --wal taskwal.wal 6f1e...-1042 --json | jq .operation");
  command->callback([arguments, exit_code] { *exit_code = RunShow(*arguments); });
}

void AddExportCommand(CLI::App& dlq, int* exit_code) {
  auto arguments = std::make_shared<DlqArguments>();  // shared with the callback
  CLI::App* command = dlq.add_subcommand("export", "Open dead letters as a JSON array");
  AddWalOption(*command, &arguments->directory, true);
  AddLetterChoice(*command, &arguments->choice);
  command->add_option("--output,-o", arguments->output, "File (standard output when not given)")
      ->type_name("FILE");
  command->add_flag("--json", arguments->json, "With --output: print {\"exported\":N}");
  command->footer(
      "Each: {\"packet\":{\"id\",\"messages\":[operation],\"retry_count\"},\"final_error\",\n"
      "\"failed_at\",...}. A message is what `taskwal ingest` takes. All letters when none is "
      "named.\n"
      "Exit codes: 0 done, 1 no such letter or cannot be read or written, 2 the dead letters are\n"
      "damaged.\n"
      "Example:\n"
      "  taskwal dlq export --wal taskwal.wal -o failed_packets.json");
  command->callback([arguments, exit_code] { *exit_code = RunExport(*arguments); });
}

}  // namespace

Result<DeadLetterSelection> LetterChoice::Resolve() const {
  DeadLetterSelection chosen = selection;
  if (!failed_before.empty()) {
    TASKWAL_ASSIGN(chosen.failed_before, ParseTimeOrAge(failed_before));
  }
  const bool is_any = chosen.all || !chosen.ids.empty() || !chosen.lsns.empty() ||
                      !chosen.task_id.empty() || chosen.failed_before;
  if (is_any) return chosen;
  return Status::InvalidArgument("which letters? name them by ID, --lsn, --task or --older-than, "
                                 "or give --all");
}

void AddLetterChoice(CLI::App& command, LetterChoice* choice) {
  // None of them may be empty: a filter that a script left out by mistake would mean every letter.
  command.add_option("ID", choice->selection.ids, "Letters as `dlq list` prints them")
      ->check(NotEmpty);
  command
      .add_option_function<std::vector<std::string>>(
          "--lsn",
          [choice](const std::vector<std::string>& lsns) {
            for (const std::string& text : lsns) {
              const auto lsn = ParseLsn(text);
              if (!lsn.ok()) throw CLI::ValidationError("--lsn", lsn.status().message());
              choice->selection.lsns.push_back(*lsn);
            }
          },
          "Letters of these LSNs")
      ->type_name("LSN")
      ->allow_extra_args(false);
  command.add_option("--task", choice->selection.task_id, "Letters of this task")
      ->type_name("ID")
      ->check(NotEmpty);
  command.add_option("--older-than", choice->failed_before, "Letters that failed last before then")
      ->type_name("TIME|AGE")
      ->check(NotEmpty);
  command.add_flag("--all", choice->selection.all, "Every letter (but no declared loss)");
}

bool NamesLetters(const DeadLetterSelection& selection) {
  return !selection.ids.empty() || !selection.lsns.empty() || !selection.task_id.empty();
}

int ForEachLetter(std::string_view command, const std::string& directory,
                  const std::function<bool(const DeadLetter&)>& visit) {
  FileSystem& fs = FileSystem::Real();
  const auto state = wal::ReadState(fs, directory);
  // Letters are told though STATE is damaged; a directory without one is not meant.
  if (state.status().code() == StatusCode::kNotFound) {
    PrintError(command, directory + " holds no log: name the directory that was --wal when it was "
                                    "written");
    return kExitFailed;
  }
  std::vector<std::string> damage;
  const auto letters = DeadLetters::Open(fs, directory, true, &damage);
  if (!letters.ok()) return Fail(command, letters.status());
  const Status read = (*letters)->ForEach(visit);
  for (const std::string& what : damage) PrintError(command, "damaged: " + what);
  if (read.ok()) return damage.empty() ? kExitDone : kExitDamage;
  PrintError(command, read.message());
  return read.code() == StatusCode::kCorruption ? kExitDamage : kExitFailed;
}

void AddDlqCommand(CLI::App& app, int* exit_code) {
  CLI::App* dlq = app.add_subcommand("dlq", "Dead letters: records that no database would take");
  dlq->require_subcommand(1);
  AddListCommand(*dlq, exit_code);
  AddShowCommand(*dlq, exit_code);
  AddExportCommand(*dlq, exit_code);
  AddDlqRetry(*dlq, exit_code);
  AddDlqPurge(*dlq, exit_code);
}

}  // namespace taskwal::cli

// taskwal dump: the records of a log as NDJSON, beside a live process or not.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "pipeline/flush/letter_retry.h"
#include "recovery/survey.h"
#include "storage/operation.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::cli {
namespace {

using storage::OperationType;

struct DumpArguments {
  std::string directory;
  std::uint64_t from = 1;
  std::uint64_t to = UINT64_MAX;
  std::optional<std::string> type;
  std::optional<std::string> task;  // "" is one: activities of no task
};

// Whether the operation is about this task.
struct Concerns {
  const std::string& task;
  bool operator()(const storage::SaveTaskOp& op) const { return op.task.id == task; }
  bool operator()(const storage::UpdateStatusOp& op) const { return op.task_id == task; }
  bool operator()(const storage::DeleteTaskOp& op) const { return op.task_id == task; }
  bool operator()(const storage::DeleteDagOp& /*op*/) const { return false; }
  bool operator()(const storage::LogActivityOp& op) const { return op.activity.task_id == task; }
  bool operator()(const storage::SaveTasksOp& op) const {
    return std::any_of(op.tasks.begin(), op.tasks.end(),
                       [&](const Task& t) { return t.id == task; });
  }
};

std::string TypeName(std::uint8_t type) {
  if (type == wal::kVoidRecord) return "void";
  if (type == wal::kLostRecord) return "lost";
  return std::string(storage::OperationTypeName(static_cast<OperationType>(type)));
}

bool IsTypeName(const std::string& name) {
  return name == "void" || name == "lost" || storage::ParseOperationType(name).has_value();
}

// A record with a body of its own.
struct RingRecord {
  wal::Lsn lsn = 0;
  wal::RecordHeader header;
  std::vector<std::byte> body;
};

// What the log buffer holds behind the files. Beside a live process a slot may be freed while it is
// copied, so one copy proves nothing: what counts is what two of them agree on.
Result<std::vector<RingRecord>> CopyRing(const recovery::Survey& survey) {
  TASKWAL_ASSIGN(
      const wal::Rescue rescue,
      wal::RescueRing(FileSystem::Real(), wal::JoinPath(survey.directory, wal::kRingFileName),
                      survey.identity.wal_ids(), survey.judgement.end_lsn + 1));
  std::vector<RingRecord> records;
  for (const wal::RecordView& record : rescue.records) {
    records.push_back({record.lsn, record.header, {record.body.begin(), record.body.end()}});
  }
  return records;
}

class Dumper {
 public:
  explicit Dumper(const DumpArguments& arguments) : arguments_(arguments) {}

  Result<int> Run() {
    ProgressBar bar("dumping", {.beside_output = true});
    TASKWAL_ASSIGN(const recovery::Survey survey,
                   recovery::SurveyTail(FileSystem::Real(), arguments_.directory));
    const wal::LogState& state = survey.identity.state;
    partitions_ = state.partitions;
    if (survey.identity.state_damaged) Warn("STATE: " + survey.identity.state_detail);
    wal::TailReader reader(
        FileSystem::Real(),
        {arguments_.directory, survey.identity.wal_ids(), state.first_lsn, state.lost},
        arguments_.from);
    TASKWAL_TRY(Follow(reader, std::min(arguments_.to, survey.judgement.end_lsn), &bar));
    TASKWAL_TRY(PrintRing(survey));
    return damaged_ ? kExitDamage : kExitDone;
  }

 private:
  Status Follow(wal::TailReader& reader, wal::Lsn limit, ProgressBar* bar) {
    const wal::Lsn begin = reader.position();
    wal::Frame frame;
    while (true) {
      if (limit > begin) bar->Update(reader.position() - begin, limit - begin);
      TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(limit, &frame));
      if (event.kind == wal::TailEvent::Kind::kEnd) break;
      if (event.kind == wal::TailEvent::Kind::kLoss) {
        TellLoss(event);
      } else {
        TASKWAL_TRY(PrintFrame(event, frame));
      }
    }
    return Status::Ok();
  }

  Status PrintRing(const recovery::Survey& survey) {
    TASKWAL_ASSIGN(const std::vector<RingRecord> first, CopyRing(survey));
    TASKWAL_ASSIGN(const std::vector<RingRecord> second, CopyRing(survey));
    for (std::size_t i = 0; i < first.size() && i < second.size(); ++i) {
      const RingRecord& record = first[i];
      if (record.lsn != second[i].lsn || record.body != second[i].body) break;
      if (record.lsn < arguments_.from || record.lsn > arguments_.to) continue;
      TASKWAL_TRY(Print({record.lsn, record.header, record.body}));
    }
    return Status::Ok();
  }

  Status PrintFrame(const wal::TailEvent& event, const wal::Frame& frame) {
    wal::FrameRecords records(frame.header, frame.raw);
    for (wal::RecordView record; records.Next(&record);) {
      if (record.lsn < event.from || record.lsn > event.to) continue;
      TASKWAL_TRY(Print(record));
    }
    return Status::Ok();
  }

  Status Print(const wal::RecordView& record) {
    const std::string line = LineOf(record);
    if (std::fputs(line.c_str(), stdout) >= 0) return Status::Ok();
    return Status::IoError("cannot write to standard output");
  }

  // Empty where the filters leave the record out.
  std::string LineOf(const wal::RecordView& record) {
    const std::string type = TypeName(record.header.type);
    const bool is_own = record.header.type < wal::kFirstUserType;
    if (arguments_.type ? *arguments_.type != type : is_own) return {};
    std::string line = "{\"lsn\":" + std::to_string(record.lsn) + ",\"type\":\"" + type + "\"";
    if (is_own) return arguments_.task ? std::string() : line + "}\n";
    std::string origin;
    const auto body = OperationIn(record, &origin);
    if (body.ok() && arguments_.task && !std::visit(Concerns{*arguments_.task}, *body)) return {};
    char key[17];
    std::snprintf(key, sizeof key, "%016llx", static_cast<unsigned long long>(record.header.key));
    line += ",\"stamp\":" + std::to_string(record.header.stamp) +
            ",\"partition\":" + std::to_string(wal::PartitionOf(record.header.key, partitions_)) +
            ",\"key\":\"" + key + "\"" + origin;
    if (body.ok()) return line + "," + storage::OperationToJson(*body).substr(1) + "\n";
    Warn("LSN " + std::to_string(record.lsn) + ": " + body.status().message());
    return line + ",\"error\":" + JsonQuote(body.status().message()) + "}\n";
  }

  // A retry's is that of its letter, whose LSN goes into `origin`.
  static Result<storage::OperationBody> OperationIn(const wal::RecordView& record,
                                                    std::string* origin) {
    const auto type = static_cast<OperationType>(record.header.type);
    if (!storage::IsRetry(type)) return storage::Decode(type, record.body);
    const auto retry = pipeline::DecodeRetry(record.body);
    if (!retry) return Status::Corruption("the body is no retry of a dead letter");
    *origin = ",\"retry_of\":" + std::to_string(retry->origin.key.lsn);
    return storage::Decode(retry->type, retry->body);
  }

  void TellLoss(const wal::TailEvent& event) {
    const std::string lsns =
        "LSN " + std::to_string(event.loss.from) + "-" + std::to_string(event.loss.to);
    if (event.declared) {
      PrintError("dump", lsns + " lost: " + event.detail);
    } else if (WasRetired(event.loss)) {
      PrintError("dump", lsns + " were flushed and retired meanwhile");
    } else {
      Warn(lsns + " lost: " + event.detail);
    }
  }

  // A live process notes what it retires before the files go.
  [[nodiscard]] bool WasRetired(const wal::LsnRange& lsns) const {
    const auto state = wal::ReadState(FileSystem::Real(), arguments_.directory);
    return state.ok() && lsns.to < state->first_lsn;
  }

  void Warn(const std::string& message) {
    damaged_ = true;
    PrintError("dump", message);
  }

  const DumpArguments& arguments_;
  std::uint32_t partitions_ = 1;
  bool damaged_ = false;
};

int RunDump(const DumpArguments& arguments) {
  if (arguments.type && !IsTypeName(*arguments.type)) {
    PrintError("dump",
               "--type " + *arguments.type + " is no record type (see taskwal dump --help)");
    return kExitUsage;
  }
  if (arguments.to < arguments.from) {
    PrintError("dump", "--to " + std::to_string(arguments.to) + " is before " +
                           (arguments.to == 0 ? "the first LSN, which is 1"
                                              : "--from " + std::to_string(arguments.from)));
    return kExitUsage;
  }
  const Result<int> code = Dumper(arguments).Run();
  if (code.ok()) return *code;
  if (std::ferror(stdout) != 0) return kExitFailed;  // told at the end, as of every command
  PrintError("dump", code.status().message());
  return code.status().code() == StatusCode::kCorruption ? kExitDamage : kExitFailed;
}

}  // namespace

void AddDumpCommand(CLI::App& app, int* exit_code) {
  auto arguments = std::make_shared<DumpArguments>();  // shared with the callback
  CLI::App* command =
      app.add_subcommand("dump", "Print the records of a log, one JSON object a line");
  command->add_option("DIR", arguments->directory, "The log directory")
      ->type_name("DIR")
      ->required();
  AddLsnOption(*command, "--from", &arguments->from, "First LSN (default: the oldest kept)");
  AddLsnOption(*command, "--to", &arguments->to, "Last LSN (default: the newest)");
  command
      ->add_option(
          "--type", arguments->type,
          "Only task_update, status_update, task_delete, dag_delete, activity_log,\n"
          "batch_update, retry, retry_barrier; or void (never acknowledged) or lost (to a\n"
          "failed sync), which are left out unless asked for")
      ->type_name("T");
  command->add_option("--task", arguments->task, "Only operations on this task")->type_name("ID");
  command->footer(
      "Each line: lsn, type, stamp, partition, key, then the operation as ingest takes it.\n"
      "Records that a killed process left in the log buffer are printed too, behind those in\n"
      "files. Works beside a live process. Damage is told on stderr with its LSNs, the rest is\n"
      "printed, and the exit code is 2.\n"
      "Examples:\n"
      "  taskwal dump taskwal.wal --from 1000 --to 2000\n"
      "  taskwal dump taskwal.wal --task build-42 | jq .op\n"
      "  taskwal dump taskwal.wal --type activity_log | wc -l");
  command->callback([arguments, exit_code] { *exit_code = RunDump(*arguments); });
}

}  // namespace taskwal::cli

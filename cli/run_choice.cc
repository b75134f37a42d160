#include "cli/run_choice.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "base/file_system.h"
#include "base/json_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "cli/question.h"
#include "dag/activity_log.h"
#include "dag/resume.h"
#include "storage/operation.h"
#include "taskwal/dag.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::cli {
namespace {

// A database that refuses says so at once; this is for one that is silent.
constexpr std::chrono::milliseconds kAnswerTime{5000};
constexpr auto kYear = std::chrono::hours(24 * 366);

// What LoadEarlierRun looks for, in an operation that the database may not have yet.
struct IsOfRun {
  const std::string& dag_id;

  bool operator()(const storage::SaveTaskOp& op) const { return op.task.dag_id == dag_id; }
  bool operator()(const storage::SaveTasksOp& op) const {
    return std::any_of(op.tasks.begin(), op.tasks.end(),
                       [&](const Task& task) { return task.dag_id == dag_id; });
  }
  bool operator()(const storage::LogActivityOp& op) const {
    return op.activity.dag_id == dag_id &&
           op.activity.action == dag::ActionName(dag::Action::kDagStarted);
  }
  bool operator()(const storage::UpdateStatusOp& /*op*/) const { return false; }
  bool operator()(const storage::DeleteTaskOp& /*op*/) const { return false; }
  bool operator()(const storage::DeleteDagOp& /*op*/) const { return false; }
};

bool HasRun(const wal::TailEvent& event, const wal::Frame& frame, const IsOfRun& is_of_run) {
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    const auto type = static_cast<storage::OperationType>(record.header.type);
    if (record.lsn < event.from || record.lsn > event.to || storage::IsRetry(type)) continue;
    const auto operation = storage::Decode(type, record.body);
    if (operation.ok() && std::visit(is_of_run, *operation)) return true;
  }
  return false;
}

// Whether the run is among what the log holds and the database may not have. False where it was
// told to stop before it knew.
Result<bool> IsInLog(TaskStorage& storage, const RunWish& wish, const std::stop_token& stop) {
  const Stats stats = storage.GetStats();
  if (stats.flushed_lsn >= stats.end_lsn) return false;
  TASKWAL_ASSIGN(const wal::LogState state, wal::ReadState(FileSystem::Real(), wish.wal_dir));
  wal::TailReader reader(FileSystem::Real(),
                         {wish.wal_dir, wal::IdentitiesOf(state), state.first_lsn, state.lost},
                         stats.flushed_lsn + 1);
  const IsOfRun is_of_run{wish.run_id};
  ProgressBar bar("looking for the run in the log");
  const wal::Lsn begin = reader.position();
  wal::Frame frame;
  while (!stop.stop_requested()) {
    bar.Update(reader.position() - begin, stats.end_lsn + 1 - begin);
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(stats.end_lsn, &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) break;
    if (event.kind == wal::TailEvent::Kind::kFrame && HasRun(event, frame, is_of_run)) return true;
  }
  return false;
}

// The log first: what the flusher brings to the database meanwhile was found in it.
Result<ChosenRun> ChooseNamed(const std::shared_ptr<TaskStorage>& storage, const RunWish& wish,
                              const std::stop_token& stop) {
  TASKWAL_ASSIGN(bool is_known, IsInLog(*storage, wish, stop));
  std::string why = "it does not answer";
  if (!is_known) {
    Question<bool> asked(storage, [id = wish.run_id](TaskStorage& of) {
      return dag::IsKnownRun(of, id);
    });
    if (asked.Await(kAnswerTime, stop)) {
      const Result<bool> answer = asked.Take();
      is_known = answer.ok() && *answer;
      why = answer.status().message();
    }
  }
  if (stop.stop_requested()) return ChosenRun{.is_stopped = true};
  if (is_known) {
    return Status::Rejected("the run " + JsonQuote(wish.run_id) +
                            " is there already: go on with it by --resume, or choose another "
                            "--run-id");
  }
  // A database that is away delays nothing but the flush, and an id is rarely given twice.
  if (!why.empty()) {
    PrintError("run", "the run " + JsonQuote(wish.run_id) +
                          " begins as a new one: the log holds none of that id, and the database "
                          "could not be asked: " + why);
  }
  return ChosenRun{.dag_id = wish.run_id};
}

struct Found {
  std::string dag_id;  // empty: there is none
  dag::EarlierRun run;
};

Result<Found> FindEarlier(TaskStorage& storage, const std::string& run_id,
                          const std::string& content_hash) {
  Found found;
  found.dag_id = run_id;
  if (run_id.empty()) {
    TASKWAL_ASSIGN(const auto last, dag::FindLastRun(storage, content_hash));
    found.dag_id = last.value_or("");
  }
  if (found.dag_id.empty()) return found;
  TASKWAL_ASSIGN(found.run, dag::LoadEarlierRun(storage, found.dag_id));
  return found;
}

Result<ChosenRun> ChooseResumed(const std::shared_ptr<TaskStorage>& storage, const RunWish& wish,
                                const dag::Workflow& workflow, const std::stop_token& stop) {
  Question<Found> asked(storage, [id = wish.run_id, hash = workflow.content_hash](TaskStorage& of) {
    return FindEarlier(of, id, hash);
  });
  // Its own calls end in time.
  if (!asked.Await(kYear, stop)) return ChosenRun{.is_stopped = true};
  Result<Found> found = asked.Take();
  if (found.status().code() == StatusCode::kUnavailable) {
    return Status::Unavailable(
        "nothing was run, as only the database knows which tasks are completed, and it does not "
        "answer: resume again when it does (" + found.status().message() + ")");
  }
  TASKWAL_TRY(found.status());
  if (found->dag_id.empty()) return ChosenRun{.dag_id = TaskManager::MakeDagId(workflow.name)};
  const std::string& hash = found->run.content_hash;
  if (!hash.empty() && hash != workflow.content_hash) {
    return Status::Rejected("the run " + JsonQuote(found->dag_id) + " is of another content than " +
                            wish.file + " has now: choose another --run-id");
  }
  return ChosenRun{found->dag_id, std::move(found->run), false};
}

}  // namespace

Result<ChosenRun> ChooseRun(const std::shared_ptr<TaskStorage>& storage, const RunWish& wish,
                            const dag::Workflow& workflow, const std::stop_token& stop) {
  if (stop.stop_requested()) return ChosenRun{.is_stopped = true};
  if (wish.resume) return ChooseResumed(storage, wish, workflow, stop);
  if (!wish.run_id.empty()) return ChooseNamed(storage, wish, stop);
  return ChosenRun{.dag_id = TaskManager::MakeDagId(workflow.name)};
}

}  // namespace taskwal::cli

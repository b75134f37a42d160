// Into SQLite: what an engine's calls cost end to end, and how fast a backlog drains.
#include <filesystem>
#include <optional>

#include "base/status_macros.h"
#include "bench/backlog.h"
#include "bench/comparison.h"
#include "bench/sqlite_yardstick.h"
#include "bench/workload.h"
#include "taskwal/open.h"

namespace taskwal::bench {
namespace {

constexpr auto kFlushTimeout = std::chrono::minutes(5);
constexpr std::size_t kSmallCommit = 500;
constexpr std::size_t kLargeCommit = 10'000;

struct Sizes {
  std::uint64_t tasks;           // of the engine: each is saved, run, logged and completed
  std::chrono::milliseconds bare_time;
  std::uint64_t drained;         // rows of a backlog
  std::uint64_t rows_before;
};

Sizes SizesFor(const Settings& settings) {
  if (settings.quick) return {20, std::chrono::milliseconds(50), 200, 100};
  return {1'000, std::chrono::milliseconds(1'000), 100'000, kRowsBefore};
}

// The calls of one task: saved, running, its activities, completed.
constexpr std::uint64_t kCallsPerTask = 3 + kActivitiesPerTask;

Status CallsOfTask(TaskStorage& storage, std::uint64_t n, const WriteOptions& how) {
  const Task task = MakeTask(n);
  TASKWAL_TRY(storage.SaveTask(task, how).status());
  TASKWAL_TRY(storage.UpdateTaskStatus(task.id, TaskStatus::kRunning, {}, how).status());
  for (std::uint64_t i = 0; i < kActivitiesPerTask; ++i) {
    TASKWAL_TRY(storage.LogActivity(MakeActivity(n * kActivitiesPerTask + i), how).status());
  }
  return storage.UpdateTaskStatus(task.id, TaskStatus::kCompleted, {}, how).status();
}

Status BareCallsOfTask(BareSqlite& bare, std::uint64_t n) {
  const Task task = MakeTask(n);
  TASKWAL_TRY(bare.UpsertTasks({&task, 1}, 1));
  TASKWAL_TRY(bare.UpdateStatus(task.id, TaskStatus::kRunning));
  for (std::uint64_t i = 0; i < kActivitiesPerTask; ++i) {
    const Activity activity = MakeActivity(n * kActivitiesPerTask + i);
    TASKWAL_TRY(bare.InsertActivities({&activity, 1}, 1));
  }
  return bare.UpdateStatus(task.id, TaskStatus::kCompleted);
}

class FlushBench {
 public:
  explicit FlushBench(const Settings& settings) : settings_(settings), sizes_(SizesFor(settings)) {}

  Result<Report> Run() {
    MakeInput();
    const std::string bare = "one autocommitted statement per call";
    process_ = {"calls end to end, level process", 1, "calls/s", bare, AtLeast(20), {}, {}};
    disk_ = {"calls end to end, level disk, acknowledged later",
             1,
             "calls/s",
             bare,
             AtLeast(20),
             {},
             {}};
    commits_ = {"database commits per 1,000 calls", 1, "", "", {}, {}, {}};
    const std::string bulk = "best of bare INSERT, tx of 500 and 10,000";
    activities_ = {"drain, activities", 1, "rows/s", bulk, AtLeast(0.9), {}, {}};
    upserts_ = {"drain, task upserts", 1, "rows/s", bulk, AtLeast(0.9), {}, {}};
    coalesced_ = {"drain, 10 saves per task", 1, "calls/s", bulk, AtLeast(1), {}, {}};
    for (int round = 0; round < settings_.rounds; ++round) {
      TASKWAL_TRY(EndToEndRound());
      TASKWAL_TRY(ActivityRound());
      TASKWAL_TRY(TaskRound());
    }
    return Report{"flush", {process_, disk_, commits_, activities_, upserts_, coalesced_}};
  }

 private:
  void MakeInput() {
    for (std::uint64_t n = 0; n < sizes_.rows_before + sizes_.drained; ++n) {
      activity_rows_.push_back(MakeActivity(n));
      task_rows_.push_back(MakeTask(n));
    }
  }
  // Those of a backlog; the table holds `rows_before` others.
  template <typename Row>
  std::span<const Row> Fresh(const std::vector<Row>& rows) const {
    return std::span(rows).first(sizes_.drained);
  }
  template <typename Row>
  std::span<const Row> Before(const std::vector<Row>& rows) const {
    return std::span(rows).subspan(sizes_.drained);
  }

  std::string Path(const std::string& name) const { return settings_.directory + "/" + name; }

  Status EndToEndRound() {
    TASKWAL_ASSIGN(const Rate bare, BareRate());
    std::uint64_t commits = 0;
    TASKWAL_ASSIGN(const Rate process, EndToEnd(Durability::kProcess, &commits));
    commits_.Add(1000.0 * static_cast<double>(commits) / static_cast<double>(process.records));
    TASKWAL_ASSIGN(const Rate disk, EndToEnd(Durability::kDisk, &commits));
    process_.Add(process.per_second(), bare.per_second());
    disk_.Add(disk.per_second(), bare.per_second());
    return Status::Ok();
  }

  Result<Rate> BareRate() {
    Rate rate;
    {
      TASKWAL_ASSIGN(const auto bare, BareSqlite::Create(Path("bare.db")));
      const Stopwatch watch;
      for (std::uint64_t n = 0; watch.seconds() < Seconds(sizes_.bare_time); ++n) {
        TASKWAL_TRY(BareCallsOfTask(*bare, n));
        rate.records += kCallsPerTask;
      }
      rate.seconds = watch.seconds();
    }
    Finish();
    return rate;
  }

  // From the first call until every row is in the database.
  Result<Rate> EndToEnd(Durability level, std::uint64_t* commits) {
    Rate rate{sizes_.tasks * kCallsPerTask, 0};
    {
      TASKWAL_ASSIGN(const auto storage, OpenStorage("ours.db"));
      WriteOptions how;
      how.durability = level;
      how.wait = WaitFor::kAppended;
      const Stopwatch watch;
      for (std::uint64_t n = 0; n < sizes_.tasks; ++n) TASKWAL_TRY(CallsOfTask(*storage, n, how));
      TASKWAL_TRY(storage->Flush(kFlushTimeout));
      rate.seconds = watch.seconds();
      *commits = storage->GetStats().flush_operations;
      TASKWAL_TRY(storage->Close());
    }
    Finish();
    return rate;
  }

  Result<std::unique_ptr<TaskStorage>> OpenStorage(const std::string& database) {
    Options options;
    options.wal_dir = Path("wal");
    options.enable_metrics = false;
    return OpenTaskStorage(SqliteDsn(Path(database)), options);
  }

  Status ActivityRound() {
    const auto before = Before(activity_rows_);
    const auto fresh = Fresh(activity_rows_);
    double best = 0;
    for (const std::size_t per_commit : {kSmallCommit, kLargeCommit}) {
      TASKWAL_ASSIGN(const Rate bare, BareBulk([&](BareSqlite& db, bool prepare) {
                       return db.InsertActivities(prepare ? before : fresh,
                                                  prepare ? kLargeCommit : per_commit);
                     }));
      best = std::max(best, bare.per_second());
    }
    TASKWAL_TRY(MakeActivityLog(Path("wal"), sizes_.drained));
    TASKWAL_ASSIGN(const Rate ours, Drain([&](BareSqlite& db) {
                     return db.InsertActivities(before, kLargeCommit);
                   }));
    activities_.Add(ours.per_second(), best);
    return Status::Ok();
  }

  Status TaskRound() {
    const auto before = Before(task_rows_);
    const auto fresh = Fresh(task_rows_);
    double best = 0;
    for (const std::size_t per_commit : {kSmallCommit, kLargeCommit}) {
      TASKWAL_ASSIGN(const Rate bare, BareBulk([&](BareSqlite& db, bool prepare) {
                       return db.UpsertTasks(prepare ? before : fresh,
                                             prepare ? kLargeCommit : per_commit);
                     }));
      best = std::max(best, bare.per_second());
    }
    const auto prepare = [&](BareSqlite& db) { return db.UpsertTasks(before, kLargeCommit); };
    TASKWAL_TRY(MakeTaskLog(Path("wal"), {sizes_.drained, sizes_.drained, 1}));
    TASKWAL_ASSIGN(const Rate ours, Drain(prepare));
    upserts_.Add(ours.per_second(), best);
    TASKWAL_TRY(MakeTaskLog(Path("wal"), {sizes_.drained, sizes_.drained / 10, 10}));
    TASKWAL_ASSIGN(const Rate coalesced, Drain(prepare));
    coalesced_.Add(coalesced.per_second(), best);
    return Status::Ok();
  }

  template <typename Load>
  Result<Rate> BareBulk(Load&& load) {
    Rate rate{sizes_.drained, 0};
    {
      TASKWAL_ASSIGN(const auto bare, BareSqlite::Create(Path("bare.db")));
      TASKWAL_TRY(load(*bare, true));
      const Stopwatch watch;
      TASKWAL_TRY(load(*bare, false));
      rate.seconds = watch.seconds();
    }
    Finish();
    return rate;
  }

  // The log in wal/ into a database with rows; from before opening until all is there.
  template <typename Prepare>
  Result<Rate> Drain(Prepare&& prepare) {
    Rate rate{sizes_.drained, 0};
    {
      TASKWAL_ASSIGN(const auto bare, BareSqlite::Create(Path("ours.db")));
      TASKWAL_TRY(prepare(*bare));
    }
    {
      const Stopwatch watch;
      TASKWAL_ASSIGN(const auto storage, OpenStorage("ours.db"));
      TASKWAL_TRY(storage->Flush(kFlushTimeout));
      rate.seconds = watch.seconds();
      TASKWAL_TRY(storage->Close());
    }
    Finish();
    return rate;
  }

  static double Seconds(std::chrono::milliseconds time) {
    return std::chrono::duration<double>(time).count();
  }

  // Leaves an empty directory, and tells the progress.
  void Finish() {
    for (const auto& entry : std::filesystem::directory_iterator(settings_.directory)) {
      std::filesystem::remove_all(entry.path());
    }
    constexpr std::uint64_t kSteps = 10;
    if (settings_.on_progress) {
      settings_.on_progress(++done_, kSteps * static_cast<std::uint64_t>(settings_.rounds));
    }
  }

  const Settings& settings_;
  const Sizes sizes_;
  std::vector<Activity> activity_rows_;
  std::vector<Task> task_rows_;
  Comparison process_, disk_, commits_, activities_, upserts_, coalesced_;
  std::uint64_t done_ = 0;
};

}  // namespace

Result<Report> RunFlush(const Settings& settings) {
  if (!settings.database.empty()) return RunServerFlush(settings);
  return FlushBench(settings).Run();
}

}  // namespace taskwal::bench

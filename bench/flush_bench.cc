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
constexpr std::uint32_t kLargeCommit = 10'000;

// The bare ways: as safe as the product's commits, and as fast as it goes.
struct BulkWay {
  SqliteSync sync;
  std::uint32_t rows_per_commit;
  const char* name;
};
constexpr BulkWay kBulkWays[] = {{SqliteSync::kFull, 500, "bare INSERT, FULL"},
                                 {SqliteSync::kNormal, kLargeCommit, "bare INSERT, NORMAL"}};
constexpr char kBest[] = "best of bare INSERT, FULL by 500, NORMAL by 10,000";

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
    activities_ = DrainsOf("activities");
    upserts_ = DrainsOf("task upserts");
    coalesced_ = {"drain, 10 saves per task", 1, "calls/s", kBest, AtLeast(1), {}, {}};
    for (int round = 0; round < settings_.rounds; ++round) {
      TASKWAL_TRY(EndToEndRound());
      TASKWAL_TRY(ActivityRound());
      TASKWAL_TRY(TaskRound());
    }
    Report report{"flush", {process_, disk_, commits_}};
    for (const Drains* drains : {&activities_, &upserts_}) {
      for (const Comparison& one : drains->of_size) report.comparisons.push_back(one);
      report.comparisons.push_back(drains->by_default);
    }
    report.comparisons.push_back(coalesced_);
    return report;
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

  // Of one kind of rows: in batches of the size of each bare way, and as it comes.
  struct Drains {
    std::vector<Comparison> of_size;
    Comparison by_default;
  };
  static Drains DrainsOf(const std::string& rows) {
    Drains drains;
    for (const BulkWay& way : kBulkWays) {
      const std::string size = std::to_string(way.rows_per_commit);
      const std::string scenario = "drain, " + rows + ", tx of " + size;
      drains.of_size.push_back({scenario, 1, "rows/s", way.name, AtLeast(0.9), {}, {}});
    }
    drains.by_default = {"drain, " + rows, 1, "rows/s", kBest, AtLeast(0.9), {}, {}};
    return drains;
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
    TASKWAL_TRY(Finish());
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
    TASKWAL_TRY(Finish());
    return rate;
  }

  Result<std::unique_ptr<TaskStorage>> OpenStorage(const std::string& database,
                                                   std::optional<std::uint32_t> batch_size = {}) {
    Options options;
    options.batch_size = batch_size.value_or(options.batch_size);
    options.wal_dir = Path("wal");
    options.enable_metrics = false;
    return OpenTaskStorage(SqliteDsn(Path(database)), options);
  }

  Status ActivityRound() {
    const auto insert = [&](BareSqlite& db, bool prepare, std::size_t per_commit) {
      return db.InsertActivities(prepare ? Before(activity_rows_) : Fresh(activity_rows_),
                                 per_commit);
    };
    const auto make_log = [&] { return MakeActivityLog(Path("wal"), sizes_.drained); };
    return DrainRound(insert, make_log, &activities_).status();
  }

  Status TaskRound() {
    const auto upsert = [&](BareSqlite& db, bool prepare, std::size_t per_commit) {
      return db.UpsertTasks(prepare ? Before(task_rows_) : Fresh(task_rows_), per_commit);
    };
    const auto make_log = [&] {
      return MakeTaskLog(Path("wal"), {sizes_.drained, sizes_.drained, 1});
    };
    TASKWAL_ASSIGN(const double best, DrainRound(upsert, make_log, &upserts_));
    TASKWAL_TRY(MakeTaskLog(Path("wal"), {sizes_.drained, sizes_.drained / 10, 10}));
    TASKWAL_ASSIGN(const Rate coalesced, Drain(upsert, {}));
    coalesced_.Add(coalesced.per_second(), best);
    return Status::Ok();
  }

  // Returns what the best of the bare ways came to.
  template <typename Write, typename MakeLog>
  Result<double> DrainRound(const Write& write, const MakeLog& make_log, Drains* drains) {
    double best = 0;
    for (std::size_t i = 0; i < std::size(kBulkWays); ++i) {
      TASKWAL_ASSIGN(const Rate bare, BareBulk(kBulkWays[i], write));
      TASKWAL_TRY(make_log());
      TASKWAL_ASSIGN(const Rate ours, Drain(write, kBulkWays[i].rows_per_commit));
      drains->of_size[i].Add(ours.per_second(), bare.per_second());
      best = std::max(best, bare.per_second());
    }
    TASKWAL_TRY(make_log());
    TASKWAL_ASSIGN(const Rate ours, Drain(write, {}));
    drains->by_default.Add(ours.per_second(), best);
    return best;
  }

  template <typename Write>
  Result<Rate> BareBulk(const BulkWay& way, const Write& write) {
    Rate rate{sizes_.drained, 0};
    {
      TASKWAL_ASSIGN(const auto bare, BareSqlite::Create(Path("bare.db"), way.sync));
      TASKWAL_TRY(write(*bare, true, kLargeCommit));
      const Stopwatch watch;
      TASKWAL_TRY(write(*bare, false, way.rows_per_commit));
      rate.seconds = watch.seconds();
    }
    TASKWAL_TRY(Finish());
    return rate;
  }

  // The log in wal/ into a database with rows; from before opening until all is there.
  template <typename Write>
  Result<Rate> Drain(const Write& write, std::optional<std::uint32_t> batch_size) {
    Rate rate{sizes_.drained, 0};
    {
      TASKWAL_ASSIGN(const auto bare, BareSqlite::Create(Path("ours.db")));
      TASKWAL_TRY(write(*bare, true, kLargeCommit));
    }
    {
      const Stopwatch watch;
      TASKWAL_ASSIGN(const auto storage, OpenStorage("ours.db", batch_size));
      TASKWAL_TRY(storage->Flush(kFlushTimeout));
      rate.seconds = watch.seconds();
      TASKWAL_TRY(storage->Close());
    }
    TASKWAL_TRY(Finish());
    return rate;
  }

  static double Seconds(std::chrono::milliseconds time) {
    return std::chrono::duration<double>(time).count();
  }

  // Leaves an empty directory, and tells the progress.
  Status Finish() {
    for (const auto& entry : std::filesystem::directory_iterator(settings_.directory)) {
      std::filesystem::remove_all(entry.path());
    }
    constexpr std::uint64_t kSteps = 14;
    if (settings_.on_progress) {
      settings_.on_progress(++done_, kSteps * static_cast<std::uint64_t>(settings_.rounds));
    }
    return CheckGoesOn(settings_);
  }

  const Settings& settings_;
  const Sizes sizes_;
  std::vector<Activity> activity_rows_;
  std::vector<Task> task_rows_;
  Comparison process_, disk_, commits_, coalesced_;
  Drains activities_, upserts_;
  std::uint64_t done_ = 0;
};

}  // namespace

Result<Report> RunFlush(const Settings& settings) {
  if (!settings.database.empty()) return RunServerFlush(settings);
  return FlushBench(settings).Run();
}

}  // namespace taskwal::bench

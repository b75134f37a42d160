// Into a database server: bulk rates beside the server's own ways, an engine's calls beside one
// statement each, and the drain of a large backlog.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>

#include "base/status_macros.h"
#include "bench/backlog.h"
#include "bench/bare_server.h"
#include "bench/comparison.h"
#include "bench/workload.h"
#include "bench/yardsticks.h"
#include "storage/backend.h"
#include "storage/created_rank.h"
#include "taskwal/open.h"

namespace taskwal::bench {
namespace {

constexpr auto kFlushTimeout = std::chrono::minutes(10);
constexpr std::size_t kSmallCommit = 500;
constexpr std::size_t kLargeCommit = 5'000;
constexpr int kManyConnections = 16;
constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr std::uint64_t kStamp = 1'790'000'000'000'000;  // microseconds, as in the log

struct Sizes {
  std::uint64_t rows_before;  // in the table already
  std::uint64_t activities;   // brought in
  std::uint64_t upserts;      // the same, of tasks
  std::uint64_t tasks;        // of the engine
  std::chrono::milliseconds bare_time;
  std::uint64_t backlog;      // records
};

Sizes SizesFor(const Settings& settings) {
  if (settings.quick) return {100, 600, 600, 20, std::chrono::milliseconds(50), 2'000};
  return {20'000, 80'000, 50'000, 4'000, std::chrono::milliseconds(1'500), 1'000'000};
}

template <typename Row>
Row MakeRow(std::uint64_t n);
template <>
Activity MakeRow<Activity>(std::uint64_t n) {
  return MakeActivity(n);
}
template <>
Task MakeRow<Task>(std::uint64_t n) {
  Task task = MakeTask(n);
  task.created_at = task.updated_at = Time(std::chrono::microseconds(kStamp + n));
  return task;
}

// What is there before: of a task an earlier state, so that bringing it in changes the row. (A
// server may see that nothing changes, and write nothing.)
template <typename Row>
Row MakeEarlierRow(std::uint64_t n) {
  Row row = MakeRow<Row>(n);
  if constexpr (std::is_same_v<Row, Task>) {
    row.processing_state = "queued";
    *row.updated_at -= std::chrono::seconds(1);
  }
  return row;
}

// The calls of one task as a DAG engine makes them: five updates and ten activities.
constexpr std::uint64_t kCallsPerTask = 15;

template <typename Engine>
Status RunTask(Engine& engine, std::uint64_t n) {
  std::uint64_t activity = n * 10;
  const auto log_two = [&]() -> Status {
    TASKWAL_TRY(engine.Log(MakeActivity(activity++)));
    return engine.Log(MakeActivity(activity++));
  };
  Task task = MakeTask(n);
  TASKWAL_TRY(engine.Save(task));
  TASKWAL_TRY(log_two());
  TASKWAL_TRY(engine.Update(task.id, TaskStatus::kRunning));
  TASKWAL_TRY(log_two());
  task.status = TaskStatus::kRunning;
  for (const char* state : {"loaded", "transformed"}) {
    task.processing_state = state;
    TASKWAL_TRY(engine.Save(task));
    TASKWAL_TRY(log_two());
  }
  TASKWAL_TRY(engine.Update(task.id, TaskStatus::kCompleted));
  return log_two();
}

class LoggedEngine {
 public:
  LoggedEngine(TaskStorage& storage, const WriteOptions& how) : storage_(storage), how_(how) {}
  Status Save(const Task& task) { return storage_.SaveTask(task, how_).status(); }
  Status Log(const Activity& activity) { return storage_.LogActivity(activity, how_).status(); }
  Status Update(const std::string& id, TaskStatus status) {
    return storage_.UpdateTaskStatus(id, status, {}, how_).status();
  }

 private:
  TaskStorage& storage_;
  const WriteOptions how_;
};

class BareEngine {
 public:
  explicit BareEngine(BareConnection& bare) : bare_(bare) {}
  Status Save(const Task& task) { return bare_.Upsert(task); }
  Status Log(const Activity& activity) { return bare_.Insert(activity); }
  Status Update(const std::string& id, TaskStatus status) {
    return bare_.UpdateStatus(id, status);
  }

 private:
  BareConnection& bare_;
};

// One size of transaction against the best way of the server (on one connection), and against each
// way where there are several.
struct BulkRows {
  Comparison path;    // our session alone, batches made beforehand as the yardsticks' rows are
  Comparison drain;   // a log, with the connections that it has by default
  Comparison single;  // a log, with one connection: composing a batch and writing it take turns
  std::vector<Comparison> ways;

  void AppendTo(Report* report) const {
    report->comparisons.insert(report->comparisons.end(), {path, drain, single});
    if (ways.size() == 1) return;
    report->comparisons.insert(report->comparisons.end(), ways.begin(), ways.end());
  }
};

class ServerBench {
 public:
  ServerBench(const Settings& settings, std::unique_ptr<BareServer> server)
      : settings_(settings), sizes_(SizesFor(settings)), server_(std::move(server)) {}

  Result<Report> Run() {
    NameRows();
    for (int round = 0; round < settings_.rounds; ++round) {
      const auto turn = static_cast<std::size_t>(round);
      for (const std::size_t size : {kSmallCommit, kLargeCommit}) {
        if (Wants("activities")) TASKWAL_TRY(BulkRound<Activity>(turn, size));
        if (Wants("tasks")) TASKWAL_TRY(BulkRound<Task>(turn, size));
      }
      if (Wants("calls")) TASKWAL_TRY(CallsRound());
      TASKWAL_TRY(CheckGoesOn(settings_));
      if (Wants("backlog")) TASKWAL_TRY(BacklogRound(turn));
    }
    return MakeReport();
  }

 private:
  [[nodiscard]] bool Wants(std::string_view part) const {
    return settings_.part.empty() || settings_.part == part;
  }

  void NameRows() {
    const std::string bare = "one autocommitted statement per call";
    const std::string many = bare + ", 16 connections";
    const std::string process = "calls end to end, level process";
    const std::string disk = "calls end to end, level disk, acknowledged later";
    const double many_goal = settings_.database.starts_with("mysql") ? 7 : 6;
    calls_[0] = {process, 1, "calls/s", bare, AtLeast(20), {}, {}};
    calls_[1] = {process, 1, "calls/s", many, AtLeast(many_goal), {}, {}};
    calls_[2] = {disk, 1, "calls/s", bare, AtLeast(20), {}, {}};
    calls_[3] = {disk, 1, "calls/s", many, AtLeast(many_goal), {}, {}};
    commits_ = {"database commits per 1,000 calls", 1, "", "", AtMost(1000.0 / 50), {}, {}};
    drain_ = {"drain of a backlog of " + std::to_string(sizes_.backlog) + " activities",
              1, "rows/s", "ours, " + std::to_string(sizes_.activities) + " of them", AtLeast(0.9),
              {}, {}};
    bare_drain_ = drain_;
    bare_drain_.yardstick = "a bare bulk load of as many, one connection";
    bare_drain_.goal = {};
    memory_ = {"memory growth, draining it", 1, "MiB", "", AtMost(64), {}, {}};
  }

  Report MakeReport() const {
    Report report{"flush", {}};
    for (const auto* kinds : {&activities_, &tasks_}) {
      for (const auto& [per_commit, rows] : *kinds) rows.AppendTo(&report);
    }
    if (Wants("calls")) {
      report.comparisons.insert(report.comparisons.end(), calls_.begin(), calls_.end());
      report.comparisons.push_back(commits_);
    }
    if (Wants("backlog")) {
      report.comparisons.insert(report.comparisons.end(), {drain_, bare_drain_, memory_});
    }
    return report;
  }

  std::string Path(const std::string& name) const { return settings_.directory + "/" + name; }

  // --- bulk

  template <typename Row>
  static std::vector<BulkWay<Row>> WaysOf(BareConnection& bare) {
    if constexpr (std::is_same_v<Row, Activity>) {
      return bare.ActivityWays();
    } else {
      return bare.TaskWays();
    }
  }

  template <typename Row>
  [[nodiscard]] std::uint64_t CountOf() const {
    return std::is_same_v<Row, Activity> ? sizes_.activities : sizes_.upserts;
  }

  template <typename Row>
  BulkRows& RowsFor(std::size_t per_commit, const std::vector<BulkWay<Row>>& ways) {
    constexpr bool kIsTask = std::is_same_v<Row, Task>;
    const auto [entry, is_new] = (kIsTask ? tasks_ : activities_).try_emplace(per_commit);
    BulkRows& rows = entry->second;
    if (!is_new) return rows;
    const std::string scenario = std::string(kIsTask ? "task upserts" : "activities") +
                                 ", tx of " + std::to_string(per_commit);
    const std::string best = ways.size() > 1 ? "the best of the bare ways" : "bare " + ways[0].name;
    rows.path = {"bulk path, " + scenario, 1, "rows/s", best, AtLeast(0.9), {}, {}};
    rows.drain = {"drain, " + scenario, 1, "rows/s", best, AtLeast(0.9), {}, {}};
    rows.single = rows.drain;
    rows.single.scenario += ", one connection";
    rows.single.goal = {};
    for (const BulkWay<Row>& way : ways) {
      rows.ways.push_back(
          {"bulk path, " + scenario, 1, "rows/s", "bare " + way.name, {}, {}, {}});
    }
    return rows;
  }

  // The contestants take turns, another one first in each round: what one leaves the server to do
  // (pages to write, rows to purge) another one pays for.
  template <typename Row>
  Status BulkRound(std::size_t round, std::size_t per_commit) {
    TASKWAL_TRY(Prepare<Row>());
    TASKWAL_ASSIGN(const auto bare, server_->Connect());
    const std::vector<BulkWay<Row>> ways = WaysOf<Row>(*bare);
    std::vector<std::function<Result<Rate>()>> contestants = {
        [&] { return BulkPath<Row>(per_commit); },
        [&] { return OurBulk<Row>(per_commit, Options().worker_count); },
        [&] { return OurBulk<Row>(per_commit, 1); }};
    for (std::size_t way = 0; way < ways.size(); ++way) {
      contestants.push_back([&, way] { return BareWay<Row>(way, per_commit); });
    }
    std::vector<double> rates(contestants.size());
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      TASKWAL_TRY(CheckGoesOn(settings_));
      const std::size_t turn = (round + i) % contestants.size();
      TASKWAL_ASSIGN(const Rate rate, contestants[turn]());
      rates[turn] = rate.per_second();
    }
    const std::span<const double> bare_rates = std::span(rates).subspan(3);
    BulkRows& rows = RowsFor(per_commit, ways);
    const double best = *std::max_element(bare_rates.begin(), bare_rates.end());
    rows.path.Add(rates[0], best);
    rows.drain.Add(rates[1], best);
    rows.single.Add(rates[2], best);
    for (std::size_t way = 0; way < ways.size(); ++way) {
      rows.ways[way].Add(rates[0], bare_rates[way]);
    }
    Progress();
    return Status::Ok();
  }

  template <typename Row>
  Result<Rate> BareWay(std::size_t way, std::size_t per_commit) {
    TASKWAL_TRY(Prepare<Row>());
    TASKWAL_ASSIGN(const auto bare, server_->Connect());
    return Load(WaysOf<Row>(*bare)[way], MakeRow<Row>, 0, CountOf<Row>(), per_commit);
  }

  // New tables with some rows: activities are others than those that come, and of the tasks two
  // fifths of those that come are there.
  template <typename Row>
  Status Prepare() {
    TASKWAL_TRY(server_->Reset());
    TASKWAL_ASSIGN(const auto bare, server_->Connect());
    const std::uint64_t first =
        std::is_same_v<Row, Task> ? sizes_.upserts - sizes_.rows_before : sizes_.backlog;
    return Load(WaysOf<Row>(*bare)[0], MakeEarlierRow<Row>, first, sizes_.rows_before, kLargeCommit)
        .status();
  }

  // The rows are made beforehand, a transaction's worth at a time.
  template <typename Row>
  Result<Rate> Load(const BulkWay<Row>& way, Row (*make)(std::uint64_t), std::uint64_t first,
                    std::uint64_t count, std::size_t per_commit) {
    Rate rate;
    std::vector<Row> rows;
    while (rate.records < count) {
      rows.clear();
      for (std::uint64_t n = rate.records; n < count && rows.size() < per_commit; ++n) {
        rows.push_back(make(first + n));
      }
      const Stopwatch watch;
      TASKWAL_TRY(way.load(rows));
      rate += {rows.size(), watch.seconds()};
    }
    return rate;
  }

  // Watermarks of all partitions move with each transaction, as they do when a log is drained.
  template <typename Row>
  Result<Rate> BulkPath(std::size_t per_commit) {
    TASKWAL_TRY(Prepare<Row>());
    TASKWAL_ASSIGN(const auto backend, storage::MakeBackend(server_->dsn(), {}));
    TASKWAL_ASSIGN(const auto session, backend->Connect());
    const std::vector<storage::Lsn> start(Options().partitions, 0);
    storage::Batch batch;
    batch.wal_id = Uuid::Make();
    batch.epoch = 1;
    TASKWAL_TRY(session->RegisterLog(batch.wal_id, batch.epoch, start).status());
    Rate rate;
    while (rate.records < CountOf<Row>()) {
      const std::uint64_t first = rate.records;
      const std::uint64_t last = std::min(first + per_commit, CountOf<Row>());
      batch.moves.clear();
      for (std::uint32_t p = 0; p < start.size(); ++p) batch.moves.push_back({p, first, last});
      FillRows<Row>(&batch, first, last);
      const Stopwatch watch;
      TASKWAL_ASSIGN(const storage::ApplyResult result, session->Apply(batch));
      rate += {last - first, watch.seconds()};
      if (result.outcome == storage::ApplyResult::Outcome::kApplied) continue;
      return Status::Unavailable("a batch of the benchmark was turned away");
    }
    return rate;
  }

  template <typename Row>
  static void FillRows(storage::Batch* batch, std::uint64_t first, std::uint64_t last) {
    batch->activities.clear();
    batch->tasks.clear();
    for (std::uint64_t n = first; n < last; ++n) {
      if constexpr (std::is_same_v<Row, Activity>) {
        batch->activities.push_back({MakeRow<Row>(n), n + 1});
      } else {
        storage::TaskChange& change = batch->tasks.emplace_back();
        change.task = MakeRow<Row>(n);
        change.id = change.task.id;
        change.origin = {n + 1, kStamp + n};
        change.created_rank =
            storage::MakeCreatedRank(true, {change.origin.stamp, batch->wal_id, change.origin.lsn});
      }
    }
  }

  template <typename Row>
  Result<Rate> OurBulk(std::size_t per_commit, std::uint32_t connections) {
    TASKWAL_TRY(Prepare<Row>());
    if constexpr (std::is_same_v<Row, Activity>) {
      TASKWAL_TRY(MakeActivityLog(Path("wal"), CountOf<Row>()));
    } else {
      TASKWAL_TRY(MakeTaskLog(Path("wal"), {CountOf<Row>(), CountOf<Row>(), 1}));
    }
    return Drain(CountOf<Row>(), per_commit, connections);
  }

  // From before opening the log until all its records are in the database.
  Result<Rate> Drain(std::uint64_t records, std::size_t per_commit, std::uint32_t connections) {
    Options options;
    options.batch_size = static_cast<std::uint32_t>(per_commit);
    options.worker_count = connections;
    Rate rate{records, 0};
    {
      const Stopwatch watch;
      TASKWAL_ASSIGN(const auto storage, OpenStorage(options));
      TASKWAL_TRY(storage->Flush(kFlushTimeout));
      rate.seconds = watch.seconds();
      TASKWAL_TRY(storage->Close());
    }
    std::filesystem::remove_all(Path("wal"));
    return rate;
  }

  Result<std::unique_ptr<TaskStorage>> OpenStorage(Options options) {
    options.wal_dir = Path("wal");
    options.enable_metrics = false;
    return OpenTaskStorage(server_->dsn(), std::move(options));
  }

  // --- calls

  Status CallsRound() {
    TASKWAL_ASSIGN(const Rate one, BareCalls(1));
    TASKWAL_ASSIGN(const Rate many, BareCalls(kManyConnections));
    for (const bool is_disk : {false, true}) {
      TASKWAL_TRY(CheckGoesOn(settings_));
      TASKWAL_TRY(Prepare<Activity>());
      TASKWAL_ASSIGN(const std::uint64_t before, server_->Commits());
      TASKWAL_ASSIGN(const Rate ours,
                     LoggedCalls(is_disk ? Durability::kDisk : Durability::kProcess));
      TASKWAL_ASSIGN(const std::uint64_t after, server_->Commits());
      calls_[is_disk ? 2 : 0].Add(ours.per_second(), one.per_second());
      calls_[is_disk ? 3 : 1].Add(ours.per_second(), many.per_second());
      const auto commits = static_cast<double>(after - before);
      if (is_disk) commits_.Add(1000 * commits / static_cast<double>(ours.records));
    }
    Progress();
    return Status::Ok();
  }

  Result<Rate> LoggedCalls(Durability level) {
    Rate rate{sizes_.tasks * kCallsPerTask, 0};
    {
      TASKWAL_ASSIGN(const auto storage, OpenStorage({}));
      WriteOptions how;
      how.durability = level;
      how.wait = WaitFor::kAppended;
      LoggedEngine engine(*storage, how);
      const Stopwatch watch;
      for (std::uint64_t n = 0; n < sizes_.tasks; ++n) TASKWAL_TRY(RunTask(engine, n));
      TASKWAL_TRY(storage->Flush(kFlushTimeout));
      rate.seconds = watch.seconds();
      TASKWAL_TRY(storage->Close());
    }
    std::filesystem::remove_all(Path("wal"));
    return rate;
  }

  // Each connection runs tasks of its own.
  Result<Rate> BareCalls(int connections) {
    constexpr std::uint64_t kTasksApart = 1'000'000;
    TASKWAL_TRY(Prepare<Activity>());
    std::vector<std::unique_ptr<BareConnection>> bare;
    for (int i = 0; i < connections; ++i) {
      TASKWAL_ASSIGN(bare.emplace_back(), server_->Connect());
    }
    std::vector<Status> ends(bare.size());
    std::atomic<std::uint64_t> tasks{0};
    const double seconds = RunProducers(connections, [&](int i) {
      const auto mine = static_cast<std::size_t>(i);
      BareEngine engine(*bare[mine]);
      const Stopwatch watch;
      const double until = std::chrono::duration<double>(sizes_.bare_time).count();
      for (std::uint64_t n = (mine + 1) * kTasksApart; watch.seconds() < until; ++n) {
        ends[mine] = RunTask(engine, n);
        if (!ends[mine].ok()) return;
        tasks.fetch_add(1);
      }
    });
    for (const Status& end : ends) TASKWAL_TRY(end);
    return Rate{tasks.load() * kCallsPerTask, seconds};
  }

  // --- a backlog

  // They take turns at being first, as above: a million rows leave the server much to do.
  Status BacklogRound(std::size_t round) {
    const std::array<std::function<Result<Rate>()>, 3> contestants = {
        [&] { return DrainBacklog(); },
        [&] { return OurBulk<Activity>(kLargeCommit, Options().worker_count); },
        [&] { return LoadBacklog(); }};
    std::array<double, 3> rates{};
    for (std::size_t i = 0; i < contestants.size(); ++i) {
      const std::size_t turn = (round + i) % contestants.size();
      TASKWAL_ASSIGN(const Rate rate, contestants[turn]());
      rates[turn] = rate.per_second();
    }
    drain_.Add(rates[0], rates[1]);
    bare_drain_.Add(rates[0], rates[2]);
    Progress();
    return Status::Ok();
  }

  Result<Rate> DrainBacklog() {
    TASKWAL_TRY(Prepare<Activity>());
    TASKWAL_TRY(MakeActivityLog(Path("wal"), sizes_.backlog));
    ::malloc_trim(0);
    const std::uint64_t before = MemoryNow();
    ResetPeakMemory();
    TASKWAL_ASSIGN(const Rate rate, Drain(sizes_.backlog, kLargeCommit, Options().worker_count));
    memory_.Add(static_cast<double>(PeakMemory() - std::min(PeakMemory(), before)) / kMebibyte);
    return rate;
  }

  Result<Rate> LoadBacklog() {
    TASKWAL_TRY(Prepare<Activity>());
    TASKWAL_ASSIGN(const auto bare, server_->Connect());
    return Load(bare->ActivityWays()[0], MakeRow<Activity>, 0, sizes_.backlog, kLargeCommit);
  }

  void Progress() {
    const std::uint64_t per_round = settings_.part.empty() ? 6 : Wants("calls") ||
                                    Wants("backlog") ? 1 : 2;
    if (settings_.on_progress) {
      settings_.on_progress(++done_, per_round * static_cast<std::uint64_t>(settings_.rounds));
    }
  }

  const Settings& settings_;
  const Sizes sizes_;
  const std::unique_ptr<BareServer> server_;
  std::map<std::size_t, BulkRows> activities_, tasks_;  // by rows per transaction
  std::array<Comparison, 4> calls_;
  Comparison commits_, drain_, bare_drain_, memory_;
  std::uint64_t done_ = 0;
};

}  // namespace

const std::vector<std::string>& ServerParts() {
  static const std::vector<std::string> parts = {"activities", "tasks", "calls", "backlog"};
  return parts;
}

Result<Report> RunServerFlush(const Settings& settings) {
  TASKWAL_ASSIGN(auto server, BareServer::Open(settings.database));
  return ServerBench(settings, std::move(server)).Run();
}

}  // namespace taskwal::bench

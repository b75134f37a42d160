// Random batches on a database and on the model: whatever comes, both hold the same afterwards.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "storage/backend.h"
#include "tests/contract/backend_fixture.h"

namespace taskwal::storage {
namespace {

constexpr int kLogs = 3;
constexpr std::uint32_t kPartitions = 4;

// Few ids, stamps and LSNs, so that everything collides with everything.
class BatchMaker {
 public:
  explicit BatchMaker(std::uint64_t seed) : random_(seed) {
    for (int i = 0; i < kLogs; ++i) logs_.push_back(Uuid::Make());
  }

  [[nodiscard]] const std::vector<Uuid>& logs() const { return logs_; }

  Batch Next() {
    Batch batch;
    batch.wal_id = logs_[random_.Below(kLogs)];
    batch.epoch = random_.OneIn(20) ? 2 : 1;
    if (random_.OneIn(2)) batch.moves.push_back(Move());
    if (random_.OneIn(8)) batch.dag_deletes.push_back({Dag(), Where()});
    std::set<std::string> ids;
    for (std::uint64_t i = random_.Below(6); i > 0; --i) ids.insert("t" + Digit(12));
    for (const std::uint32_t turn : {0u, 1u, 2u}) {
      for (const std::string& id : ids) {
        if (turn > 0 && !random_.OneIn(4)) continue;
        TaskChange change = Change(id, batch.wal_id);
        change.turn = turn;
        const bool may_guard =
            change.kind == TaskChange::Kind::kPut || change.kind == TaskChange::Kind::kPatch;
        change.open_only = may_guard && random_.OneIn(3);
        batch.tasks.push_back(std::move(change));
      }
    }
    for (std::uint64_t i = random_.Below(4); i > 0; --i) {
      Activity activity = MakeActivity("a" + Digit(60), "t" + Digit(12), Moment());
      activity.message = Digit(9);
      batch.activities.push_back({activity, 1});
    }
    return batch;
  }

 private:
  std::string Digit(std::uint64_t below) { return std::to_string(random_.Below(below)); }
  std::string Dag() { return "run-" + Digit(3); }
  Time Moment() { return After(static_cast<std::int64_t>(random_.Below(50))); }
  Origin Where() { return {random_.Below(30) + 1, random_.Below(30) + 1}; }
  WatermarkMove Move() {
    // Most guesses at the watermark are wrong at first, and the low ones right again and again.
    const Lsn expected = random_.Below(3);
    return {static_cast<std::uint32_t>(random_.Below(kPartitions + 1)), expected, random_.Below(3)};
  }
  TimeChange RandomTimeChange() {
    return {static_cast<TimeChange::Kind>(random_.Below(3)), Moment()};
  }

  TaskChange Change(const std::string& id, const Uuid& log) {
    Task task = MakeTask(id, Dag(), static_cast<TaskStatus>(random_.Below(5)), Moment());
    task.error = Digit(1000);
    if (random_.OneIn(2)) task.payload = Digit(100);
    if (random_.OneIn(2)) task.completed_at = Moment();
    StatusPatch patch = MakePatch(static_cast<TaskStatus>(random_.Below(5)), Digit(1000), Moment());
    patch.started_at = RandomTimeChange();
    patch.completed_at = RandomTimeChange();
    switch (random_.Below(5)) {
      case 0: return Delete(id, Where());
      case 1: return Patch(id, patch, Where());
      case 2: return Replace(task, Where(), random_.OneIn(2), log);
      default: return Put(task, Where(), random_.OneIn(2), log);
    }
  }

  Random random_;
  std::vector<Uuid> logs_;
};

class Pair {
 public:
  Pair(const char* kind, const TempDir& dir, const std::vector<Uuid>& logs) : logs_(logs) {
    for (const char* each : {"memory", kind}) {
      auto backend = OpenBackend(each, NewDatabase(each, dir));
      EXPECT_OK(backend);
      backends_.push_back(std::move(backend).value());
      auto session = backends_.back()->Connect();
      EXPECT_OK(session);
      sessions_.push_back(std::move(session).value());
      const std::vector<Lsn> start(kPartitions, 0);
      for (const Uuid& log : logs_) EXPECT_OK(sessions_.back()->RegisterLog(log, 1, start));
    }
  }

  bool ApplyAlike(const Batch& batch) {
    const auto model = sessions_[0]->Apply(batch);
    auto database = sessions_[1]->Apply(batch);
    if (database.ok() && database->outcome == ApplyResult::Outcome::kRepeatIdempotent) {
      Batch again = batch;
      again.idempotent = true;
      database = sessions_[1]->Apply(again);
    }
    EXPECT_OK(model);
    EXPECT_OK(database);
    return model.ok() && database.ok() && model->outcome == database->outcome &&
           model->duplicates == database->duplicates;
  }

  void ExpectAlike() {
    for (const Uuid& log : logs_) {
      EXPECT_EQ(sessions_[0]->ReadLog(log)->watermarks, sessions_[1]->ReadLog(log)->watermarks);
    }
    const TaskPage model = *sessions_[0]->QueryTasks({}), database = *sessions_[1]->QueryTasks({});
    EXPECT_EQ(model.tasks, database.tasks);
    for (const Task& task : model.tasks) ExpectSameOrigin(task.id);
    EXPECT_EQ(sessions_[0]->QueryActivities({})->activities,
              sessions_[1]->QueryActivities({})->activities);
    EXPECT_EQ(*sessions_[0]->HighestStamp(), *sessions_[1]->HighestStamp());
    EXPECT_EQ(sessions_[0]->Count()->tasks_by_status, sessions_[1]->Count()->tasks_by_status);
  }

 private:
  void ExpectSameOrigin(const std::string& id) {
    const auto model = sessions_[0]->GetTask(id), database = sessions_[1]->GetTask(id);
    ASSERT_OK(database);
    EXPECT_EQ(model->wal_id, database->wal_id) << id;
    EXPECT_EQ(model->origin.lsn, database->origin.lsn) << id;
    EXPECT_EQ(model->origin.stamp, database->origin.stamp) << id;
    EXPECT_EQ(model->created_rank, database->created_rank) << id;
  }

  const std::vector<Uuid> logs_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

class BackendModel : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Backends, BackendModel,
                         ::testing::ValuesIn(std::span(kBackends).subspan(1)), BackendName);

TEST_P(BackendModel, HoldsWhatTheModelHolds) {
  const char* given = std::getenv("TASKWAL_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261121;
  SCOPED_TRACE("TASKWAL_SEED=" + std::to_string(seed));
  for (std::uint64_t round = 0; round < 8; ++round) {
    TempDir dir;
    BatchMaker maker(seed + round);
    Pair pair(GetParam(), dir, maker.logs());
    for (int i = 0; i < 60; ++i) {
      ASSERT_TRUE(pair.ApplyAlike(maker.Next())) << "round " << round << ", batch " << i;
      if (i % 5 == 0) pair.ExpectAlike();
    }
    pair.ExpectAlike();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace taskwal::storage

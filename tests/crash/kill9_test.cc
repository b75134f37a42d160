// A process is killed with -9 at random points, over and over on one directory, and recovery
// itself is killed too. At the end the database must hold exactly what was acknowledged, and
// beyond that at most the one call that each producer was in when it was killed. Nothing may have
// been brought twice, though the tables' keys would swallow it: every row that comes is noted,
// before any key is looked at, in the transaction that brings it.
//
// TASKWAL_CRASH_CYCLES and TASKWAL_CRASH_SEED override the number of kills and the seed.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "tests/crash/crash_operations.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

std::uint64_t NumberFromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What a database may hold: acknowledged operations have happened, the last one of each producer in
// each cycle may have.
class Expectation {
 public:
  // Status and error, or no such task.
  using State = std::optional<std::pair<std::string, std::string>>;

  void Happened(const CrashOperation& operation) { Apply(operation, false); }
  void MayHaveHappened(const CrashOperation& operation) { Apply(operation, true); }

  [[nodiscard]] std::size_t acknowledged() const { return acknowledged_; }

  void Check(SQLite::Database& database) const {
    std::map<std::string, State> stored;
    SQLite::Statement tasks(database, "SELECT id, status, error FROM dag_tasks");
    while (tasks.executeStep()) {
      stored[tasks.getColumn(0)] =
          std::pair(tasks.getColumn(1).getString(), tasks.getColumn(2).getString());
    }
    for (const auto& [id, states] : tasks_) {
      const auto found = stored.find(id);
      const State state = found == stored.end() ? State() : found->second;
      EXPECT_TRUE(states.contains(state)) << "task " << id << " is " << Shown(state)
                                          << " and should be " << Shown(*states.begin());
      stored.erase(id);
    }
    EXPECT_TRUE(stored.empty()) << "a task nobody wrote: " << stored.begin()->first;

    std::set<std::string> missing = logged_;
    SQLite::Statement activities(database, "SELECT id FROM dag_task_activity_logs");
    while (activities.executeStep()) {
      const std::string id = activities.getColumn(0);
      EXPECT_TRUE(missing.erase(id) == 1 || maybe_logged_.contains(id))
          << "an activity nobody wrote: " << id;
    }
    EXPECT_TRUE(missing.empty()) << missing.size() << " acknowledged activities are lost: "
                                 << *missing.begin();
  }

 private:
  static std::string Shown(const State& state) {
    return state ? state->first + " by " + state->second : "absent";
  }

  void Apply(const CrashOperation& operation, bool maybe) {
    using Kind = CrashOperation::Kind;
    if (!maybe) ++acknowledged_;
    if (operation.kind == Kind::kLog) {
      (maybe ? maybe_logged_ : logged_).insert(operation.tag);
      return;
    }
    auto& states = tasks_[operation.task_id];
    if (states.empty()) states.insert(State());
    std::set<State> after;
    for (const State& state : states) {
      if (maybe) after.insert(state);
      if (operation.kind == Kind::kSave) {
        after.insert(std::pair("pending", operation.tag));
      } else if (operation.kind == Kind::kDelete || !state) {
        after.insert(State());
      } else {
        after.insert(std::pair(std::string(TaskStatusName(operation.status)), operation.tag));
      }
    }
    states = std::move(after);
  }

  std::map<std::string, std::set<State>> tasks_;  // every state a task may be in
  std::set<std::string> logged_, maybe_logged_;
  std::size_t acknowledged_ = 0;
};

constexpr const char* kNoteWhatIsBrought = R"(
CREATE TABLE brought (how TEXT, id TEXT, lsn INTEGER);
CREATE TRIGGER brought_activity BEFORE INSERT ON dag_task_activity_logs
  BEGIN INSERT INTO brought VALUES ('activity', NEW.id, 0); END;
CREATE TRIGGER brought_task BEFORE INSERT ON dag_tasks
  BEGIN INSERT INTO brought VALUES ('task', NEW.id, NEW.wal_lsn); END;
CREATE TRIGGER changed_task AFTER UPDATE ON dag_tasks
  BEGIN INSERT INTO brought VALUES ('change', NEW.id, NEW.wal_lsn); END;
)";

void ExpectNothingBroughtTwice(SQLite::Database& database) {
  SQLite::Statement twice(database,
                          "SELECT how, id, lsn, count(*) FROM brought GROUP BY 1, 2, 3 "
                          "HAVING count(*) > 1");
  while (twice.executeStep()) {
    ADD_FAILURE() << twice.getColumn(0) << " " << twice.getColumn(1) << " of LSN "
                  << twice.getColumn(2) << " was brought " << twice.getColumn(3) << " times";
  }
  const auto count = [&database](const char* query) {
    return database.execAndGet(query).getInt64();
  };
  EXPECT_EQ(count("SELECT count(*) FROM brought WHERE how = 'activity'"),
            count("SELECT count(*) FROM dag_task_activity_logs"));
  EXPECT_GT(count("SELECT count(*) FROM brought WHERE how = 'task'"), 0);
}

class Kill9 : public ::testing::Test {
 protected:
  void SetUp() override {
    const RunOutcome made = taskwal::Run({TASKWAL_TOOL, "schema", "migrate", "--db", dsn_});
    ASSERT_EQ(made.exit.code, 0) << made.err;
    SQLite::Database(database_, SQLite::OPEN_READWRITE).exec(kNoteWhatIsBrought);
  }

  void RunCycle(std::uint64_t cycle) {
    auto child = Child::Start({TASKWAL_CRASH_CHILD, wal_, dsn_, std::to_string(cycle)});
    ASSERT_OK(child);
    const std::uint64_t acknowledgements = random_.OneIn(10) ? 0 : random_.Below(300);
    std::uint64_t next[kProducers] = {};
    for (std::uint64_t i = 0; i < acknowledgements; ++i) {
      const auto line = (*child)->ReadLine();
      ASSERT_TRUE(line) << "the child ended by itself: " << (*child)->errors();
      Acknowledge(*line, cycle, next);
    }
    Work(random_.Below(3000));
    (*child)->Kill();
    while (const auto line = (*child)->ReadLine()) Acknowledge(*line, cycle, next);
    const ChildExit exit = (*child)->Wait();
    ASSERT_EQ(exit.signal, 9) << (*child)->errors();
    for (std::uint32_t producer = 0; producer < kProducers; ++producer) {
      expected_.MayHaveHappened(MakeCrashOperation(cycle, producer, next[producer]));
    }
  }

  // Kills a recovery wherever it is.
  void KillRecovery() {
    auto recovery = Child::Start({TASKWAL_TOOL, "recover", "--wal", wal_, "--db", dsn_});
    ASSERT_OK(recovery);
    Work(random_.Below(40'000));
    (*recovery)->Kill();
    const ChildExit exit = (*recovery)->Wait();
    ASSERT_TRUE(exit.signal == 9 || exit.code == 0) << (*recovery)->errors();
  }

  void Acknowledge(const std::string& line, std::uint64_t cycle, std::uint64_t* next) {
    std::istringstream in(line);
    std::uint32_t producer = 0;
    std::uint64_t number = 0, lsn = 0;
    in >> producer >> number >> lsn;
    // A line cut by the kill: that call was acknowledged to nobody.
    if (in.fail() || producer >= kProducers) return;
    ASSERT_EQ(number, next[producer]++);
    ASSERT_TRUE(lsns_.insert(lsn).second) << "LSN " << lsn << " was given out twice";
    expected_.Happened(MakeCrashOperation(cycle, producer, number));
  }

  // Time passes without a system call, so that kills fall anywhere.
  static void Work(std::uint64_t microseconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
    while (std::chrono::steady_clock::now() < end) {
    }
  }

  TempDir directory_;
  const std::string wal_ = directory_.File("wal");
  const std::string database_ = directory_.File("tasks.db");
  const std::string dsn_ = "sqlite://" + database_;
  const std::uint64_t seed_ = NumberFromEnvironment("TASKWAL_CRASH_SEED", std::random_device()());
  Random random_{seed_};
  Expectation expected_;
  std::set<std::uint64_t> lsns_;
};

TEST_F(Kill9, NothingAcknowledgedIsLostOrDoubled) {
  const std::uint64_t cycles = NumberFromEnvironment("TASKWAL_CRASH_CYCLES", 200);
  std::cout << "TASKWAL_CRASH_SEED=" << seed_ << " TASKWAL_CRASH_CYCLES=" << cycles << std::endl;
  for (std::uint64_t cycle = 1; cycle <= cycles && !HasFatalFailure(); ++cycle) {
    SCOPED_TRACE(::testing::Message() << "cycle " << cycle << ", seed " << seed_);
    RunCycle(cycle);
    if (random_.OneIn(3)) KillRecovery();
  }
  ASSERT_FALSE(HasFailure());

  const RunOutcome recovered = taskwal::Run({TASKWAL_TOOL, "recover", "--wal", wal_, "--db", dsn_});
  ASSERT_EQ(recovered.exit.code, 0) << recovered.out << recovered.err;
  const RunOutcome verified = taskwal::Run({TASKWAL_TOOL, "verify", wal_});
  EXPECT_EQ(verified.exit.code, 0) << verified.out << verified.err;
  SQLite::Database database(database_);
  expected_.Check(database);
  ExpectNothingBroughtTwice(database);
  std::cout << expected_.acknowledged() << " calls acknowledged" << std::endl;
}

}  // namespace
}  // namespace taskwal

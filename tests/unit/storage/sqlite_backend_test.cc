// What only a database file can do: be locked, full, old, new, broken, gone. The faults are made by
// a second connection.
#include "storage/sqlite/sqlite_backend.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "storage/sqlite/sqlite_connection.h"
#include "storage/sqlite/sqlite_session.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using std::chrono::milliseconds;

class SqliteBackendTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> Make(milliseconds timeout = std::chrono::seconds(20),
                                bool create = true) {
    BackendOptions options;
    options.timeout = timeout;
    options.create = create;
    auto backend = MakeBackend("sqlite://" + path_, options);
    EXPECT_OK(backend);
    return std::move(backend).value();
  }
  // With the log known and its two watermarks at 0.
  std::unique_ptr<Session> Connect(milliseconds timeout = std::chrono::seconds(20)) {
    backend_ = Make(timeout);
    auto session = backend_->Connect();
    EXPECT_OK(session);
    EXPECT_OK((*session)->RegisterLog(log_, 1, std::vector<Lsn>{0, 0}));
    return std::move(session).value();
  }
  // The second connection.
  SQLite::Database Open() {
    return SQLite::Database(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  }
  void Execute(const std::string& sql) { Open().exec(sql); }
  std::string Value(const std::string& sql) { return Open().execAndGet(sql).getString(); }

  Batch MakeBatch(const std::vector<std::string>& task_ids, Lsn from = 0) const {
    Batch batch;
    batch.wal_id = log_;
    batch.epoch = 1;
    batch.moves = {{0, from, from + 10}};
    for (const std::string& id : task_ids) batch.tasks.push_back(Put(MakeTask(id), {from + 1, 1}));
    batch.activities = {{MakeActivity("a" + std::to_string(from)), 1}};
    return batch;
  }
  static void ExpectApplied(Session& session, const Batch& batch) {
    const auto result = session.Apply(batch);
    ASSERT_OK(result);
    EXPECT_EQ(result->outcome, ApplyResult::Outcome::kApplied);
  }
  // Nothing of a batch that failed is there.
  void ExpectUntouched() {
    EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks"), "0");
    EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), "0");
    EXPECT_EQ(Value("SELECT max(lsn) FROM wal_checkpoints"), "0");
  }

  TempDir dir_;
  const std::string path_ = dir_.File("test.db");
  const Uuid log_ = Uuid::Make();
  std::unique_ptr<Backend> backend_;
};

// --- opening

TEST_F(SqliteBackendTest, NewDatabaseIsInWriteAheadModeAndFullySynchronous) {
  Connect();
  EXPECT_EQ(Value("PRAGMA journal_mode"), "wal");
  EXPECT_EQ(Value("SELECT max(version) FROM taskwal_schema"), "2");
  EXPECT_EQ(Value("SELECT DISTINCT db_id FROM taskwal_schema"), backend_->db_id().ToString());
}

TEST_F(SqliteBackendTest, IdentityOutlivesTheProcess) {
  Connect();
  const Uuid first = backend_->db_id();
  const auto again = Make();
  EXPECT_TRUE(again->db_id().IsZero());
  ASSERT_OK(again->Connect());
  EXPECT_EQ(again->db_id(), first);
}

TEST_F(SqliteBackendTest, StaysWithTheDatabaseItHasMet) {
  Connect();
  const std::string aside = dir_.File("aside.db");
  const auto move = [](const std::string& from, const std::string& to) {
    for (const std::string end : {"", "-wal", "-shm"}) {
      std::rename((from + end).c_str(), (to + end).c_str());  // some may not be there
    }
  };
  move(path_, aside);
  EXPECT_THAT(backend_->Connect().status(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("are gone")));
  EXPECT_FALSE(std::filesystem::exists(path_));
  const auto other = Make();
  ASSERT_OK(other->Connect());
  EXPECT_THAT(backend_->Connect().status(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("another database is there")));
  move(path_, dir_.File("other.db"));
  move(aside, path_);
  EXPECT_OK(backend_->Connect());
}

TEST_F(SqliteBackendTest, SeveralFirstOpenersMakeOneSchema) {
  std::vector<Uuid> ids(4);
  {
    std::vector<std::jthread> openers;
    for (Uuid& id : ids) {
      openers.emplace_back([this, &id] {
        const auto backend = Make();
        EXPECT_OK(backend->Connect());
        id = backend->db_id();
      });
    }
  }
  for (const Uuid& id : ids) EXPECT_EQ(id, ids[0]);
  EXPECT_EQ(Value("SELECT count(*) FROM taskwal_schema"), "2");
}

TEST_F(SqliteBackendTest, MissingDirectoryIsNamedAndNotMade) {
  const std::string dsn = "sqlite://" + dir_.File("none/sub/test.db");
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(dsn, {}));
  EXPECT_THAT(backend->Connect(), StatusIs(StatusCode::kUnavailable,
                                           HasSubstr("no directory " + dir_.File("none/sub"))));
  EXPECT_FALSE(std::filesystem::exists(dir_.File("none")));
}

TEST_F(SqliteBackendTest, DirectoryInPlaceOfTheFileIsNamed) {
  std::filesystem::create_directory(path_);
  EXPECT_THAT(Make()->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("is a directory")));
}

TEST_F(SqliteBackendTest, FileThatIsNoDatabaseIsRefusedUnharmed) {
  const std::string content(10000, 'x');
  std::ofstream(path_) << content;
  EXPECT_THAT(Make()->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("not a database")));
  std::ifstream file(path_);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), content);
}

TEST_F(SqliteBackendTest, UnwritableFileIsNamed) {
  using std::filesystem::perms;
  Connect();
  std::filesystem::permissions(path_, perms(0444));
  std::filesystem::permissions(dir_.path(), perms(0755));
  // Root may write to any file.
  const bool is_root = ::geteuid() == 0;
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(is_root ? ::seteuid(kNobody) : 0, 0);
  const auto session = Make()->Connect();
  ASSERT_EQ(is_root ? ::seteuid(0) : 0, 0);
  EXPECT_THAT(session, StatusIs(StatusCode::kUnavailable, HasSubstr("not writable")));
}

TEST_F(SqliteBackendTest, NewerSchemaIsRefusedWithWhatToDo) {
  Connect();
  Execute("INSERT INTO taskwal_schema SELECT 7, applied_at, db_id FROM taskwal_schema "
          "WHERE version = 1");
  for (const bool create : {true, false}) {
    EXPECT_THAT(Make(milliseconds(20000), create)->Connect(),
                StatusIs(StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("schema version 7"), HasSubstr("newer taskwal"))));
  }
}

TEST_F(SqliteBackendTest, TablesOfAnotherProgramAreLeftAlone) {
  Execute("CREATE TABLE dag_tasks (x)");
  EXPECT_THAT(Make()->Connect(), StatusIs(StatusCode::kUnavailable, HasSubstr("already exists")));
  EXPECT_EQ(Value("SELECT count(*) FROM sqlite_master WHERE type = 'table'"), "1");
}

TEST_F(SqliteBackendTest, WithoutCreateAMissingFileStaysMissing) {
  EXPECT_THAT(Make(milliseconds(20000), false)->Connect(), StatusIs(StatusCode::kNotFound));
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_OK_AND_ASSIGN(const auto elsewhere,
                       MakeBackend("sqlite://" + dir_.File("none/test.db"), {.create = false}));
  EXPECT_THAT(elsewhere->Connect(), StatusIs(StatusCode::kNotFound, HasSubstr("no directory")));
}

TEST_F(SqliteBackendTest, WithoutCreateNoTablesAreMade) {
  Execute("CREATE TABLE theirs (x)");
  EXPECT_THAT(Make(milliseconds(20000), false)->Connect(),
              StatusIs(StatusCode::kNotFound, HasSubstr("taskwal schema migrate")));
  EXPECT_EQ(Value("SELECT count(*) FROM sqlite_master"), "1");
}

TEST_F(SqliteBackendTest, WithoutCreateWhatIsThereIsRead) {
  ExpectApplied(*Connect(), MakeBatch({"t"}));
  ASSERT_OK_AND_ASSIGN(const auto session, Make(milliseconds(20000), false)->Connect());
  EXPECT_OK(session->GetTask("t"));
}

TEST_F(SqliteBackendTest, RelativeFileIsThatOfTheDirectoryAtTheStart) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  auto backend = MakeBackend("sqlite://test.db", {});
  std::filesystem::current_path(before);
  ASSERT_OK(backend);
  ASSERT_OK((*backend)->Connect());
  EXPECT_TRUE(std::filesystem::exists(path_));
}

// --- rows that cannot be taken

TEST_F(SqliteBackendTest, RefusedRowIsRejectedAndNothingOfItsBatchIsKept) {
  const auto session = Connect();
  Execute("CREATE TRIGGER poison BEFORE INSERT ON dag_tasks WHEN NEW.id = 'poison' "
          "BEGIN SELECT RAISE(ABORT, 'no such row here'); END");
  EXPECT_THAT(
      session->Apply(MakeBatch({"a", "poison"})),
      StatusIs(StatusCode::kRejected, AllOf(HasSubstr("no such row here"), HasSubstr("1811"))));
  ExpectUntouched();
  ExpectApplied(*session, MakeBatch({"a"}));
}

TEST_F(SqliteBackendTest, RefusedActivityIsRejectedToo) {
  const auto session = Connect();
  Execute("CREATE UNIQUE INDEX poison ON dag_task_activity_logs (task_id)");
  Batch batch = MakeBatch({"a"});
  batch.activities.push_back({MakeActivity("second", "t"), 2});
  EXPECT_THAT(session->Apply(batch), StatusIs(StatusCode::kRejected, HasSubstr("2067")));
  ExpectUntouched();
}

// --- rows by the batch

// Text is lent to SQLite for a row's time: what a trigger is given must not be the next row's.
TEST_F(SqliteBackendTest, ATriggerIsGivenEachRowAsItIs) {
  const auto session = Connect();
  Execute("CREATE TABLE seen (id TEXT, created_at TEXT, message TEXT)");
  Execute("CREATE TRIGGER copy AFTER INSERT ON dag_task_activity_logs BEGIN "
          "INSERT INTO seen VALUES (NEW.id, NEW.created_at, NEW.message); END");
  Batch batch = MakeBatch({});
  batch.activities.clear();
  for (int i = 0; i < 200; ++i) {
    Activity activity = MakeActivity("a" + std::to_string(1000 + i));
    activity.created_at = Time(std::chrono::hours(i));
    activity.message = std::string(static_cast<std::size_t>(i), 'm');
    batch.activities.push_back({activity, static_cast<Lsn>(i + 1)});
  }
  ExpectApplied(*session, batch);
  EXPECT_EQ(Value("SELECT count(*) FROM seen JOIN dag_task_activity_logs "
                  "USING (id, created_at, message)"),
            "200");
  EXPECT_EQ(Value("SELECT count(DISTINCT created_at) FROM seen"), "200");
}

TEST_F(SqliteBackendTest, WhatATriggerDoesAboutItsOwnConflictsHolds) {
  const auto session = Connect();
  Execute("CREATE TABLE seen (dag_id TEXT PRIMARY KEY)");
  for (const std::string table : {"dag_tasks", "dag_task_activity_logs"}) {
    Execute("CREATE TRIGGER note_" + table + " AFTER INSERT ON " + table +
            " BEGIN INSERT OR IGNORE INTO seen VALUES (NEW.dag_id); END");
  }
  Batch batch = MakeBatch({"a", "b"});
  batch.activities.push_back({MakeActivity("second"), 2});
  ExpectApplied(*session, batch);
  EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks"), "2");
  EXPECT_EQ(Value("SELECT count(*) FROM dag_task_activity_logs"), "2");
}

// Each way to put a row, in one batch and one turn.
TEST_F(SqliteBackendTest, EachRowIsPutInItsOwnWay) {
  const auto session = Connect();
  const std::vector<std::string> ids = {"keep", "keep if open", "new time", "new time if open"};
  Batch before = MakeBatch(ids);
  for (TaskChange& change : before.tasks) {
    change.task.created_at = Time(std::chrono::hours(1));
    change.task.status = TaskStatus::kCompleted;
  }
  ExpectApplied(*session, before);
  Batch after = MakeBatch(ids, 10);
  for (TaskChange& change : after.tasks) {
    change.task.created_at = Time(std::chrono::hours(2));
    change.task.status = TaskStatus::kRunning;
    change.created_rank =
        MakeCreatedRank(!change.id.starts_with("keep"), {10, log_, change.origin.lsn});
    change.open_only = change.id.ends_with("open");
  }
  ExpectApplied(*session, after);
  EXPECT_EQ(Value("SELECT group_concat(id || ' ' || substr(created_at, 12, 2) || ' ' || status, "
                  "', ') FROM (SELECT * FROM dag_tasks ORDER BY id)"),
            "keep 01 running, keep if open 01 completed, "
            "new time 02 running, new time if open 01 completed");
}

// --- trouble of the database

TEST_F(SqliteBackendTest, DroppedColumnIsNoPoison) {
  const auto session = Connect();
  Execute("ALTER TABLE dag_tasks DROP COLUMN processing_state");
  EXPECT_THAT(session->Apply(MakeBatch({"a"})), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(session->GetTask("a"), StatusIs(StatusCode::kUnavailable));
  ExpectUntouched();
  Execute("ALTER TABLE dag_tasks ADD COLUMN processing_state TEXT NOT NULL DEFAULT ''");
  ExpectApplied(*session, MakeBatch({"a"}));
  EXPECT_OK(session->GetTask("a"));
}

TEST_F(SqliteBackendTest, RegistrationThatATriggerRefusesIsNoPoison) {
  const auto session = Connect();
  Execute("CREATE TRIGGER refuse BEFORE UPDATE ON wal_checkpoints "
          "BEGIN SELECT RAISE(ABORT, 'not with us'); END");
  EXPECT_THAT(session->RegisterLog(log_, 2, std::vector<Lsn>{0, 0}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("wal_checkpoints does not take")));
}

TEST_F(SqliteBackendTest, DroppedTableIsNoPoison) {
  const auto session = Connect();
  Execute("DROP TABLE dag_task_activity_logs");
  EXPECT_THAT(session->Apply(MakeBatch({"a"})), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks"), "0");
  EXPECT_EQ(Value("SELECT max(lsn) FROM wal_checkpoints"), "0");
}

TEST_F(SqliteBackendTest, LockHeldByAnotherConnectionEndsAtTheTimeout) {
  const auto session = Connect(milliseconds(100));
  SQLite::Database other = Open();
  other.exec("BEGIN IMMEDIATE");
  EXPECT_THAT(session->Apply(MakeBatch({"a"})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("locked")));
  EXPECT_THAT(session->RegisterLog(log_, 2, std::vector<Lsn>{0, 0}),
              StatusIs(StatusCode::kUnavailable));
  EXPECT_OK(session->Count());  // readers are not held up
  other.exec("ROLLBACK");
  ExpectApplied(*session, MakeBatch({"a"}));
}

TEST_F(SqliteBackendTest, LockThatIsReleasedInTimeIsWaitedFor) {
  const auto session = Connect();
  SQLite::Database other = Open();
  other.exec("BEGIN IMMEDIATE");
  std::jthread releaser([&other] { other.exec("ROLLBACK"); });
  ExpectApplied(*session, MakeBatch({"a"}));
}

TEST_F(SqliteBackendTest, SlowStatementEndsAtTheTimeout) {
  const auto session = Connect(milliseconds(50));
  // Runs for ever, so only the deadline can end it.
  Execute("CREATE TRIGGER slow BEFORE INSERT ON dag_tasks BEGIN SELECT count(*) FROM "
          "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n); END");
  EXPECT_THAT(session->Apply(MakeBatch({"a"})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("longer than the time limit")));
  Execute("DROP TRIGGER slow");
  ExpectUntouched();
  ExpectApplied(*session, MakeBatch({"a"}));
}

// Of many short statements, too, each of which would be in time.
TEST_F(SqliteBackendTest, TheTimeOfABatchEndsItsTransaction) {
  const auto session = Connect();
  Execute("CREATE TRIGGER slow BEFORE INSERT ON dag_tasks BEGIN SELECT count(*) FROM "
          "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) "
          "SELECT i FROM n); END");
  std::vector<std::string> ids(20'000);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = "t" + std::to_string(100'000 + i);
  Batch batch = MakeBatch(ids);
  batch.time_max = milliseconds(50);
  EXPECT_THAT(session->Apply(batch),
              StatusIs(StatusCode::kUnavailable, HasSubstr("longer than the time limit")));
  ExpectUntouched();
  batch.tasks.resize(1);
  ExpectApplied(*session, batch);
}

TEST_F(SqliteBackendTest, TheTimeOfABatchEndsItsWaitForALock) {
  const auto session = Connect();
  SQLite::Database other = Open();
  other.exec("BEGIN IMMEDIATE");
  Batch batch = MakeBatch({"a"});
  batch.time_max = milliseconds(50);
  EXPECT_THAT(session->Apply(batch), StatusIs(StatusCode::kUnavailable, HasSubstr("locked")));
  other.exec("ROLLBACK");
  ExpectApplied(*session, batch);
}

TEST_F(SqliteBackendTest, FullDatabaseIsNoPoison) {
  Connect();
  ASSERT_OK_AND_ASSIGN(auto connection,
                       SqliteConnection::Open(path_, "test", milliseconds(20000), false));
  ASSERT_OK(connection->Run("limit", [&] {
    connection->Execute("PRAGMA max_page_count = 20");
    return Status::Ok();
  }));
  ASSERT_OK_AND_ASSIGN(const auto session, SqliteSession::Make(std::move(connection), {}));
  Batch large = MakeBatch({"a"});
  large.tasks[0].task.payload = '"' + std::string(1000000, 'p') + '"';
  EXPECT_THAT(session->Apply(large),
              StatusIs(StatusCode::kUnavailable, HasSubstr("full (SQLite 13)")));
  ExpectUntouched();
  ExpectApplied(*session, MakeBatch({"a"}));
}

TEST_F(SqliteBackendTest, AFullDiskIsGivenTheRoomOfWhatIsCommitted) {
  Connect();
  ASSERT_OK_AND_ASSIGN(auto connection,
                       SqliteConnection::Open(path_, "test", milliseconds(20000), false));
  ASSERT_OK(connection->Run("limit", [&] {
    connection->Execute("PRAGMA max_page_count = 100");
    return Status::Ok();
  }));
  ASSERT_OK_AND_ASSIGN(const auto session, SqliteSession::Make(std::move(connection), {}));
  ExpectApplied(*session, MakeBatch({"a"}));
  EXPECT_GT(std::filesystem::file_size(path_ + "-wal"), 0u);
  Batch large = MakeBatch({"b"}, 10);
  large.tasks[0].task.payload = '"' + std::string(1000000, 'p') + '"';
  EXPECT_THAT(session->Apply(large), StatusIs(StatusCode::kUnavailable, HasSubstr("full")));
  EXPECT_EQ(std::filesystem::file_size(path_ + "-wal"), 0u);
  EXPECT_OK(session->GetTask("a"));
}

TEST_F(SqliteBackendTest, DeletedFileIsNoticedBeforeTheCommit) {
  const auto session = Connect();
  std::filesystem::remove(path_);
  EXPECT_THAT(session->Apply(MakeBatch({"a"})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("deleted or replaced")));
  EXPECT_THAT(session->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(session->GetTask("a"), StatusIs(StatusCode::kUnavailable));
}

TEST_F(SqliteBackendTest, ReplacedFileIsNoticedAndNotTakenForTheOneThatWasMet) {
  const auto session = Connect();
  const Uuid first = backend_->db_id();
  std::filesystem::rename(path_, dir_.File("old.db"));
  std::filesystem::rename(path_ + "-wal", dir_.File("old.db-wal"));
  std::filesystem::rename(path_ + "-shm", dir_.File("old.db-shm"));
  const auto other = Make();
  ASSERT_OK(other->Connect());
  EXPECT_NE(other->db_id(), first);
  EXPECT_THAT(session->Apply(MakeBatch({"a"})),
              StatusIs(StatusCode::kUnavailable, HasSubstr("deleted or replaced")));
  EXPECT_THAT(backend_->Connect().status(),
              StatusIs(StatusCode::kUnavailable, HasSubstr("another database is there")));
  EXPECT_EQ(backend_->db_id(), first);
}

TEST_F(SqliteBackendTest, RowsOfOthersThatMakeNoSenseAreNoValues) {
  const auto session = Connect();
  ExpectApplied(*session, MakeBatch({"t"}));
  for (const char* damage : {"created_at = 'yesterday'", "status = 'done'", "updated_at = ''"}) {
    Execute("UPDATE dag_tasks SET " + std::string(damage));
    EXPECT_THAT(session->GetTask("t"), StatusIs(StatusCode::kUnavailable, HasSubstr("stored")))
        << damage;
    Execute("UPDATE dag_tasks SET created_at = '2026-11-21T06:00:00.000000Z', status = 'pending', "
            "updated_at = created_at");
  }
  Execute("DELETE FROM wal_checkpoints WHERE partition = 0");
  EXPECT_THAT(session->ReadLog(log_),
              StatusIs(StatusCode::kUnavailable, HasSubstr("lacks a partition")));
}

TEST_F(SqliteBackendTest, RowsMadeByHandAreReadAndGiveWay) {
  const auto session = Connect();
  Execute("INSERT INTO dag_tasks (id, created_at, updated_at) "
          "VALUES ('t', '2026-11-21T06:00:00Z', '2026-11-21T06:00:00Z')");
  ASSERT_OK_AND_ASSIGN(const auto row, session->GetTask("t"));
  EXPECT_TRUE(row.wal_id.IsZero());
  Batch batch = MakeBatch({"t"});
  batch.tasks[0].task.error = "ours";
  ExpectApplied(*session, batch);
  EXPECT_EQ(session->GetTask("t")->task.error, "ours");
}

// --- how it is stored

TEST_F(SqliteBackendTest, ValuesAreStoredAsTheContractSpellsThem) {
  const auto session = Connect();
  Batch batch = MakeBatch({});
  Task task =
      MakeTask("t", "run-1", TaskStatus::kRunning, *ParseTime("2026-11-21T06:00:00.123456Z"));
  batch.tasks = {Put(task, {1, 1})};
  batch.activities[0].activity.level = Level::kWarn;
  ExpectApplied(*session, batch);
  EXPECT_EQ(Value("SELECT created_at || ' ' || status FROM dag_tasks"),
            "2026-11-21T06:00:00.123456Z running");
  EXPECT_EQ(Value("SELECT level FROM dag_task_activity_logs"), "warn");
  EXPECT_EQ(Value("SELECT count(*) FROM dag_tasks WHERE payload IS NULL AND started_at IS NULL AND "
                  "completed_at IS NULL AND error = '' AND node_id = ''"),
            "1");
}

TEST_F(SqliteBackendTest, PagesAreReadThroughAnIndex) {
  Connect();
  SQLite::Database db = Open();
  const char* queries[] = {
      "SELECT * FROM dag_tasks WHERE dag_id = 'x' AND (created_at, id) > ('a', 'b') "
      "ORDER BY created_at, id LIMIT 5",
      "SELECT * FROM dag_tasks WHERE status = 'failed' ORDER BY created_at DESC, id DESC LIMIT 5",
      "SELECT * FROM dag_task_activity_logs WHERE task_id = 'x' ORDER BY created_at, id LIMIT 5"};
  for (const char* query : queries) {
    SQLite::Statement plan(db, std::string("EXPLAIN QUERY PLAN ") + query);
    ASSERT_TRUE(plan.executeStep());
    EXPECT_THAT(plan.getColumn(3).getString(), HasSubstr("USING INDEX")) << query;
  }
}

}  // namespace
}  // namespace taskwal::storage

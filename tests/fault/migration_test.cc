// A database of an older schema version, with rows in it, met by a program that knows a newer one:
// on each kind of database, by several openers at once.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>

#include <functional>
#include <future>
#include <string>
#include <vector>

#include "storage/backend.h"
#include "storage/mysql/mysql_schema.h"
#include "storage/postgres/postgres_schema.h"
#include "storage/sqlite/sqlite_schema.h"
#include "tests/contract/batch_builder.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using std::chrono::seconds;

constexpr int kTasks = 300;
const Uuid kLog = *Uuid::Parse("6a1f0c52-0b7e-4d1c-9c55-000000000012");

// What the next version might be: it changes every row, and would do so twice if it were run twice.
constexpr std::string_view kNext =
    "ALTER TABLE dag_tasks ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT 'none';\n"
    "UPDATE dag_tasks SET retry_count = retry_count + 1;\n";

Result<Uuid> OpenSqlite(const std::string& path, Migrations migrations, bool migrate) {
  auto connection = SqliteConnection::Open(path, "sqlite", seconds(30), /*create=*/migrate);
  if (!connection.ok()) return connection.status();
  return PrepareSqliteSchema(**connection, migrations, migrate, {});
}

Result<Uuid> OpenPostgres(const std::string& dsn, Migrations migrations, bool migrate) {
  const auto target = ParsePostgresTarget(dsn, seconds(30));
  if (!target.ok()) return target.status();
  auto connection = PostgresConnection::Open(*target);
  if (!connection.ok()) return connection.status();
  return PreparePostgresSchema(**connection, migrations, migrate, {}, PostgresFeatures());
}

Result<Uuid> OpenMysql(const std::string& dsn, Migrations migrations, bool migrate) {
  const auto target = ParseMysqlDsn(dsn);
  if (!target.ok()) return target.status();
  auto connection = MysqlConnection::Open(*target, "mysql", seconds(30));
  if (!connection.ok()) return connection.status();
  return PrepareMysqlSchema(**connection, migrations, migrate, {});
}

using Opener = std::function<Result<Uuid>(Migrations, bool migrate)>;

void FillWithRows(Backend& backend) {
  ASSERT_OK_AND_ASSIGN(const auto session, backend.Connect());
  ASSERT_OK(session->RegisterLog(kLog, 7, std::vector<Lsn>{0, 0}));
  Batch batch;
  batch.wal_id = kLog;
  batch.epoch = 7;
  batch.moves = {{1, 0, 900}};
  for (int i = 0; i < kTasks; ++i) {
    Task task = MakeTask("t" + std::to_string(1000 + i));
    task.payload = R"({ "n" : )" + std::to_string(i) + "}";
    task.retry_count = i;
    batch.tasks.push_back(Put(task, {900, 900}));
    batch.activities.push_back({MakeActivity("a" + std::to_string(1000 + i)), 900});
  }
  ASSERT_OK(session->Apply(batch));
}

// As the session of a program that was there before sees them.
void ExpectRowsMigratedOnce(Session& session) {
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto stored, session.GetTask("t" + std::to_string(1000 + i)));
    EXPECT_EQ(stored.task.payload, R"({ "n" : )" + std::to_string(i) + "}");
    EXPECT_EQ(stored.task.retry_count, i + 1);
    EXPECT_EQ(stored.origin.lsn, 900u);
  }
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, session.Count());
  EXPECT_EQ(counts.activities, static_cast<std::uint64_t>(kTasks));
  ASSERT_OK_AND_ASSIGN(const LogRow row, session.ReadLog(kLog));
  EXPECT_EQ(row.epoch, 7u);
  EXPECT_EQ(row.watermarks, (std::vector<Lsn>{0, 900}));
}

void MigrateWithRows(const std::string& dsn, const Opener& open) {
  ASSERT_OK_AND_ASSIGN(const auto backend, MakeBackend(dsn, {}));
  FillWithRows(*backend);
  ASSERT_OK_AND_ASSIGN(const auto before, backend->Connect());
  ASSERT_OK_AND_ASSIGN(const Migrations known, MigrationsOf(backend->kind()));
  std::vector<std::string_view> newer(known.begin(), known.end());
  newer.push_back(kNext);
  EXPECT_THAT(open(newer, false), StatusIs(StatusCode::kInvalidArgument,
                                           HasSubstr("run `taskwal schema migrate` first")));
  std::vector<std::future<Result<Uuid>>> openers;
  for (int i = 0; i < 6; ++i) {
    openers.push_back(std::async(std::launch::async, [&] { return open(newer, true); }));
  }
  for (auto& opener : openers) {
    const Result<Uuid> db_id = opener.get();
    ASSERT_OK(db_id);
    EXPECT_EQ(*db_id, backend->db_id());
  }
  ExpectRowsMigratedOnce(*before);
  EXPECT_OK(open(newer, false));
  EXPECT_THAT(backend->Connect(), StatusIs(StatusCode::kInvalidArgument,
                                           AllOf(HasSubstr("has schema version 3"),
                                                 HasSubstr("use a newer taskwal"))));
}

// --- from version 1, as it was

// Rows and position as a program of version 1 left them; `moment` as the database spells a time.
std::string RowsOfVersion1(const std::string& moment) {
  const std::string log = kLog.ToString();
  std::string sql = "INSERT INTO dag_tasks (id, payload, error, retry_count, created_at, "
                    "updated_at, wal_id, wal_lsn, wal_stamp) VALUES ";
  for (int i = 0; i < kTasks; ++i) {
    const std::string number = std::to_string(i);
    sql += std::string(i == 0 ? "" : ", ") + "('t" + std::to_string(1000 + i) + "', '" + number +
           "', '', " + number + ", '" + moment + "', '" + moment + "', '" + log + "', 900, 900)";
  }
  return sql + ";\nINSERT INTO wal_checkpoints VALUES ('" + log + "', 0, 0, 7, 900, '" + moment +
         "'), ('" + log + "', 1, 900, 7, 900, '" + moment + "');\n";
}

void ExpectRowsOfVersion1(Session& session) {
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto stored, session.GetTask("t" + std::to_string(1000 + i)));
    EXPECT_EQ(stored.task.payload, std::to_string(i));
    EXPECT_EQ(stored.task.retry_count, i);
    EXPECT_EQ(stored.task.created_at, After(0));
    EXPECT_EQ(stored.origin.lsn, 900u);
    EXPECT_EQ(stored.created_rank, kUnknownCreatedRank);
  }
  ASSERT_OK_AND_ASSIGN(const LogRow row, session.ReadLog(kLog));
  EXPECT_EQ(row.epoch, 7u);
  EXPECT_EQ(row.watermarks, (std::vector<Lsn>{0, 900}));
}

using FillVersion1 = std::function<void(const std::string& rows)>;

// By the program itself, several at once; then the one of version 1 is told to go.
void MigrateFromVersion1(const std::string& dsn, const std::string& moment, const Opener& open,
                         const FillVersion1& fill) {
  ASSERT_OK_AND_ASSIGN(const auto reader, MakeBackend(dsn, {.create = false}));
  ASSERT_OK_AND_ASSIGN(const Migrations known, MigrationsOf(reader->kind()));
  ASSERT_EQ(known.size(), 2u);
  ASSERT_OK_AND_ASSIGN(const Uuid made, open(known.first(1), true));
  fill(RowsOfVersion1(moment));
  EXPECT_THAT(reader->Connect(), StatusIs(StatusCode::kInvalidArgument,
                                          AllOf(HasSubstr("has schema version 1"),
                                                HasSubstr("run `taskwal schema migrate` first"))));
  std::vector<std::future<Result<Uuid>>> openers;
  for (int i = 0; i < 6; ++i) {
    openers.push_back(std::async(std::launch::async, [&]() -> Result<Uuid> {
      const auto backend = MakeBackend(dsn, {});
      if (!backend.ok()) return backend.status();
      const auto session = (*backend)->Connect();
      if (!session.ok()) return session.status();
      return (*backend)->db_id();
    }));
  }
  for (auto& opener : openers) {
    const Result<Uuid> db_id = opener.get();
    ASSERT_OK(db_id);
    EXPECT_EQ(*db_id, made);
  }
  ASSERT_OK_AND_ASSIGN(const auto session, reader->Connect());
  ExpectRowsOfVersion1(*session);
  for (const bool migrate : {false, true}) {
    EXPECT_THAT(open(known.first(1), migrate),
                StatusIs(StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("has schema version 2"), HasSubstr("works with 1"),
                               HasSubstr("use a newer taskwal"))));
  }
  // The log goes on where it was.
  Batch batch;
  batch.wal_id = kLog;
  batch.epoch = 7;
  batch.moves = {{1, 900, 901}};
  batch.tasks = {Put(MakeTask("t1000", "run-2", TaskStatus::kPending, After(5)), {901, 901})};
  ASSERT_OK(session->Apply(batch));
  ASSERT_OK_AND_ASSIGN(const auto row, session->GetTask("t1000"));
  EXPECT_EQ(row.task.dag_id, "run-2");
  EXPECT_EQ(row.task.created_at, After(0));
}

TEST(Migration, ASqliteDatabaseOfVersion1IsBroughtToVersion2WithItsRows) {
  const TempDir dir;
  const std::string path = dir.File("app.db");
  MigrateFromVersion1(
      "sqlite://" + path, FormatTime(After(0)),
      [&](Migrations migrations, bool migrate) { return OpenSqlite(path, migrations, migrate); },
      [&](const std::string& rows) {
        SQLite::Database(path, SQLite::OPEN_READWRITE).exec("BEGIN;" + rows + "COMMIT;");
      });
}

TEST(Migration, APostgresDatabaseOfVersion1IsBroughtToVersion2WithItsRows) {
  PostgresServer& server = PostgresServer::Shared();
  const std::string database = server.NewDatabase();
  const std::string dsn = server.Dsn(database);
  MigrateFromVersion1(
      dsn, FormatTime(After(0)),
      [&](Migrations migrations, bool migrate) { return OpenPostgres(dsn, migrations, migrate); },
      [&](const std::string& rows) { server.Query(rows, database); });
}

TEST(Migration, AMariadbDatabaseOfVersion1IsBroughtToVersion2WithItsRows) {
  MariadbServer& server = MariadbServer::Shared();
  const std::string database = server.NewDatabase();
  const std::string dsn = server.Dsn(database);
  std::string moment = FormatTime(After(0));
  moment.pop_back();
  MigrateFromVersion1(
      dsn, moment,
      [&](Migrations migrations, bool migrate) { return OpenMysql(dsn, migrations, migrate); },
      [&](const std::string& rows) {
        for (std::size_t at = 0, end = 0; (end = rows.find(";\n", at)) != std::string::npos;
             at = end + 2) {
          server.Query(rows.substr(at, end - at), database);
        }
      });
}

TEST(Migration, AnOlderSqliteDatabaseIsMigratedOnceWithItsRows) {
  const TempDir dir;
  const std::string path = dir.File("app.db");
  MigrateWithRows("sqlite://" + path, [&](Migrations migrations, bool migrate) {
    return OpenSqlite(path, migrations, migrate);
  });
}

TEST(Migration, AnOlderPostgresDatabaseIsMigratedOnceWithItsRows) {
  PostgresServer& server = PostgresServer::Shared();
  const std::string dsn = server.Dsn(server.NewDatabase());
  MigrateWithRows(dsn, [&](Migrations migrations, bool migrate) {
    return OpenPostgres(dsn, migrations, migrate);
  });
}

TEST(Migration, AnOlderMariadbDatabaseIsMigratedOnceWithItsRows) {
  MariadbServer& server = MariadbServer::Shared();
  const std::string dsn = server.Dsn(server.NewDatabase());
  MigrateWithRows(dsn, [&](Migrations migrations, bool migrate) {
    return OpenMysql(dsn, migrations, migrate);
  });
}

// --- where whoever runs the program may not change the tables

TEST(Migration, APostgresRoleThatOwnsNoTablesIsToldWhatToDo) {
  PostgresServer& server = PostgresServer::Shared();
  const std::string database = server.NewDatabase();
  const std::string dsn = server.Dsn(database);
  ASSERT_OK_AND_ASSIGN(const Migrations known, MigrationsOf("postgres"));
  ASSERT_OK(OpenPostgres(dsn, known.first(1), true));
  for (const char* table :
       {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints", "taskwal_schema"}) {
    server.Query(std::string("ALTER TABLE ") + table + " OWNER TO postgres", database);
  }
  server.Query("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA " + database +
                   " TO owner",
               database);
  EXPECT_THAT(OpenPostgres(dsn, known, true),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("must be owner of table dag_tasks"),
                             HasSubstr("(SQLSTATE 42501)"), HasSubstr("schema version 2"),
                             HasSubstr("run `taskwal schema migrate` as somebody who"))));
}

TEST(Migration, AMariadbUserWithoutAlterIsToldWhatToDo) {
  MariadbServer& server = MariadbServer::Shared();
  const std::string database = server.NewDatabase();
  ASSERT_OK_AND_ASSIGN(const Migrations known, MigrationsOf("mysql"));
  ASSERT_OK(OpenMysql(server.Dsn(database), known.first(1), true));
  server.Query("CREATE USER 'writer'@'127.0.0.1' IDENTIFIED BY 'word'");
  server.Query("GRANT SELECT, INSERT, UPDATE, DELETE ON `" + database +
               "`.* TO 'writer'@'127.0.0.1'");
  const std::string dsn =
      "mysql://writer:word@127.0.0.1:" + std::to_string(server.port()) + "/" + database;
  EXPECT_THAT(OpenMysql(dsn, known, true),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("ALTER command denied"), HasSubstr("(MySQL 1142)"),
                             HasSubstr("schema version 2"),
                             HasSubstr("run `taskwal schema migrate` as somebody who"))));
}

}  // namespace
}  // namespace taskwal::storage

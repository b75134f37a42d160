// A database of an older schema version, with rows in it, met by a program that knows a newer one:
// on each kind of database, by several openers at once.
#include <gmock/gmock.h>

#include <array>
#include <functional>
#include <future>

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

// What a version 2 might be: it changes every row, and would do so twice if it were run twice.
constexpr std::string_view kNext =
    "ALTER TABLE dag_tasks ADD COLUMN note VARCHAR(20) NOT NULL DEFAULT 'none';\n"
    "UPDATE dag_tasks SET retry_count = retry_count + 1;\n";

Result<Uuid> OpenSqlite(const std::string& path, Migrations migrations, bool migrate) {
  auto connection = SqliteConnection::Open(path, "sqlite", seconds(30), false);
  if (!connection.ok()) return connection.status();
  return PrepareSqliteSchema(**connection, migrations, migrate);
}

Result<Uuid> OpenPostgres(const std::string& dsn, Migrations migrations, bool migrate) {
  const auto target = ParsePostgresTarget(dsn, seconds(30));
  if (!target.ok()) return target.status();
  auto connection = PostgresConnection::Open(*target);
  if (!connection.ok()) return connection.status();
  return PreparePostgresSchema(**connection, migrations, migrate, PostgresFeatures());
}

Result<Uuid> OpenMysql(const std::string& dsn, Migrations migrations, bool migrate) {
  const auto target = ParseMysqlDsn(dsn);
  if (!target.ok()) return target.status();
  auto connection = MysqlConnection::Open(*target, "mysql", seconds(30));
  if (!connection.ok()) return connection.status();
  return PrepareMysqlSchema(**connection, migrations, migrate);
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
  ASSERT_EQ(known.size(), 1u);
  const std::array<std::string_view, 2> newer = {known[0], kNext};
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
                                           AllOf(HasSubstr("has schema version 2"),
                                                 HasSubstr("use a newer taskwal"))));
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

}  // namespace
}  // namespace taskwal::storage

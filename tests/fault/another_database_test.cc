// What has the address of the database under a running process is another one, or has no tables any
// more: it is not read for the one that was met, nor made into it, and all goes on when that is
// back.
#include <gmock/gmock.h>

#include <string>

#include "storage/backend.h"
#include "tests/fault/changed_database.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

constexpr const char* kTables[] = {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints",
                                   "taskwal_schema"};

class AnotherDatabase : public ChangedDatabase, public ::testing::WithParamInterface<Kind> {
 protected:
  // Each call by a connection of its own, as after a server's restart.
  void Begin() {
    Options options = Watchful();
    options.conn_max_lifetime = Milliseconds(1);
    OpenAndMeet(GetParam(), options);
  }
  void Hide() {
    std::string script = is_postgres() ? "CREATE SCHEMA " + aside() + ";\n" : "";
    for (const std::string table : kTables) {
      script += "ALTER TABLE " + table +
                (is_postgres() ? " SET SCHEMA " + aside() : " RENAME TO aside_" + table) + ";\n";
    }
    Sql(script);
  }
  void GiveBack() {
    std::string script;
    for (const std::string table : kTables) {
      script += is_postgres()
                    ? "ALTER TABLE " + aside() + "." + table + " SET SCHEMA " + database() + ";\n"
                    : "ALTER TABLE aside_" + table + " RENAME TO " + table + ";\n";
    }
    Sql(script);
  }
  void ExpectNothingIsRead(const std::string& why) {
    EXPECT_THAT(storage_->GetTask("t1").status(),
                StatusIs(StatusCode::kUnavailable, HasSubstr(why)));
    EXPECT_THAT(storage_->QueryTasks({}).status(), StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(storage_->QueryActivities({}).status(), StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(storage_->Count().status(), StatusIs(StatusCode::kUnavailable));
    EXPECT_THAT(storage_->Ping(), StatusIs(StatusCode::kUnavailable));
  }
  static bool is_postgres() { return GetParam() == Kind::kPostgres; }
  std::string aside() { return "aside_" + database(); }
  void ExpectItGoesOn() {
    Write(10);
    Flush();
    ASSERT_TRUE(WaitForNoAlarm());
    ExpectExactlyOnce();
  }
};

// Of SQLite the indexes would keep their names, and others find them.
class OtherTables : public AnotherDatabase {};

std::string NameOf(const ::testing::TestParamInfo<Kind>& given) {
  if (given.param == Kind::kPostgres) return "postgres";
  return given.param == Kind::kMariadb ? "mariadb" : "sqlite";
}
INSTANTIATE_TEST_SUITE_P(Kinds, AnotherDatabase,
                         ::testing::Values(Kind::kPostgres, Kind::kMariadb, Kind::kSqlite),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Kinds, OtherTables,
                         ::testing::Values(Kind::kPostgres, Kind::kMariadb), NameOf);

TEST_P(AnotherDatabase, TablesThatAreGoneAreNotMadeAnew) {
  Begin();
  Hide();
  Write(10);
  ASSERT_TRUE(WaitForAlarm("are gone"));
  ExpectNothingIsRead("are gone");
  GiveBack();  // fails where there are new ones
  ExpectItGoesOn();
}

TEST_P(OtherTables, AreNeitherReadNorFed) {
  Begin();
  Hide();
  ASSERT_OK_AND_ASSIGN(const auto other, storage::MakeBackend(dsn(), {}));
  ASSERT_OK(other->Connect());
  Write(10);
  ASSERT_TRUE(WaitForAlarm("another database is there"));
  ExpectNothingIsRead("another database is there");
  ASSERT_OK_AND_ASSIGN(const auto session, other->Connect());
  ASSERT_OK_AND_ASSIGN(const StoredCounts counts, session->Count());
  EXPECT_EQ(counts.tasks + counts.activities, 0u);
  std::string drop;
  for (const std::string table : kTables) drop += "DROP TABLE " + table + ";\n";
  Sql(drop);
  GiveBack();
  ExpectItGoesOn();
}

// Nor by a connection that was opened to the tables that were met.
TEST_P(OtherTables, AreNotReadByAKeptConnection) {
  OpenAndMeet(GetParam(), Watchful());
  ASSERT_OK(storage_->Count());
  Hide();
  ASSERT_OK_AND_ASSIGN(const auto other, storage::MakeBackend(dsn(), {}));
  ASSERT_OK(other->Connect());
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  Status told = storage_->Count().status();
  while (told.ok() && std::chrono::steady_clock::now() < until) told = storage_->Count().status();
  EXPECT_THAT(told, StatusIs(StatusCode::kUnavailable, HasSubstr("another database is there")));
}

}  // namespace
}  // namespace taskwal

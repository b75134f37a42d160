#include "storage/sqlite/sqlite_errors.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <stdexcept>

#include "storage/schema.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

TEST(SqliteErrors, OnlyWhatIsWrongWithARowIsRejected) {
  for (const int code : {SQLITE_CONSTRAINT, SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_PRIMARYKEY,
                         SQLITE_CONSTRAINT_NOTNULL, SQLITE_CONSTRAINT_TRIGGER, SQLITE_MISMATCH,
                         SQLITE_TOOBIG}) {
    EXPECT_EQ(SqliteStatusCode(code), StatusCode::kRejected) << code;
  }
}

TEST(SqliteErrors, EverythingElseIsTheDatabasesTrouble) {
  for (const int code :
       {SQLITE_ERROR, SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_LOCKED, SQLITE_NOMEM,
        SQLITE_READONLY, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_IOERR_FSYNC, SQLITE_CORRUPT,
        SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_SCHEMA, SQLITE_MISUSE, SQLITE_AUTH, SQLITE_RANGE,
        SQLITE_NOTADB, SQLITE_PERM, 9999}) {
    EXPECT_EQ(SqliteStatusCode(code), StatusCode::kUnavailable) << code;
  }
}

TEST(SqliteErrors, MessageSaysWhereWhatAndTheExtendedCode) {
  EXPECT_EQ(SqliteFailure("sqlite://x.db", "write a batch", SQLITE_IOERR_FSYNC, "disk I/O error")
                .message(),
            "sqlite://x.db: write a batch: disk I/O error (SQLite 1034)");
}

TEST(SqliteErrors, MessageSaysWhatToCheckWhereTheFileIsOutOfReach) {
  const auto message = [](int code) { return SqliteFailure("sqlite://x.db", "open", code, "no"); };
  for (const int code : {SQLITE_CANTOPEN, SQLITE_CANTOPEN_FULLPATH}) {
    EXPECT_THAT(message(code).message(),
                ::testing::EndsWith("): check that the file and its directory are there, and that "
                                    "this user may read and write both"));
  }
  for (const int code : {SQLITE_READONLY, SQLITE_READONLY_DIRECTORY}) {
    EXPECT_THAT(message(code).message(),
                ::testing::EndsWith("): this user may not write the file or its directory, which "
                                    "SQLite does even where nothing is changed: work as their "
                                    "owner, or with a copy"));
  }
  EXPECT_THAT(message(SQLITE_READONLY_DBMOVED).message(), ::testing::EndsWith("(SQLite 1032)"));
}

TEST(SqliteErrors, OtherExceptionsAreTheDatabasesTroubleToo) {
  try {
    throw std::runtime_error("a stored time is not RFC 3339 text");
  } catch (...) {
    EXPECT_THAT(SqliteCaught("sqlite://x.db", "query tasks"),
                StatusIs(StatusCode::kUnavailable,
                         "sqlite://x.db: query tasks: a stored time is not RFC "
                         "3339 text"));
  }
}

TEST(Schema, PrintsEveryTableOfTheDialect) {
  ASSERT_OK_AND_ASSIGN(const std::string text, SchemaText("sqlite"));
  for (const char* table :
       {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints", "taskwal_schema"}) {
    EXPECT_NE(text.find("CREATE TABLE " + std::string(table) + " ("), std::string::npos) << table;
  }
  EXPECT_THAT(SchemaText("oracle"), StatusIs(StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace taskwal::storage

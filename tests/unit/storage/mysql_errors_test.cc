#include "storage/mysql/mysql_errors.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "storage/schema.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MysqlErrors, OnlyWhatIsWrongWithARowIsRejected) {
  for (const unsigned number : {1048, 1062, 1153, 1264, 1292, 1366, 1406, 1452, 1644, 3140, 3141,
                                3156, 3157, 3158, 3819, 4025, 8025}) {
    EXPECT_EQ(MysqlStatusCode(number), StatusCode::kRejected) << number;
  }
}

TEST(MysqlErrors, EverythingElseIsTheServersTrouble) {
  for (const unsigned number :
       {1021, 1040, 1044, 1045, 1047, 1053, 1054, 1064, 1114, 1142, 1146, 1180, 1203, 1205, 1213,
        1226, 1290, 1317, 1364, 1836, 1927, 1969, 2002, 2003, 2006, 2013, 3024, 9999}) {
    EXPECT_EQ(MysqlStatusCode(number), StatusCode::kUnavailable) << number;
  }
}

TEST(MysqlErrors, OnlyADeadlockOrALockTimeoutSaysThatNothingWasCommitted) {
  EXPECT_TRUE(IsSurelyRolledBack(1213));
  EXPECT_TRUE(IsSurelyRolledBack(1205));
  for (const unsigned number : {1180, 1047, 1053, 1317, 1969, 2006, 2013}) {
    EXPECT_FALSE(IsSurelyRolledBack(number)) << number;
  }
}

TEST(MysqlErrors, LostConnectionsAreToldFromOtherErrors) {
  for (const unsigned number : {1053, 1927, 2002, 2006, 2013, 2014, 2055, 4031}) {
    EXPECT_TRUE(IsLostConnection(number)) << number;
  }
  for (const unsigned number : {1045, 1062, 1205, 1213, 1969, 2008, 2034}) {
    EXPECT_FALSE(IsLostConnection(number)) << number;
  }
}

TEST(MysqlErrors, MessageSaysWhereWhatAndTheNumber) {
  const Status status = MysqlFailure("mysql://h/d", "write a batch", 1213, "Deadlock found");
  EXPECT_EQ(status.message(), "mysql://h/d: write a batch: Deadlock found (MySQL 1213)");
}

TEST(MysqlErrors, MessagesHoldNoValues) {
  for (const char* message :
       {"Incorrect string value: '\\xFFsecret' for column `d`.`dag_tasks`.`error` at row 1",
        "Duplicate entry 'it's secret' for key 'PRIMARY'",
        "Incorrect datetime value: 'secret' for column `x` at row 1",
        "You have an error in your SQL syntax; check the manual to use near 'secret' at line 1",
        "Incorrect string value: 'secret"}) {
    EXPECT_THAT(MysqlFailure("db", "write", 1366, message).message(),
                AllOf(Not(HasSubstr("secret")), HasSubstr("…"), EndsWith(" (MySQL 1366)")))
        << message;
  }
}

TEST(MysqlErrors, LongMessagesAreCutBetweenCharacters) {
  std::string text = "x";
  for (int i = 0; i < 1000; ++i) text += "ä";
  const std::string message = MysqlFailure("db", "write", 1406, text).message();
  EXPECT_LT(message.size(), 400u);
  EXPECT_THAT(message, HasSubstr("ä… (MySQL 1406)"));
}

TEST(MysqlErrors, OtherExceptionsAreTheDatabasesTroubleToo) {
  try {
    throw std::runtime_error("a stored time is none");
  } catch (...) {
    EXPECT_THAT(MysqlCaught("mysql://h/d", "query tasks"),
                StatusIs(StatusCode::kUnavailable,
                         "mysql://h/d: query tasks: a stored time is none"));
  }
}

TEST(MysqlErrors, CommitWithoutAnAnswerIsInDoubt) {
  EXPECT_THAT(MysqlInDoubt("db", MysqlError(2013, "Lost connection")),
              StatusIs(StatusCode::kInDoubt, "db: commit: Lost connection (MySQL 2013)"));
}

TEST(MysqlSchema, EveryStatementMayBeRepeated) {
  ASSERT_OK_AND_ASSIGN(const std::string text, SchemaText("mysql"));
  for (const char* table :
       {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints", "taskwal_schema"}) {
    EXPECT_THAT(text, HasSubstr("CREATE TABLE IF NOT EXISTS " + std::string(table) + " ("));
  }
}

// TiDB refuses them for texts.
TEST(MysqlSchema, HasNoExpressionsForDefaults) {
  ASSERT_OK_AND_ASSIGN(const std::string text, SchemaText("mysql"));
  EXPECT_THAT(text, Not(HasSubstr("DEFAULT (")));
}

}  // namespace
}  // namespace taskwal::storage

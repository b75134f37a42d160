#include "storage/postgres/postgres_errors.h"

#include <gtest/gtest.h>

#include <pqxx/except>
#include <stdexcept>
#include <string>

#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

template <typename Exception>
Status Caught(const Exception& exception, PostgresCall call = {}) {
  call.database = "postgresql://h/db";
  call.what = "write a batch";
  try {
    throw exception;
  } catch (...) {
    return PostgresCaught(call);
  }
}

TEST(PostgresErrors, OnlyWhatIsWrongWithARowIsRejected) {
  for (const char* state :
       {"22001", "22021", "22P02", "23502", "23505", "23514", "54000", "54001",
                            "P0001"}) {
    EXPECT_EQ(PostgresStatusCode(state), StatusCode::kRejected) << state;
  }
  for (const char* state : {"40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "25006",
                            "08006", "57P01", "57P03", "42501", "42703", "42P01", "28P01", "3D000",
                            "0A000", "54023", "P0002", "XX000", "58030", "99999", ""}) {
    EXPECT_EQ(PostgresStatusCode(state), StatusCode::kUnavailable) << state;
  }
}

TEST(PostgresErrors, AtCommitOnlyAKnownRollbackIsAnAnswer) {
  EXPECT_EQ(PostgresCommitCode("40001"), StatusCode::kUnavailable);
  EXPECT_EQ(PostgresCommitCode("40P01"), StatusCode::kUnavailable);
  EXPECT_EQ(PostgresCommitCode("23505"), StatusCode::kRejected);
  EXPECT_EQ(PostgresCommitCode("P0001"), StatusCode::kRejected);
  for (const char* state : {"40003", "57P01", "57014", "08006", "53100", "XX000", ""}) {
    EXPECT_EQ(PostgresCommitCode(state), StatusCode::kInDoubt) << state;
  }
}

TEST(PostgresErrors, MessagesNameDatabaseCallAndStateButNotTheRow) {
  const pqxx::unique_violation duplicate(
      "ERROR:  duplicate key value violates unique constraint \"t_pkey\"\n"
      "DETAIL:  Key (id)=(secret) already exists.\n",
      "INSERT …secret…", "23505");
  EXPECT_THAT(Caught(duplicate),
              StatusIs(StatusCode::kRejected,
                       AllOf(HasSubstr("postgresql://h/db: write a batch: duplicate key"),
                             HasSubstr("(SQLSTATE 23505)"), Not(HasSubstr("secret")))));
}

TEST(PostgresErrors, TypesThatKeepNoStateAreGivenTheirs) {
  EXPECT_THAT(Caught(pqxx::serialization_failure("ERROR:  could not serialize")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(SQLSTATE 40001)")));
  EXPECT_THAT(Caught(pqxx::deadlock_detected("ERROR:  deadlock detected")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(SQLSTATE 40P01)")));
  EXPECT_THAT(Caught(pqxx::insufficient_privilege("ERROR:  permission denied")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(SQLSTATE 42501)")));
  EXPECT_THAT(Caught(pqxx::too_many_connections("FATAL:  sorry")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("(SQLSTATE 53300)")));
}

TEST(PostgresErrors, ALostConnectionIsInDoubtOnlyAtCommit) {
  const pqxx::broken_connection lost("server closed the connection unexpectedly\n\tThis probably");
  EXPECT_THAT(Caught(lost), StatusIs(StatusCode::kUnavailable, HasSubstr("closed the connection")));
  EXPECT_THAT(Caught(lost, {.is_committing = true}), StatusIs(StatusCode::kInDoubt));
  EXPECT_THAT(Caught(pqxx::failure("")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("the connection was lost")));
  EXPECT_THAT(Caught(pqxx::failure("no encoding"), {.is_lost = true}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("the connection was lost")));
  EXPECT_THAT(Caught(std::runtime_error("x"), {.is_committing = true}),
              StatusIs(StatusCode::kInDoubt));
}

TEST(PostgresErrors, ATimeoutIsCalledOne) {
  EXPECT_THAT(Caught(pqxx::broken_connection("EOF"), {.has_timed_out = true}),
              StatusIs(StatusCode::kUnavailable, HasSubstr("took longer than the time limit")));
}

TEST(PostgresErrors, LongMessagesAreCut) {
  const Status status = Caught(pqxx::failure(std::string(100000, 'x')));
  EXPECT_LT(status.message().size(), 1000u);
}

}  // namespace
}  // namespace taskwal::storage

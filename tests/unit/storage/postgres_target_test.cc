#include "storage/postgres/postgres_target.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using std::chrono::milliseconds;
using std::chrono::seconds;

PostgresTarget Parse(const std::string& uri, milliseconds timeout = seconds(30)) {
  auto target = ParsePostgresTarget(uri, timeout);
  EXPECT_OK(target);
  return target.ok() ? *target : PostgresTarget();
}

TEST(PostgresTarget, KeepsWhatTheUriSays) {
  const PostgresTarget target = Parse(
      "postgresql://u:it's%20%5C@h1:1,h2:2/db?target_session_attrs=read-write&sslmode=verify-full"
      "&sslrootcert=%2Fca.pem&options=-csearch_path%3Ds");
  EXPECT_EQ(target.name,
            "postgresql://u:***@h1:1,h2:2/db?target_session_attrs=read-write&sslmode=verify-full"
            "&sslrootcert=%2Fca.pem&options=-csearch_path%3Ds");
  for (const char* part :
       {"host='h1,h2' ", "port='1,2' ", "user='u' ", R"(password='it\'s \\' )", "dbname='db' ",
        "target_session_attrs='read-write' ", "sslmode='verify-full' ", "sslrootcert='/ca.pem' ",
        "options='-csearch_path=s' "}) {
    EXPECT_THAT(target.conninfo, HasSubstr(part));
  }
}

TEST(PostgresTarget, AddsTimeLimitsOnlyWhereTheUriHasNone) {
  const PostgresTarget plain = Parse("postgresql://h/db");
  EXPECT_THAT(plain.conninfo, HasSubstr("connect_timeout='10' "));
  EXPECT_THAT(plain.conninfo, HasSubstr("tcp_user_timeout='30000' "));
  EXPECT_THAT(plain.conninfo, HasSubstr("fallback_application_name='taskwal' "));
  EXPECT_THAT(Parse("postgresql://h/db?connect_timeout=17&tcp_user_timeout=5").conninfo,
              AllOf(HasSubstr("connect_timeout='17' "), HasSubstr("tcp_user_timeout='5' ")));
}

TEST(PostgresTarget, NoUriMakesTheWaitForAConnectionLongerThanOurTimeLimit) {
  for (const char* wanted : {"0", "-1", "%200", "31", "77", "99999999999999999999"}) {
    EXPECT_THAT(Parse(std::string("postgresql://h/db?connect_timeout=") + wanted).conninfo,
                HasSubstr("connect_timeout='10' "))
        << wanted;
  }
  EXPECT_THAT(Parse("postgresql://h/db?connect_timeout=30").conninfo,
              HasSubstr("connect_timeout='30' "));
  EXPECT_THAT(Parse("postgresql://a,b/db?connect_timeout=30").conninfo,
              HasSubstr("connect_timeout='10' "));
  EXPECT_THAT(Parse("postgresql://a,b/db?connect_timeout=5", seconds(8)).conninfo,
              HasSubstr("connect_timeout='4' "));
  // Half of it, so that another address of the same name may have its turn.
  EXPECT_THAT(Parse("postgresql://h/db", seconds(8)).conninfo, HasSubstr("connect_timeout='4' "));
}

TEST(PostgresTarget, HoldsTimesThatTheServerCanCount) {
  EXPECT_THAT(Parse("postgresql://h/db", std::chrono::hours(24 * 365)).conninfo,
              HasSubstr("tcp_user_timeout='2147483647' "));
}

TEST(PostgresTarget, SharesTheTimeAmongItsHosts) {
  EXPECT_THAT(Parse("postgresql://a,b,c/db", seconds(12)).conninfo,
              HasSubstr("connect_timeout='4' "));
  EXPECT_THAT(Parse("postgresql://a,b,c/db", milliseconds(100)).conninfo,
              HasSubstr("connect_timeout='2' "));
}

TEST(PostgresTarget, RefusalDoesNotQuoteTheUri) {
  for (const char* uri : {"postgresql://u:hunter2%zz@h/db", "postgresql://u:hunter2@h/db?x=1"}) {
    EXPECT_THAT(ParsePostgresTarget(uri, seconds(1)),
                StatusIs(StatusCode::kInvalidArgument, Not(HasSubstr("hunter2"))));
  }
}

// libpq would take the rest of the password for a host, a port or a database, and quote it.
TEST(PostgresTarget, APasswordThatIsNotEncodedIsRefusedAndNotShown) {
  for (const char* uri :
       {"postgresql://u:pre@hunter2@h/db", "postgresql://u:hunter2/x@h/db",
        "postgresql://u:hunter2@h1,v:hunter2@h2/db", "postgresql://u:12/hunter2@h/db",
        "postgresql://u:hunter2:@h:x/db", "postgresql://u:hunter2@@h:1/db"}) {
    EXPECT_THAT(ParsePostgresTarget(uri, seconds(1)),
                StatusIs(StatusCode::kInvalidArgument,
                         AllOf(Not(HasSubstr("hunter2")), HasSubstr("percent-encoded"))))
        << uri;
  }
}

TEST(PostgresTarget, TellsTheHostsThatAreConnectedTo) {
  ASSERT_EQ(::unsetenv("PGHOST"), 0);
  EXPECT_THAT(Parse("postgresql://h:5432/db").hosts, ElementsAre("h"));
  EXPECT_THAT(Parse("postgresql://h1:1,[::1]:2,h3/db").hosts, ElementsAre("h1", "::1", "h3"));
  EXPECT_THAT(Parse("postgresql:///db?host=/tmp,h").hosts, ElementsAre("/tmp", "h"));
  EXPECT_THAT(Parse("postgresql://h1,h2/db?hostaddr=,10.0.0.2").hosts,
              ElementsAre("h1", "10.0.0.2"));
  EXPECT_THAT(Parse("postgresql:///db").hosts, ElementsAre());
  ASSERT_EQ(::setenv("PGHOST", "usual", 1), 0);
  EXPECT_THAT(Parse("postgresql:///db").hosts, ElementsAre("usual"));
  EXPECT_THAT(Parse("postgresql://h/db").hosts, ElementsAre("h"));
  ASSERT_EQ(::unsetenv("PGHOST"), 0);
}

TEST(PostgresTarget, AHostOrADatabaseMayHoldWhatIsOddInAPassword) {
  EXPECT_THAT(Parse("postgresql://u:p@/db?host=@abstract").conninfo, HasSubstr("host='@abstract'"));
  EXPECT_THAT(Parse("postgresql:///my%40db").conninfo, HasSubstr("dbname='my@db'"));
  EXPECT_THAT(Parse("postgresql://h/?dbname=a@b").conninfo, HasSubstr("dbname='a@b'"));
  EXPECT_THAT(Parse("postgresql://u@%40abstract/db").conninfo, HasSubstr("host='@abstract'"));
  EXPECT_THAT(Parse("postgresql://u:p@h/a@b").conninfo, HasSubstr("dbname='a@b'"));
  EXPECT_THAT(Parse("postgresql://u:p@[::1]:5433/db").conninfo, HasSubstr("host='::1'"));
  EXPECT_THAT(Parse("postgresql://u:p@/db?host=/tmp&port=5").conninfo, HasSubstr("port='5'"));
}

}  // namespace
}  // namespace taskwal::storage

#include "storage/dsn.h"

#include <gtest/gtest.h>

#include <string>

#include "storage/backend.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Dsn, KindsAndPaths) {
  ASSERT_OK_AND_ASSIGN(const Dsn memory, ParseDsn("memory:"));
  EXPECT_EQ(memory.kind, Dsn::Kind::kMemory);
  ASSERT_OK_AND_ASSIGN(const Dsn relative, ParseDsn("sqlite://some dir/x.db"));
  EXPECT_EQ(relative.kind, Dsn::Kind::kSqlite);
  EXPECT_EQ(relative.path, "some dir/x.db");
  ASSERT_OK_AND_ASSIGN(const Dsn absolute, ParseDsn("sqlite:///var/x%20.db"));
  EXPECT_EQ(absolute.path, "/var/x%20.db");
  ASSERT_OK_AND_ASSIGN(const Dsn postgres,
                       ParseDsn("postgresql://u@h1,h2/db?target_session_attrs=any"));
  EXPECT_EQ(postgres.kind, Dsn::Kind::kPostgres);
  ASSERT_OK_AND_ASSIGN(const Dsn mysql, ParseDsn("mysql://u@h/db"));
  EXPECT_EQ(mysql.kind, Dsn::Kind::kMysql);
}

TEST(Dsn, AnythingElseIsRefusedNamingWhatThereIs) {
  for (const char* text : {"", "x.db", "/var/x.db", "sqlite:x.db", "sqlite://", "oracle://h/db",
                           "memory", "memory://", "://x", "sqlite://a\xff"}) {
    EXPECT_THAT(ParseDsn(text),
                StatusIs(StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("memory:"), HasSubstr("sqlite:///absolute.db"))))
        << text;
  }
}

TEST(Dsn, SqliteInMemoryIsSentToMemory) {
  EXPECT_THAT(ParseDsn("sqlite://:memory:"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("use memory:")));
}

TEST(Dsn, ErrorsNeverShowWhatMayBeAPassword) {
  for (const char* text :
       {"host=h password=hunter2", "hunter2", "u:hunter2@h://db", "foo://u:hunter2@h"}) {
    EXPECT_THAT(ParseDsn(text), StatusIs(StatusCode::kInvalidArgument, Not(HasSubstr("hunter2"))))
        << text;
  }
}

TEST(MaskDsn, HidesPasswordsAndNothingElse) {
  EXPECT_EQ(MaskDsn("postgresql://user:hunter2@h:5432/db?x=1"),
            "postgresql://user:***@h:5432/db?x=1");
  EXPECT_EQ(MaskDsn("postgresql://user@h:5432/db"), "postgresql://user@h:5432/db");
  EXPECT_EQ(MaskDsn("postgresql://h:5432/db"), "postgresql://h:5432/db");
  EXPECT_EQ(MaskDsn("postgresql://u:p@ss/w@h1:1,h2:2/db"), "postgresql://u:***@h1:1,h2:2/db");
  EXPECT_EQ(MaskDsn("postgresql://u:p?ss@h/db"), "postgresql://u:***@h/db");
  EXPECT_EQ(MaskDsn("postgresql:///db?user=u&password=hunter2&sslpassword=x y"),
            "postgresql:///db?user=u&password=***&sslpassword=***");
  EXPECT_EQ(MaskDsn("mysql://u:hunter2@h/db?unix_socket=/a@b"),
            "mysql://u:***@h/db?unix_socket=/a@b");
  EXPECT_EQ(MaskDsn("host=h password=hunter2 port=1"), "host=h password=*** port=1");
  EXPECT_EQ(MaskDsn("sqlite://a:b@c.db"), "sqlite://a:b@c.db");
  EXPECT_EQ(MaskDsn("sqlite://a.db,b=postgresql://u:secret@h/d"),
            "sqlite://a.db,b=postgresql://u:***@h/d");
  EXPECT_EQ(MaskDsn("sqlite://a.db,sqlite://b.db,mysql://u:secret@h/d?password=secret"),
            "sqlite://a.db,sqlite://b.db,mysql:***@h/d?password=***");
  EXPECT_EQ(MaskDsn("memory:"), "memory:");
}

// "@host" forgotten, or a password that holds an '@' itself: what is no port may be a password, and
// so may all that follows it.
TEST(MaskDsn, HidesWhatStandsForAPortAndIsNone) {
  for (const char* scheme : {"postgresql://", "mysql://"}) {
    const std::string s = scheme;
    for (const char* rest : {"u:hunter2", "u:hunter2/db", "u:hunter/2", "u:hunter?2", "u:hunter2,h",
                             "u:p@hunter2:hunter2", "u:p@hunter2:x/hunter2", "u:70000", "u:5432x",
                             "u:hunter[2", "u::hunter2", "u:hunter2/db?x=1"}) {
      EXPECT_EQ(MaskDsn(s + rest), s + "u:***") << rest;
    }
    EXPECT_EQ(MaskDsn(s + "u@corp:hunter2"), s + "u@corp:***");
    EXPECT_EQ(MaskDsn(s + "u@corp:hunter2@h:1/d"), s + "u@corp:***@h:1/d");
    EXPECT_EQ(MaskDsn(s + "u@h/a@b:c"), s + "u@h/a@b:***");
    EXPECT_EQ(MaskDsn(s + "h1:1,u:hunter2"), s + "h1:***");
    EXPECT_EQ(MaskDsn(s + "[::1]:hunter2"), s + "[:***");
    EXPECT_EQ(MaskDsn(s + "[::1:hunter2"), s + "[:***");
    for (const char* rest :
         {"h:5432", "h:", "h:65535/a:b", "h1:1,h2:2/db", "[::1]:5432/db", "u@[::1]/db",
          "u@[::1]:1,[fe80::1]:,h:3/d?x=a:b", "/db?host=/a:b", "u@h/a@b"}) {
      EXPECT_EQ(MaskDsn(s + rest), s + rest);
    }
  }
}

TEST(MaskDsn, HidesPasswordParametersInWhateverCaseAndEncoding) {
  for (const char* name :
       {"PASSWORD", "Password", "pass%77ord", "%70%61%73%73%77%6F%72%64", "%50ASSWORD",
        "sslPassword", "ssl%70assword"}) {
    const std::string before = "postgresql://h/db?user=u&" + std::string(name) + "=";
    EXPECT_EQ(MaskDsn(before + "hunter2&x=1"), before + "***&x=1");
    EXPECT_EQ(MaskDsn(before + "hunter2"), before + "***");
  }
  EXPECT_EQ(MaskDsn("mysql://h/db?Pass%77ord%3dhunter2"), "mysql://h/db?Pass%77ord%3d***");
  EXPECT_EQ(MaskDsn("host=h PASSWORD=hunter2 port=1"), "host=h PASSWORD=*** port=1");
  // A '%' that stands for nothing is a character as any other.
  EXPECT_EQ(MaskDsn("postgresql://h/d%zz?x=%&password=hunter2&y=%7"),
            "postgresql://h/d%zz?x=%&password=***&y=%7");
}

TEST(MaskDsn, ASpaceInAUriEndsNoPassword) {
  EXPECT_EQ(MaskDsn("postgresql://h/db?password=hunter 2&x=1"),
            "postgresql://h/db?password=***&x=1");
}

TEST(MakeBackend, UnreadableNamesAreRefusedWithoutTheirPassword) {
  for (const char* dsn :
       {"postgresql://u:hunter2%zz@h/db", "postgresql://u:hunter2@h/db?nonsense=1",
        "postgresql://u:hunter2@h:port:1/db?sslmode=x&y", "nonsense",
        "postgresql://h/db?user=u&PASSWORD=hunter2", "postgresql://h/db?pass%77ord=hunter2&y",
        "postgresql://h/db?passwd=hunter2", "mysql://h/db?PASSWORD=hunter2",
        "mysql://h/db?hunter2", "mysql://h/db?passwd=hunter2", "postgresql://u:hunter2",
        "postgresql://u:hunter2/db", "mysql://u:hunter2", "mysql://u:hunter2/db"}) {
    EXPECT_THAT(MakeBackend(dsn, {}),
                StatusIs(StatusCode::kInvalidArgument, Not(HasSubstr("hunter2"))))
        << dsn;
  }
}

TEST(MakeBackend, NamesKindsAndVolatility) {
  ASSERT_OK_AND_ASSIGN(const auto memory, MakeBackend("memory:", {}));
  EXPECT_EQ(memory->kind(), "memory");
  EXPECT_EQ(memory->name(), "memory:");
  EXPECT_TRUE(memory->is_volatile());
  ASSERT_OK_AND_ASSIGN(const auto sqlite, MakeBackend("sqlite://x.db", {}));
  EXPECT_EQ(sqlite->kind(), "sqlite");
  EXPECT_EQ(sqlite->name(), "sqlite://x.db");
  EXPECT_FALSE(sqlite->is_volatile());
  EXPECT_EQ(sqlite->writers_max(), 1u);
  ASSERT_OK_AND_ASSIGN(const auto postgres, MakeBackend("postgresql://u:hunter2@h/db", {}));
  EXPECT_EQ(postgres->kind(), "postgres");
  EXPECT_EQ(postgres->name(), "postgresql://u:***@h/db");
  EXPECT_FALSE(postgres->is_volatile());
  EXPECT_GT(postgres->writers_max(), 1u);
}

}  // namespace
}  // namespace taskwal::storage

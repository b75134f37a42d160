#include "storage/name_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "storage/mysql/mysql_backend.h"
#include "storage/postgres/postgres_backend.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

using Hosts = std::vector<std::string>;

// What the tests' nameserver was asked, by threads that may outlive a test.
class Nameserver {
 public:
  // Silent until Answer; "missing…" is not found.
  NameLookup::Lookup Silent() {
    return [state = state_](const std::string& host) {
      state->Note(host);
      state->answer.wait();
      return Answer(host);
    };
  }
  NameLookup::Lookup Prompt() {
    return [state = state_](const std::string& host) {
      state->Note(host);
      return Answer(host);
    };
  }
  ~Nameserver() {
    if (!has_answered_) Answer();
  }
  void Answer() {
    has_answered_ = true;
    state_->answers.set_value();
  }
  [[nodiscard]] Hosts asked() const {
    MutexLock lock(state_->mutex);
    return state_->asked;
  }
  void AwaitQuestion() const {
    MutexLock lock(state_->mutex);
    while (state_->asked.empty()) state_->noted.Wait(state_->mutex);
  }
  // How many hold what a look-up uses, this one included.
  [[nodiscard]] long holders() const { return state_.use_count(); }

 private:
  struct State {
    Mutex mutex;
    CondVar noted;
    Hosts asked GUARDED_BY(mutex);
    std::promise<void> answers;
    const std::shared_future<void> answer = answers.get_future().share();

    void Note(const std::string& host) {
      MutexLock lock(mutex);
      asked.push_back(host);
      noted.NotifyAll();
    }
  };
  static std::string Answer(const std::string& host) {
    return host.starts_with("missing") ? "no such name" : "";
  }

  const std::shared_ptr<State> state_ = std::make_shared<State>();  // with the look-ups' threads
  bool has_answered_ = false;
};

Monotonic In(std::chrono::nanoseconds time) { return Clock::Real().Now() + time; }

TEST(NameLookup, ASilentOneEndsAtTheDeadlineAndNamesTheHost) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Silent());
  EXPECT_THAT(names.Await("postgresql://h/d", Hosts{"db.example.com"}, In(milliseconds(1)),
                          milliseconds(1)),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("postgresql://h/d: connect: db.example.com"),
                             HasSubstr("the name look-up did not answer within 1 ms"))));
}

TEST(NameLookup, AnAnsweredOneGoesOn) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Prompt());
  EXPECT_OK(names.Await("d", Hosts{"h1", "10.0.0.1", "h2"}, In(minutes(5)), minutes(5)));
  EXPECT_THAT(nameserver.asked(), UnorderedElementsAre("h1", "h2"));
}

TEST(NameLookup, AddressesSocketsAndLocalhostAreNotLookedUp) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Silent());
  const Hosts hosts = {"localhost", "127.0.0.1", "::1", "fe80::1%1", "/run/postgresql",
                       "@abstract", ""};
  EXPECT_OK(names.Await("d", hosts, In(minutes(5)), minutes(5)));
  EXPECT_OK(names.Await("d", {}, In(minutes(5)), minutes(5)));
  EXPECT_THAT(nameserver.asked(), IsEmpty());
}

TEST(NameLookup, FailsWhereNoHostIsFoundAndNotWhereOneMayBe) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Prompt());
  const auto await = [&](const Hosts& hosts) {
    return names.Await("d", hosts, In(minutes(5)), minutes(5));
  };
  EXPECT_THAT(await({"missing1", "missing2"}),
              StatusIs(StatusCode::kUnavailable,
                       HasSubstr("look-up failed: missing1: no such name; missing2: no such")));
  EXPECT_OK(await({"missing1", "h"}));
  EXPECT_OK(await({"missing1", "::1"}));
}

TEST(NameLookup, OneThatIsUnderwayIsWaitedForAndNotAskedAgain) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Silent());
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(names.Await("d", Hosts{"h", "h"}, In(milliseconds(1)), milliseconds(1)),
                StatusIs(StatusCode::kUnavailable, HasSubstr("did not answer")));
  }
  nameserver.AwaitQuestion();
  EXPECT_THAT(nameserver.asked(), ElementsAre("h"));
  nameserver.Answer();
  EXPECT_OK(names.Await("d", Hosts{"h"}, In(minutes(5)), minutes(5)));
}

TEST(NameLookup, AnAnswerIsNotKept) {
  Nameserver nameserver;
  const NameLookup names(nameserver.Prompt());
  for (int i = 0; i < 2; ++i) {
    EXPECT_OK(names.Await("d", Hosts{"h"}, In(minutes(5)), minutes(5)));
  }
  EXPECT_THAT(nameserver.asked(), ElementsAre("h", "h"));
}

TEST(NameLookup, OneThatIsLeftBehindKeepsWhatItUses) {
  Nameserver nameserver;
  {
    const NameLookup names(nameserver.Silent());
    EXPECT_THAT(names.Await("d", Hosts{"h"}, In(milliseconds(0)), milliseconds(0)),
                StatusIs(StatusCode::kUnavailable));
  }
  nameserver.AwaitQuestion();
  EXPECT_EQ(nameserver.holders(), 2);
}

// Whether each backend asks, with its time, before its driver does: which would find no ".invalid".
TEST(NameLookup, BoundsTheConnectingOfPostgres) {
  Nameserver nameserver;
  ASSERT_OK_AND_ASSIGN(PostgresTarget target,
                       ParsePostgresTarget("postgresql://u:hunter2@[::1]:1,db.invalid/d",
                                           milliseconds(20)));
  PostgresBackend backend(std::move(target), true, PostgresBackend::BulkPath::kAutomatic,
                          nameserver.Silent());
  EXPECT_THAT(backend.Connect(),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("db.invalid: the name look-up did not answer within 20 ms"),
                             Not(HasSubstr("hunter2")))));
}

TEST(NameLookup, BoundsTheConnectingOfMysql) {
  Nameserver nameserver;
  ASSERT_OK_AND_ASSIGN(MysqlTarget target,
                       ParseMysqlDsn("mysql://u:hunter2@db.invalid:3306/d"));
  MysqlBackend backend("mysql://u:***@db.invalid:3306/d", std::move(target),
                       {.timeout = milliseconds(20)}, MysqlBackend::BulkPath::kByCapability,
                       nameserver.Silent());
  EXPECT_THAT(backend.Connect(),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("db.invalid: the name look-up did not answer within 20 ms"),
                             Not(HasSubstr("hunter2")))));
}

}  // namespace
}  // namespace taskwal::storage

#include "pipeline/database_calls.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>

#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"

namespace taskwal::pipeline {
namespace {

constexpr std::uint32_t kKept = 4;

// With as many connections kept as may be.
class DatabaseCallsTest : public ::testing::Test {
 protected:
  explicit DatabaseCallsTest(std::uint32_t open_max = 0,
                             std::chrono::milliseconds check_after = std::chrono::hours(1)) {
    ConnectionLimits limits;
    limits.check_after = check_after;
    limits.open_max = open_max;
    limits.idle_max = kKept;
    limits.wait_max = {};
    calls_ = std::make_unique<DatabaseCalls>(*backend_, limits);
    UseAllAtOnce();
    database_.OnApply([this] {
      const int attempt = attempts_.fetch_add(1) + 1;
      return attempt <= lost_ ? SwitchableDatabase::Cut::kBefore : SwitchableDatabase::Cut::kNone;
    });
  }

  // A call within a call: each connects while the ones around it do.
  void UseAllAtOnce() {
    std::uint32_t callers = 1;
    database_.OnConnect([&] {
      if (callers++ == kKept) return;
      EXPECT_OK(calls_->Ping());
    });
    EXPECT_OK(calls_->Ping());
    database_.OnConnect({});
  }
  // One call, of which the first `lost` attempts fail.
  Status Call(int lost) {
    attempts_ = 0;
    lost_ = lost;
    storage::Batch batch;
    batch.wal_id = Uuid::Make();
    batch.idempotent = true;
    return calls_->Apply(batch).status();
  }

  SwitchableDatabase database_;
  std::unique_ptr<storage::Backend> backend_ = database_.Open();
  std::unique_ptr<DatabaseCalls> calls_;
  std::atomic<int> attempts_{0};
  int lost_ = 0;
};

// Backends catch their drivers' exceptions; one that gets through must not end the process.
TEST_F(DatabaseCallsTest, AnExceptionIsAnAnswer) {
  database_.OnApply([]() -> SwitchableDatabase::Cut { throw std::runtime_error("thrown"); });
  storage::Batch batch;
  batch.wal_id = Uuid::Make();
  EXPECT_THAT(calls_->Apply(batch).status(), StatusIs(StatusCode::kInDoubt));
  database_.OnApply([]() -> SwitchableDatabase::Cut { throw 7; });
  EXPECT_THAT(calls_->Apply(batch).status(), StatusIs(StatusCode::kInDoubt));
  database_.OnApply({});
  EXPECT_OK(calls_->Ping());
}

TEST_F(DatabaseCallsTest, KeepConnectionsThatWork) {
  ASSERT_OK(Call(0));
  EXPECT_EQ(attempts_, 1);
  EXPECT_EQ(database_.connects(), kKept);
}

TEST_F(DatabaseCallsTest, TryOneFreshConnectionAfterAKeptOneIsLost) {
  ASSERT_OK(Call(1));
  EXPECT_EQ(attempts_, 2);
  EXPECT_EQ(database_.connects(), kKept + 1);
}

// Each attempt may last until the deadline, where nothing answers.
TEST_F(DatabaseCallsTest, FailAfterTwoAttemptsHoweverManyConnectionsAreKept) {
  EXPECT_THAT(Call(100), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(attempts_, 2);
  EXPECT_EQ(database_.connects(), kKept + 1);
  // None is kept any more, so one attempt tells.
  EXPECT_THAT(Call(100), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(attempts_, 1);
  EXPECT_EQ(database_.connects(), kKept + 2);
}

TEST_F(DatabaseCallsTest, FailWhereTheFreshConnectionIsRefused) {
  database_.GoAway();
  EXPECT_THAT(calls_->Ping(), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(database_.connects(), kKept + 1);
  database_.ComeBack();
  ASSERT_OK(calls_->Ping());
  EXPECT_EQ(database_.connects(), kKept + 2);
}

class WatchfulDatabaseCallsTest : public DatabaseCallsTest {
 protected:
  WatchfulDatabaseCallsTest() : DatabaseCallsTest(0, std::chrono::milliseconds(0)) {}
};

TEST_F(WatchfulDatabaseCallsTest, AKeptConnectionIsAskedWhetherItIsTheDatabaseThatWasMet) {
  int asked = 0;
  database_.OnAsk([&] { ++asked; });
  ASSERT_OK(Call(0));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(database_.connects(), kKept);
  database_.GoAway();
  EXPECT_THAT(Call(0), StatusIs(StatusCode::kUnavailable));
  database_.ComeBack();
  ASSERT_OK(Call(0));
  EXPECT_EQ(attempts_, 1);
}

class LimitedDatabaseCallsTest : public DatabaseCallsTest {
 protected:
  LimitedDatabaseCallsTest() : DatabaseCallsTest(kKept) {}
};

// What was dropped does not count as open: as many callers as before connect at once.
TEST_F(LimitedDatabaseCallsTest, LostConnectionsMakeRoomForOthers) {
  EXPECT_THAT(Call(100), StatusIs(StatusCode::kUnavailable));
  UseAllAtOnce();
  EXPECT_EQ(database_.connects(), kKept + 1 + kKept);
}

}  // namespace
}  // namespace taskwal::pipeline

// A database that gives the flusher fewer connections than it has workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/flusher_fixture.h"

namespace taskwal::pipeline {
namespace {

using ::testing::HasSubstr;

class SharedConnectionsTest : public FlusherTest {
 protected:
  SharedConnectionsTest() {
    options_.worker_count = OperationLog::kPartitions;
    options_.breaker_failures = 3;
    Open();
  }

  // `tasks` in each partition.
  void SaveEverywhere(int tasks) {
    for (int n = 0; n < tasks; ++n) {
      for (std::uint32_t p = 0; p < OperationLog::kPartitions; ++p) {
        log_->Save(OperationLog::IdIn(p, saved_ + n));
      }
    }
    saved_ += tasks;
  }
  std::uint64_t Stored() { return Session()->Count()->tasks; }

  int saved_ = 0;  // in each partition
};

TEST_F(SharedConnectionsTest, AllPartitionsAreBroughtOverFewerConnectionsThanWorkers) {
  backend_.LimitConnections(2);
  for (int round = 0; round < 5; ++round) {
    SaveEverywhere(10);
    Drain();
  }
  EXPECT_EQ(Stored(), 5u * 10 * OperationLog::kPartitions);
  EXPECT_EQ(Stats().applied, Stored());
  EXPECT_EQ(Stats().breaker_state, "closed");
}

TEST_F(SharedConnectionsTest, OneConnectionIsEnough) {
  backend_.LimitConnections(1);
  SaveEverywhere(50);
  Drain();
  EXPECT_EQ(Stored(), 50u * OperationLog::kPartitions);
}

// It is brought by the first worker alone.
TEST_F(SharedConnectionsTest, ABarrierIsBroughtWhoeverHasTheConnection) {
  backend_.LimitConnections(1);
  for (int n = 0; n < 5; ++n) {
    SaveEverywhere(2);
    log_->DeleteDag("dag-" + std::to_string(n));
  }
  Drain();
  EXPECT_EQ(Stored(), 10u * OperationLog::kPartitions);
}

// After a restart of the database others had the connections. What was in doubt can be settled by
// the worker alone that has it in hand.
TEST_F(SharedConnectionsTest, BatchesInDoubtAreSettledOverTheConnectionsThatAreLeft) {
  SaveEverywhere(1);
  Drain();
  backend_.LimitConnections(1);
  backend_.NextApplies({ApplyFault::kLostAfter, ApplyFault::kLostBefore, ApplyFault::kLate,
                        ApplyFault::kLostAfter});
  SaveEverywhere(10);
  Drain();
  EXPECT_EQ(Stored(), 11u * OperationLog::kPartitions);
  EXPECT_EQ(Stats().applied, Stored());
}

// Nothing waits, so nobody is called.
TEST_F(SharedConnectionsTest, ItIsToldAndIsNoAlarm) {
  backend_.LimitConnections(2);
  SaveEverywhere(1);
  Drain();
  EXPECT_THAT(Stats().last_error, HasSubstr("too many connections"));
  EXPECT_GT(Stats().flush_errors, 0u);
  EXPECT_EQ(Stats().alarm, "");
  EXPECT_TRUE(Stats().database_available);
}

TEST_F(SharedConnectionsTest, EachHasItsOwnAgainOnceThereAreEnough) {
  backend_.LimitConnections(2);
  SaveEverywhere(1);
  Drain();
  const std::uint64_t connects = backend_.connects();
  backend_.LimitConnections(UINT32_MAX);
  clock_.Advance(options_.max_backoff);
  for (int round = 0; round < 5; ++round) {
    SaveEverywhere(1);
    Drain();
  }
  EXPECT_EQ(backend_.connects(), connects + OperationLog::kPartitions - 2);
}

// Else each batch would come with a refusal, and the server's log would be full of them.
TEST_F(SharedConnectionsTest, ConnectionsAreTriedSeldom) {
  backend_.LimitConnections(2);
  SaveEverywhere(1);
  Drain();
  const std::uint64_t connects = backend_.connects();
  for (int second = 0; second < 300; ++second) {
    SaveEverywhere(1);
    log_->Sync();
    Work(1);
  }
  Drain();
  EXPECT_EQ(Stored(), 301u * OperationLog::kPartitions);
  // Pauses of a tenth of a second that double up to max_backoff: 30 s.
  EXPECT_LE(backend_.connects() - connects, 9u + 300 / 30);
}

// What counts then are the failures of those that had a connection.
TEST_F(SharedConnectionsTest, AnOutageIsNoLackOfConnections) {
  SaveEverywhere(1);
  Drain();
  backend_.RefuseConnections(UINT32_MAX);
  backend_.NextApplies({ApplyFault::kUnavailable, ApplyFault::kUnavailable,
                        ApplyFault::kUnavailable, ApplyFault::kUnavailable});
  SaveEverywhere(1);
  log_->Sync();
  Work(60);
  EXPECT_EQ(Stats().breaker_state, "open");
  EXPECT_THAT(Stats().alarm, HasSubstr("scripted: "));
  EXPECT_FALSE(Stats().database_available);
  backend_.RefuseConnections(0);
  Drain();
  EXPECT_EQ(Stored(), 2u * OperationLog::kPartitions);
  EXPECT_EQ(Stats().alarm, "");
}

// A worker that ends gives back what it was handed or had asked for.
TEST_F(SharedConnectionsTest, WorkersMayBecomeFewerMeanwhile) {
  backend_.LimitConnections(2);
  SaveEverywhere(5);
  log_->Sync();
  Work(1);
  ASSERT_OK(flusher_->SetWorkerCount(1));
  SaveEverywhere(5);
  Drain();
  ASSERT_OK(flusher_->SetWorkerCount(OperationLog::kPartitions));
  SaveEverywhere(5);
  Drain();
  EXPECT_EQ(Stored(), 15u * OperationLog::kPartitions);
}

}  // namespace
}  // namespace taskwal::pipeline

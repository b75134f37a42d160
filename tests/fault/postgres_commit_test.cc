// The connection breaks around COMMIT: whether it took effect is read from the watermark, and no
// row is lost or doubled.
#include <cstdlib>

#include "base/random.h"
#include "storage/backend.h"
#include "tests/contract/batch_builder.h"
#include "tests/fault/database_faults.h"
#include "tests/support/postgres_server.h"
#include "tests/support/tcp_proxy.h"

namespace taskwal {
namespace {

class PostgresCommit : public DatabaseFaults {
 protected:
  void OpenAndMeet(Milliseconds database_timeout = std::chrono::seconds(5)) {
    Open(server_.DsnAt(proxy_.port(), database_), FaultOptions(database_timeout));
    Write(10);
    Flush();
  }

  void BreakOneCommit(CommitFault fault) {
    proxy_.OnCommit(fault);
    Write(10);
    ASSERT_TRUE(proxy_.WaitForCommitFault());
  }

  PostgresServer& server_ = PostgresServer::Shared();
  const std::string database_ = server_.NewDatabase();
  TcpProxy proxy_{server_.port()};
};

TEST_F(PostgresCommit, SessionSaysThatItIsInDoubt) {
  using storage::Batch;
  for (const CommitFault fault :
       {CommitFault::kCutBefore, CommitFault::kCutAfter, CommitFault::kHalfAnswer}) {
    ASSERT_OK_AND_ASSIGN(const auto backend,
                         storage::MakeBackend(server_.DsnAt(proxy_.port(), database_),
                                              {std::chrono::milliseconds(500)}));
    ASSERT_OK_AND_ASSIGN(const auto session, backend->Connect());
    proxy_.OnCommit(fault);
    Batch batch;
    batch.activities.push_back({storage::MakeActivity("a" + std::to_string(int(fault))), 1});
    EXPECT_THAT(session->Apply(batch), StatusIs(StatusCode::kInDoubt));
    // The connection is gone for good, and says so without waiting.
    EXPECT_THAT(session->Ping(), StatusIs(StatusCode::kUnavailable));
  }
  EXPECT_TRUE(server_.WaitUntil("SELECT array_agg(id ORDER BY id) = '{a2,a4}' "
                                "FROM dag_task_activity_logs",
                                database_));
}

TEST_F(PostgresCommit, ThatNeverArrivedIsRepeated) {
  OpenAndMeet();
  BreakOneCommit(CommitFault::kCutBefore);
  Flush();
  ExpectExactlyOnce();
}

TEST_F(PostgresCommit, ThatWasAnsweredIntoTheVoidIsNotRepeated) {
  OpenAndMeet();
  BreakOneCommit(CommitFault::kCutAfter);
  Flush();
  ExpectExactlyOnce();
}

TEST_F(PostgresCommit, ThatWasHalfAnsweredIsNotRepeated) {
  OpenAndMeet(Milliseconds(500));
  BreakOneCommit(CommitFault::kHalfAnswer);
  Flush();
  ExpectExactlyOnce();
}

// The server gets the first COMMIT when the batch is already being written a second time.
TEST_F(PostgresCommit, ThatLandsAfterTheReconnectStopsTheRepetition) {
  OpenAndMeet();
  BreakOneCommit(CommitFault::kHold);
  ASSERT_TRUE(server_.WaitUntil("SELECT count(*) > 0 FROM pg_stat_activity WHERE "
                                "wait_event_type = 'Lock' AND query LIKE 'UPDATE wal_check%'"));
  proxy_.ReleaseCommit();
  Flush();
  ExpectExactlyOnce();
}

// A cut connection whose end the server never hears of: its transaction is ended for it, and with
// it the locks that the repetition waits for.
TEST_F(PostgresCommit, ThatNeverComesIsGivenUpByTheServer) {
  OpenAndMeet(Milliseconds(1000));
  BreakOneCommit(CommitFault::kHold);
  Flush();
  ExpectExactlyOnce();
}

TEST_F(PostgresCommit, RandomCutsLoseAndDoubleNothing) {
  const char* seed_given = std::getenv("TASKWAL_SEED");
  const char* cuts_given = std::getenv("TASKWAL_CUTS");
  const std::uint64_t seed = seed_given != nullptr ? std::strtoull(seed_given, nullptr, 10) : 3;
  const std::uint64_t cuts = cuts_given != nullptr ? std::strtoull(cuts_given, nullptr, 10) : 30;
  SCOPED_TRACE("TASKWAL_SEED=" + std::to_string(seed));
  Random random(seed);
  OpenAndMeet();
  for (std::uint64_t round = 0; proxy_.cuts() < cuts && round < 20 * cuts; ++round) {
    proxy_.CutAfter(1 + random.Below(20000));
    Write(static_cast<int>(1 + random.Below(5)));
    if (random.OneIn(2)) Flush();
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(proxy_.cuts(), cuts);
  Flush();
  ExpectExactlyOnce();
}

// A COMMIT waits for a standby that is not there, while it has taken effect locally already.
TEST_F(PostgresCommit, ThatWaitsForAStandbyLandsOnce) {
  const auto server = PostgresServer::Start({"max_wal_senders=2"});
  const std::string database = server->NewDatabase();
  const auto standby = [&](const char* names) {
    server->Query("ALTER SYSTEM SET synchronous_standby_names = '" + std::string(names) + "'");
    server->Query("SELECT pg_reload_conf()");
  };
  Open(server->Dsn(database), FaultOptions(Milliseconds(1000)));
  Write(10);
  Flush();
  standby("missing");
  Write(10);
  ASSERT_TRUE(WaitForError());
  EXPECT_THAT(last_error(), StatusIs(StatusCode::kInDoubt));
  ASSERT_TRUE(server->WaitUntil("SELECT count(*) > 0 FROM pg_stat_activity "
                                "WHERE wait_event = 'SyncRep'"));
  standby("");
  Flush();
  ExpectExactlyOnce();
}

// The standby that is waited for comes back when the batch is already being written again: the
// first COMMIT lands then, and the repetition finds the watermark moved.
TEST_F(PostgresCommit, ThatLandsWhenItsStandbyIsBackStopsTheRepetition) {
  const auto primary = PostgresServer::Start();
  const std::string database = primary->NewDatabase();
  const auto standby = PostgresServer::StandbyOf(*primary);
  primary->Set("synchronous_standby_names", "*");
  ASSERT_TRUE(primary->WaitUntil("SELECT count(*) = 1 FROM pg_stat_replication "
                                 "WHERE sync_state = 'sync'"));
  Open(primary->Dsn(database), FaultOptions(Milliseconds(2000)));
  Write(10);
  Flush();
  standby->Stop();
  Write(10);
  ASSERT_TRUE(WaitForError());
  EXPECT_THAT(last_error(), StatusIs(StatusCode::kInDoubt));
  ASSERT_TRUE(primary->WaitUntil(
      "SELECT bool_or(wait_event = 'SyncRep') AND bool_or(wait_event_type = 'Lock' AND "
      "query LIKE 'UPDATE wal_check%') FROM pg_stat_activity WHERE application_name = 'taskwal'"));
  standby->StartAgain();
  Flush();
  ExpectExactlyOnce();
}

}  // namespace
}  // namespace taskwal

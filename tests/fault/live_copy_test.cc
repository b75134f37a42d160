// `cp -r` of a log whose owner is alive and feeds a server: the copy is refused there and the owner
// goes on, until the operator says what the copy is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>


#include "tests/support/live_copy.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class LiveCopy : public ::testing::TestWithParam<bool> {
 protected:
  std::string DsnOnServer() {
    PostgresServer& postgres = PostgresServer::Shared();
    database_ = GetParam() ? postgres.NewDatabase() : MariadbServer::Shared().NewDatabase();
    return GetParam() ? postgres.Dsn(database_) : MariadbServer::Shared().Dsn(database_);
  }
  std::string StoredIds() {
    return GetParam()
               ? PostgresServer::Shared().Value(
                     "SELECT string_agg(id, ' ' ORDER BY id) FROM dag_tasks", database_)
               : MariadbServer::Shared().Value(
                     "SELECT group_concat(id ORDER BY id SEPARATOR ' ') FROM dag_tasks", database_);
  }
  bool WaitForStored(const std::string& ids) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (StoredIds() != ids) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  static std::string Save(const std::string& id) {
    return R"({"op":"save_task","task":{"id":")" + id + R"("}})";
  }
  void Bring(const std::string& id) {
    ASSERT_TRUE(owner_->WriteLine(Save(id)));
    const auto answer = owner_->ReadLine();
    ASSERT_TRUE(answer) << owner_->errors();
    ASSERT_THAT(*answer, HasSubstr("\"lsn\"")) << owner_->errors();
  }
  RunOutcome Tool(std::vector<std::string> words, const std::string& input = {}) {
    words.insert(words.begin(), TASKWAL_TOOL);
    words.insert(words.end(), {"--wal", copy_, "--db", dsn_});
    return taskwal::Run(words, input);
  }

  TempDir dir_;
  std::string database_;
  const std::string dsn_ = DsnOnServer();
  const std::string wal_ = dir_.File("wal"), copy_ = dir_.File("copy");
  std::unique_ptr<Child> owner_;
};

INSTANTIATE_TEST_SUITE_P(Servers, LiveCopy, ::testing::Bool(), [](const auto& test) {
  return std::string(test.param ? "postgres" : "mariadb");
});

TEST_P(LiveCopy, IsRefusedByTheServerAndTheOwnerGoesOn) {
  ASSERT_OK_AND_ASSIGN(owner_,
                       Child::Start({TASKWAL_TOOL, "ingest", "--wal", wal_, "--db", dsn_}));
  Bring("a");
  ASSERT_TRUE(WaitForStored("a")) << owner_->errors();
  CopyAlive(wal_, copy_);
  for (const char* command : {"ingest", "recover"}) {
    const RunOutcome refused = Tool({command}, Save("stray") + "\n");
    EXPECT_EQ(refused.exit.code, 1) << command << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("taskwal adopt --wal")) << command;
  }
  Bring("b");
  ASSERT_TRUE(WaitForStored("a b")) << owner_->errors();

  const RunOutcome adopted = Tool({"adopt", "--relabel"});
  EXPECT_EQ(adopted.exit.code, 0) << adopted.err;
  const RunOutcome taken = Tool({"ingest"}, Save("c") + "\n");
  EXPECT_EQ(taken.exit.code, 0) << taken.err;
  Bring("d");
  owner_->CloseInput();
  EXPECT_EQ(owner_->Wait().code, 0) << owner_->errors();
  EXPECT_THAT(StoredIds(), HasSubstr("a b c d"));
}

}  // namespace
}  // namespace taskwal

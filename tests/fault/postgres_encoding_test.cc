// A database whose encoding lacks characters refuses rows that are as they should be.
#include <gtest/gtest.h>

#include "tests/fault/changed_database.h"

namespace taskwal {
namespace {

constexpr const char* kMessage = "\xe6\x97\xa5\xe6\x9c\xac \xe2\x82\xac";  // none of it in LATIN1

class EncodingThatLacksCharacters : public ChangedDatabase {
 protected:
  EncodingThatLacksCharacters() {
    server_.Query(
        "CREATE DATABASE e_latin1 OWNER owner ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    dsn_ = server_.Dsn("public");
    const std::string_view usual = "/postgres?";
    dsn_.replace(dsn_.find(usual), usual.size(), "/e_latin1?");
  }
  ~EncodingThatLacksCharacters() override {
    storage_.reset();
    server_.Query("DROP DATABASE e_latin1 WITH (FORCE)");
  }

  // As a dump and its restoring do: all that it holds is ASCII, the same bytes in either encoding.
  void Mend() {
    server_.Query(
        "UPDATE pg_database SET encoding = pg_char_to_encoding('UTF8') "
        "WHERE datname = 'e_latin1'");
    server_.Query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'e_latin1'");
  }
  void Log() {
    Activity activity;
    activity.id = "a";
    activity.task_id = "t";
    activity.message = kMessage;
    ASSERT_OK(storage_->LogActivity(activity));
  }

  PostgresServer& server_ = PostgresServer::Shared();
  std::string dsn_;
};

TEST_F(EncodingThatLacksCharacters, IsToldAtTheFirstContactLettersNothingAndIsWaitedFor) {
  Open(dsn_, FaultOptions());
  Write(10);
  Log();
  ASSERT_TRUE(WaitForAlarm("the database has the encoding LATIN1, which lacks characters: dump it, "
                           "create it again with ENCODING 'UTF8' and restore it"))
      << storage_->GetStats().alarm;
  EXPECT_EQ(storage_->GetStats().applied, 0u);
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  Mend();
  Flush();
  EXPECT_EQ(storage_->GetStats().dead_lettered, 0u);
  ASSERT_TRUE(WaitForNoAlarm());
  ActivityQuery query;
  query.task_id = "t";
  ASSERT_OK_AND_ASSIGN(const ActivityPage page, storage_->QueryActivities(query));
  ASSERT_EQ(page.activities.size(), 1u);
  EXPECT_EQ(page.activities[0].message, kMessage);
}

}  // namespace
}  // namespace taskwal

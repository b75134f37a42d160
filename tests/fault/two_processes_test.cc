// One process writes a log directory at a time; the other one is told who does.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "taskwal/open.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

class TwoProcesses : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<std::string> Ingest() const {
    return {TASKWAL_TOOL, "ingest", "--wal", wal_, "--db", dsn_};
  }

  // An ingest process that has opened the log: it has acknowledged a line.
  void StartFirst() {
    ASSERT_OK_AND_ASSIGN(first_, Child::Start(Ingest()));
    ASSERT_TRUE(first_->WriteLine(R"({"op":"save_task","task":{"id":"a"}})"));
    const auto answer = first_->ReadLine();
    ASSERT_TRUE(answer) << first_->errors();
    ASSERT_THAT(*answer, HasSubstr("\"lsn\"")) << first_->errors();
  }

  Options LogOptions() const {
    Options options;
    options.wal_dir = wal_;
    return options;
  }

  TempDir directory_;
  const std::string wal_ = directory_.File("wal");
  const std::string dsn_ = "sqlite://" + directory_.File("tasks.db");
  std::unique_ptr<Child> first_;
};

TEST_F(TwoProcesses, OpeningALogThatAnotherProcessWritesNamesThatProcess) {
  StartFirst();
  if (HasFatalFailure()) return;
  EXPECT_THAT(OpenTaskStorage(dsn_, LogOptions()),
              StatusIs(StatusCode::kUnavailable, HasSubstr(std::to_string(first_->pid()))));
}

TEST_F(TwoProcesses, TheToolSaysInOneLineWhoWritesTheLog) {
  StartFirst();
  if (HasFatalFailure()) return;
  for (const std::string command : {"ingest", "recover"}) {
    const RunOutcome second =
        taskwal::Run({TASKWAL_TOOL, command, "--wal", wal_, "--db", dsn_}, "");
    EXPECT_EQ(second.exit.code, 1) << command << ": " << second.err;
    EXPECT_THAT(second.err, HasSubstr(std::to_string(first_->pid()))) << command;
    EXPECT_EQ(std::count(second.err.begin(), second.err.end(), '\n'), 1)
        << command << ": " << second.err;
  }
}

TEST_F(TwoProcesses, TheLogIsFreeOnceItsWriterWasKilled) {
  StartFirst();
  if (HasFatalFailure()) return;
  first_->Kill();
  first_->Wait();
  ASSERT_OK_AND_ASSIGN(auto storage, OpenTaskStorage(dsn_, LogOptions()));
  EXPECT_OK(storage->GetTask("a"));
  EXPECT_OK(storage->Close());
}

TEST_F(TwoProcesses, ARefusedOpenerLeavesTheWriterUndisturbed) {
  StartFirst();
  if (HasFatalFailure()) return;
  EXPECT_FALSE(OpenTaskStorage(dsn_, LogOptions()).ok());
  ASSERT_TRUE(first_->WriteLine(R"({"op":"update_status","task_id":"a","status":"running"})"));
  const auto answer = first_->ReadLine();
  ASSERT_TRUE(answer) << first_->errors();
  EXPECT_THAT(*answer, HasSubstr("\"lsn\""));
  EXPECT_EQ(first_->Wait().code, 0) << first_->errors();
}

}  // namespace
}  // namespace taskwal

// A system that starts no more threads: what needs one is refused or waits, and nothing is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/line_logger.h"
#include "tests/support/no_new_threads.h"
#include "tests/unit/pipeline/wal_task_storage_fixture.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

class NoThreadsTest : public WalTaskStorageTest {
 protected:
  static auto IsToldOf() {
    return StatusIs(StatusCode::kUnavailable, HasSubstr("starts no more threads (see ulimit -u"));
  }
  // Calls back once such a line has been logged.
  void WhenLogged(const std::string& text, std::function<void()> hook) {
    const auto is_over = std::make_shared<std::atomic<bool>>(false);
    const auto put = [text, hook = std::move(hook), is_over](std::string_view line) {
      if (line.find(text) != std::string_view::npos && !is_over->exchange(true)) hook();
    };
    options_.logger = MakeLineLogger(put);
  }
  std::optional<NoNewThreads> none_;
};

TEST_F(NoThreadsTest, AnOpenIsRefusedAndTheNextOneFindsEverything) {
  database_.GoAway();
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, {}), StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  database_.ComeBack();
  none_.emplace();
  EXPECT_THAT(TryOpen(), IsToldOf());
  none_.reset();
  Open();
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(Stored().tasks, 1u);
}

// The log's threads run by then, and the flusher is about to.
TEST_F(NoThreadsTest, AnOpenIsRefusedWhereTheLastOneCannotBeStarted) {
  options_.on_recovery = [this](const RecoveryEvent&) { none_.emplace(); };
  EXPECT_THAT(TryOpen(), IsToldOf());
  none_.reset();
  options_.on_recovery = nullptr;
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(Stored().tasks, 1u);
}

// By then the database has answered, and the log is open.
TEST_F(NoThreadsTest, FlushingBeginsOnceThereAreThreads) {
  std::latch connects(1), goes_on(1);
  database_.OnConnect([&, is_first = true]() mutable {
    if (!std::exchange(is_first, false)) return;
    connects.count_down();
    goes_on.wait();
  });
  options_.recovery_timeout = milliseconds(1);
  WhenLogged("event=not_started", [this] { none_.reset(); });
  Open();
  connects.wait();
  ASSERT_OK(storage_->SaveTask(TaskNamed("t"), {}));
  none_.emplace();
  goes_on.count_down();
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_FALSE(none_.has_value());
  EXPECT_EQ(Stored().tasks, 1u);
  storage_.reset();
}

TEST_F(NoThreadsTest, FewerWorkersBringEverything) {
  database_.set_writers_max(4);
  options_.worker_count = 1;
  Open();
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  ASSERT_OK(storage_->Flush(seconds(60)));  // its worker runs
  none_.emplace();
  EXPECT_THAT(storage_->GetControl()->SetWorkerCount(4), IsToldOf());
  for (int i = 0; i < 64; ++i) ASSERT_OK(storage_->SaveTask(TaskNamed(std::to_string(i)), {}));
  ASSERT_OK(storage_->Flush(seconds(60)));
  EXPECT_EQ(Stored().tasks, 65u);
  none_.reset();
  EXPECT_OK(storage_->GetControl()->SetWorkerCount(4));
}

TEST_F(NoThreadsTest, AShutdownHandlerThatHasNoneIsToldOf) {
  bool has_run = false, is_told = false;
  WhenLogged("was not called", [&] { is_told = true; });
  Open();
  ASSERT_OK(storage_->OnShutdown("of the test", [&] { has_run = true; }, {}));
  ASSERT_OK(storage_->SaveTask(TaskNamed("first"), {}));
  ASSERT_OK(storage_->Flush(seconds(60)));  // its worker runs
  none_.emplace();
  ASSERT_OK(storage_->SaveTask(TaskNamed("second"), {}));
  EXPECT_OK(storage_->Close());
  EXPECT_FALSE(has_run);
  EXPECT_TRUE(is_told);
  EXPECT_EQ(Stored().tasks, 2u);
}

}  // namespace
}  // namespace taskwal::pipeline

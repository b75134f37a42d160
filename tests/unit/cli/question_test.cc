#include "cli/question.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "tests/support/recording_storage.h"
#include "tests/support/status_matchers.h"

namespace taskwal::cli {
namespace {

constexpr int kDestroyed = 99;

TEST(Question, IsAnsweredBySomebodyElse) {
  const auto storage = std::make_shared<RecordingStorage>();
  Question<std::thread::id> asked(storage, [](TaskStorage& /*of*/) {
    return Result<std::thread::id>(std::this_thread::get_id());
  });
  ASSERT_TRUE(asked.Await(std::chrono::minutes(1), {}));
  const auto answer = asked.Take();
  ASSERT_OK(answer);
  EXPECT_NE(*answer, std::this_thread::get_id());
}

TEST(Question, AStopEndsTheWaiting) {
  std::stop_source stop;
  stop.request_stop();
  std::promise<void> go;
  const auto gone = go.get_future().share();
  Question<bool> asked(std::make_shared<RecordingStorage>(), [gone](TaskStorage& /*of*/) {
    gone.wait();
    return Result<bool>(true);
  });
  EXPECT_FALSE(asked.Await(std::chrono::hours(1), stop.get_token()));
  go.set_value();
  EXPECT_TRUE(asked.Await(std::chrono::minutes(1), {}));
}

// In a process of its own, whose end would be told by the first thing that it does.
void EndWith(bool is_left_behind) {
  std::atexit([] { ::_exit(kDestroyed); });
  {
    Question<bool> asked(std::make_shared<RecordingStorage>(),
                         [is_left_behind](TaskStorage& /*of*/) {
                           while (is_left_behind) ::pause();
                           return Result<bool>(true);
                         });
    asked.Await(std::chrono::milliseconds(is_left_behind ? 0 : 60'000), {});
  }
  EndProcess(3);
}

class QuestionDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(QuestionDeathTest, ThatIsLeftBehindSeesNothingDestroyed) {
  EXPECT_EXIT(EndWith(true), ::testing::ExitedWithCode(3), "");
}

TEST_F(QuestionDeathTest, ThatIsAnsweredLeavesTheProcessToEndAsEver) {
  EXPECT_EXIT(EndWith(false), ::testing::ExitedWithCode(kDestroyed), "");
}

}  // namespace
}  // namespace taskwal::cli

#include "base/threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <thread>

#include "tests/support/no_new_threads.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

// Tells who ends it.
class Ending {
 public:
  explicit Ending(std::promise<std::thread::id>* ended) : ended_(ended) {}
  ~Ending() { ended_->set_value(std::this_thread::get_id()); }
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;

 private:
  std::promise<std::thread::id>* ended_;
};

TEST(Threads, WhatCannotBeStartedIsToldOf) {
  {
    const NoNewThreads none;
    EXPECT_THAT(StartThread<std::jthread>([] {}), StatusIs(StatusCode::kUnavailable));
  }
  bool has_run = false;
  {
    auto thread = StartThread<std::jthread>([&] { has_run = true; });
    ASSERT_OK(thread);
  }
  EXPECT_TRUE(has_run);
}

TEST(Threads, WhatEndsElsewhereEndsOnAThreadOfItsOwn) {
  std::promise<std::thread::id> ended;
  EndElsewhere(std::make_unique<Ending>(&ended));
  EXPECT_NE(ended.get_future().get(), std::this_thread::get_id());
}

TEST(Threads, WhatCannotEndElsewhereIsKept) {
  static std::promise<std::thread::id> ended;  // it is referred to until the process ends
  auto future = ended.get_future();
  {
    const NoNewThreads none;
    EndElsewhere(std::make_unique<Ending>(&ended));
  }
  EXPECT_EQ(future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

}  // namespace
}  // namespace taskwal

#include "pipeline/bounded_calls.h"

#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <optional>
#include <stop_token>
#include <thread>

namespace taskwal::pipeline {
namespace {

// Whoever ends it must know what is still using what is its.
TEST(BoundedCalls, WhatIsLeftBehindIsAwaited) {
  using Outcome = BoundedCalls::Outcome;
  std::latch begun(1), returns(1);
  std::stop_source stop;
  BoundedCalls calls;
  EXPECT_TRUE(calls.AwaitAll(Monotonic::max()));
  const std::jthread told([&] {
    begun.wait();
    stop.request_stop();
  });
  std::optional<int> answer;
  const auto call = [&] {
    begun.count_down();
    returns.wait();
    return 1;
  };
  EXPECT_EQ(calls.Run({Monotonic::max(), stop.get_token()}, call, &answer), Outcome::kOver);
  EXPECT_FALSE(answer.has_value());
  EXPECT_TRUE(calls.IsUnderway());
  EXPECT_FALSE(calls.AwaitAll(std::chrono::steady_clock::now()));
  returns.count_down();
  EXPECT_TRUE(calls.AwaitAll(Monotonic::max()));
  EXPECT_FALSE(calls.IsUnderway());
}

}  // namespace
}  // namespace taskwal::pipeline

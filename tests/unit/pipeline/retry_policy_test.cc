#include "pipeline/flush/retry_policy.h"

#include <gtest/gtest.h>

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;

Options Plain() {
  Options options;
  options.initial_backoff = milliseconds(100);
  options.max_backoff = milliseconds(1000);
  options.backoff_multiplier = 2.0;
  options.backoff_jitter = false;
  return options;
}

TEST(RetryPolicy, DoublesUpToTheBound) {
  Random random(1);
  const RetryPolicy retry(Plain());
  EXPECT_EQ(retry.Delay(1, random), milliseconds(100));
  EXPECT_EQ(retry.Delay(2, random), milliseconds(200));
  EXPECT_EQ(retry.Delay(4, random), milliseconds(800));
  EXPECT_EQ(retry.Delay(5, random), milliseconds(1000));
  EXPECT_EQ(retry.Delay(UINT32_MAX, random), milliseconds(1000));
}

TEST(RetryPolicy, TakesZeroAsZero) {
  Options options = Plain();
  options.initial_backoff = milliseconds(0);
  options.backoff_jitter = true;
  Random random(1);
  EXPECT_EQ(RetryPolicy(options).Delay(7, random), milliseconds(0));
}

TEST(RetryPolicy, StaysConstantWithAMultiplierOfOne) {
  Options options = Plain();
  options.backoff_multiplier = 1.0;
  Random random(1);
  EXPECT_EQ(RetryPolicy(options).Delay(1000, random), milliseconds(100));
}

TEST(RetryPolicy, NeverWaitsLongerThanTheBoundFromTheStart) {
  Options options = Plain();
  options.max_backoff = milliseconds(30);
  Random random(1);
  EXPECT_EQ(RetryPolicy(options).Delay(1, random), milliseconds(30));
}

TEST(RetryPolicy, SpreadsWithJitterBetweenHalfAndAll) {
  Options options = Plain();
  options.backoff_jitter = true;
  const RetryPolicy retry(options);
  Random random(7);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const milliseconds delay = retry.Delay(2, random);
    EXPECT_GE(delay, milliseconds(100));
    EXPECT_LE(delay, milliseconds(200));
    differs = differs || delay != retry.Delay(2, random);
  }
  EXPECT_TRUE(differs);
}

TEST(RetryPolicy, GrowsByTheSameStepWhenLinear) {
  Options options = Plain();
  options.backoff_strategy = Backoff::kLinear;
  Random random(1);
  const RetryPolicy retry(options);
  EXPECT_EQ(retry.Delay(1, random), milliseconds(100));
  EXPECT_EQ(retry.Delay(2, random), milliseconds(200));
  EXPECT_EQ(retry.Delay(3, random), milliseconds(300));
  EXPECT_EQ(retry.Delay(UINT32_MAX, random), milliseconds(1000));
}

TEST(RetryPolicy, StaysTheSameWhenConstant) {
  Options options = Plain();
  options.backoff_strategy = Backoff::kConstant;
  Random random(1);
  const RetryPolicy retry(options);
  EXPECT_EQ(retry.Delay(1, random), milliseconds(100));
  EXPECT_EQ(retry.Delay(1000, random), milliseconds(100));
}

}  // namespace
}  // namespace taskwal::pipeline

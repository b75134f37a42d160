#include "metrics/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/random.h"

namespace taskwal {
namespace {

using namespace std::chrono_literals;

TEST(Histogram, IsEmptyAtFirst) {
  const LatencySummary summary = Histogram().Summary();
  EXPECT_EQ(summary.count, 0u);
  EXPECT_EQ(summary.p99, 0.0);
  EXPECT_EQ(summary.max, 0.0);
}

TEST(Histogram, OneValueIsEveryFigure) {
  Histogram histogram;
  histogram.Record(1500us);
  const LatencySummary summary = histogram.Summary();
  EXPECT_EQ(summary.count, 1u);
  EXPECT_EQ(summary.mean, 1500.0);
  EXPECT_EQ(summary.max, 1500.0);
  for (const double figure : {summary.p50, summary.p95, summary.p99}) {
    EXPECT_NEAR(figure, 1500.0, 1500.0 * 0.0625);
  }
}

TEST(Histogram, EveryQuantileIsWithinASixteenth) {
  Histogram histogram;
  Random random(11);
  std::vector<double> values;
  for (int i = 0; i < 20000; ++i) {
    const auto ns = static_cast<std::int64_t>(random.Below(1ull << random.Below(34)));
    histogram.Record(std::chrono::nanoseconds(ns));
    values.push_back(static_cast<double>(ns) / 1000);
  }
  std::sort(values.begin(), values.end());
  const LatencySummary summary = histogram.Summary();
  const auto exact = [&](double part) {
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size())) - 1];
  };
  EXPECT_EQ(summary.count, values.size());
  EXPECT_NEAR(summary.p50, exact(0.50), exact(0.50) * 0.0625);
  EXPECT_NEAR(summary.p95, exact(0.95), exact(0.95) * 0.0625);
  EXPECT_NEAR(summary.p99, exact(0.99), exact(0.99) * 0.0625);
  EXPECT_EQ(summary.max, values.back());
}

TEST(Histogram, OfOneToFiveTheMedianIsThreeAndTheHighestPercentilesAreAboveFour) {
  Histogram histogram;
  for (const auto value : {1ms, 2ms, 3ms, 4ms, 5ms}) histogram.Record(value);
  const LatencySummary summary = histogram.Summary();
  EXPECT_EQ(summary.mean, 3000.0);
  EXPECT_NEAR(summary.p50, 3000.0, 3000.0 * 0.0625);
  EXPECT_GE(summary.p95, 4000.0);
  EXPECT_GE(summary.p99, 4000.0);
}

TEST(Histogram, TakesTheShortestAndTheLongest) {
  Histogram histogram;
  histogram.Record(-5ns);
  histogram.Record(0ns);
  histogram.Record(24h);
  const LatencySummary summary = histogram.Summary();
  EXPECT_EQ(summary.count, 3u);
  EXPECT_EQ(summary.p50, 0.0);
  EXPECT_EQ(summary.max, 24.0 * 3600 * 1e6);
  EXPECT_GT(summary.p99, 0.0);
}

TEST(Histogram, ForgetsWhenReset) {
  Histogram histogram;
  histogram.Record(1ms);
  histogram.Reset();
  EXPECT_EQ(histogram.Summary().count, 0u);
  EXPECT_EQ(histogram.Summary().max, 0.0);
}

TEST(Histogram, CountsWhatManyThreadsRecord) {
  Histogram histogram;
  {
    std::vector<std::jthread> threads;
    for (int t = 1; t <= 4; ++t) {
      threads.emplace_back([&histogram, t] {
        for (int i = 0; i < 1000; ++i) histogram.Record(std::chrono::microseconds(t));
      });
    }
  }
  const LatencySummary summary = histogram.Summary();
  EXPECT_EQ(summary.count, 4000u);
  EXPECT_EQ(summary.mean, 2.5);
  EXPECT_EQ(summary.max, 4.0);
}

}  // namespace
}  // namespace taskwal

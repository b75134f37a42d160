#include "taskwal/options_builder.h"

#include <gtest/gtest.h>

#include "pipeline/option_fields.h"

namespace taskwal {
namespace {

TEST(OptionsBuilder, SetsWhatItIsTold) {
  const Options options = OptionsBuilder()
                              .WithLog("app.wal", Durability::kProcess)
                              .WithQueue(100000, 500)
                              .WithWorkers(4)
                              .WithMetrics(false)
                              .WithShutdownTimeout(std::chrono::seconds(7))
                              .Build();
  EXPECT_EQ(options.wal_dir, "app.wal");
  EXPECT_EQ(options.durability, Durability::kProcess);
  EXPECT_EQ(options.max_unflushed_records, 100000u);
  EXPECT_EQ(options.batch_size, 500u);
  EXPECT_EQ(options.worker_count, 4u);
  EXPECT_FALSE(options.enable_metrics);
  EXPECT_EQ(options.shutdown_timeout, std::chrono::seconds(7));
}

TEST(OptionsBuilder, LeavesTheRestAsItIs) {
  Options start;
  start.sync_lanes = 5;
  const Options built = OptionsBuilder(start).WithWorkers(9).Build();
  for (const auto& field : pipeline::OptionFields()) {
    if (field.name == "worker_count") continue;
    EXPECT_EQ(pipeline::GetOption(built, field.name), pipeline::GetOption(start, field.name));
  }
}

}  // namespace
}  // namespace taskwal

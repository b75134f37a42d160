// Whole files: several databases, the examples.
#include <gtest/gtest.h>

#include <filesystem>

#include "config/daemon_config.h"
#include "taskwal/open.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal::config {
namespace {

using std::chrono::seconds;

class TargetsEffect : public ::testing::Test {
 protected:
  // Fifty activities with these two targets.
  void Feed(const std::string& first, const std::string& second) {
    const std::string text = "wal:\n  dir: " + dir_.File("wal") + "\ntargets:\n  - {" + first +
                             "}\n  - {" + second + "}\n";
    ASSERT_OK_AND_ASSIGN(DaemonConfig config, ParseConfig(text, "f.yaml"));
    ASSERT_OK_AND_ASSIGN(const auto storage, OpenTaskStorage(std::move(config.options)));
    Activity activity;
    activity.action = "step";
    for (int i = 0; i < 50; ++i) ASSERT_OK(storage->LogActivity(activity));
    ASSERT_OK(storage->Flush(seconds(60)));
    targets_ = storage->GetStats().targets;
    ASSERT_EQ(targets_.size(), 2u);
  }
  [[nodiscard]] std::string Dsn(const std::string& name) const {
    return "dsn: 'sqlite://" + dir_.File(name) + "'";
  }

  TempDir dir_;
  std::vector<TargetStats> targets_;
};

TEST_F(TargetsEffect, NameAndDsnSayWhoIsFedAndWeightHowMuch) {
  Feed("name: a, " + Dsn("a.db"), "name: b, weight: 4, " + Dsn("b.db"));
  EXPECT_EQ(targets_[0].name, "a");
  EXPECT_EQ(targets_[0].applied, 10u);
  EXPECT_EQ(targets_[1].name, "b");
  EXPECT_EQ(targets_[1].applied, 40u);
  EXPECT_TRUE(std::filesystem::exists(dir_.File("a.db")));
  EXPECT_TRUE(std::filesystem::exists(dir_.File("b.db")));
}

TEST_F(TargetsEffect, WithoutWeightsAllTakeTheSame) {
  Feed("name: one, " + Dsn("one.db"), "name: two, " + Dsn("two.db"));
  EXPECT_EQ(targets_[0].name, "one");
  EXPECT_EQ(targets_[0].applied, 25u);
  EXPECT_EQ(targets_[1].applied, 25u);
  EXPECT_TRUE(std::filesystem::exists(dir_.File("one.db")));
}

// Each of the examples is the file of a storage that works.
TEST(ExampleConfig, EveryProfileOpensAStorage) {
  for (const char* name :
       {"annotated", "high_throughput", "high_reliability", "development"}) {
    const TempDir dir;
    const std::string file = std::string(TASKWAL_SOURCE_DIR) + "/examples/config/" + name + ".yaml";
    ASSERT_OK_AND_ASSIGN(DaemonConfig config, LoadConfig(file));
    config.options.wal_dir = dir.File("wal");
    ASSERT_OK_AND_ASSIGN(const auto storage, OpenTaskStorage("memory:", config.options));
    Activity activity;
    activity.action = "step";
    ASSERT_OK(storage->LogActivity(activity));
    ASSERT_OK(storage->Flush(seconds(60)));
    EXPECT_EQ(storage->GetStats().applied, 1u) << name;
    EXPECT_OK(storage->Close());
  }
}

}  // namespace
}  // namespace taskwal::config

#include "metrics/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "base/json_text.h"

namespace taskwal::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// As of one target with one worker.
Source Small() {
  Source source;
  source.stats.targets.resize(1);
  source.stats.targets[0].name = "a \"quoted\"\nname";
  source.flows.resize(1);
  source.flows[0].name = "default";
  source.flows[0].workers.resize(1);
  return source;
}

const Family* Find(const std::vector<Family>& families, std::string_view name) {
  for (const Family& family : families) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

double ValueOf(const std::vector<Family>& families, std::string_view name) {
  const Family* family = Find(families, name);
  return family != nullptr && !family->samples.empty() ? family->samples[0].value : -1;
}

std::string_view KindName(Kind kind) {
  return kind == Kind::kCounter ? "counter" : kind == Kind::kGauge ? "gauge" : "summary";
}

TEST(RegistryTest, NamesFollowTheConventionsOfPrometheus) {
  const std::regex shape("taskwal(_[a-z]+)+");
  std::set<std::string> names;
  for (const Family& family : Collect(Small())) {
    const std::string name(family.name);
    EXPECT_TRUE(std::regex_match(name, shape)) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.ends_with("_total"), family.kind == Kind::kCounter) << name;
    if (family.kind == Kind::kSummary) {
      EXPECT_TRUE(name.ends_with("_seconds")) << name;
    }
    EXPECT_THAT(std::string(family.help), Not(IsEmpty())) << name;
  }
}

// The rows "| `taskwal_…` | kind | labels | … |" of docs/OPERATIONS.md.
TEST(RegistryTest, TheDocumentedTableIsThisOne) {
  std::ifstream file(TASKWAL_SOURCE_DIR "/docs/OPERATIONS.md");
  ASSERT_TRUE(file.is_open());
  const std::regex row(R"(\| `(taskwal_[a-z_]+)` \| ([a-z]+) \| ([a-z]?[a-z, ]*[a-z])? *\| .+ \|)");
  std::map<std::string, std::pair<std::string, std::string>> documented;
  for (std::string line; std::getline(file, line);) {
    std::smatch found;
    if (!std::regex_match(line, found, row)) continue;
    std::string labels = found[3];
    while (labels.ends_with(' ')) labels.pop_back();
    documented[found[1]] = {found[2], labels};
  }
  for (const Family& family : Collect(Small())) {
    const std::string name(family.name);
    ASSERT_TRUE(documented.contains(name)) << name;
    EXPECT_EQ(documented[name].first, KindName(family.kind)) << name;
    std::string labels;
    for (const Sample& sample : family.samples) {
      labels.clear();
      for (const auto& [label, value] : sample.labels) {
        labels += (labels.empty() ? "" : ", ") + label;
      }
    }
    if (!family.samples.empty()) {
      EXPECT_EQ(documented[name].second, labels) << name;
    }
    documented.erase(name);
  }
  for (const auto& [name, kind] : documented) ADD_FAILURE() << name << " is documented only";
}

TEST(RegistryTest, TextHasHelpTypeQuantilesAndEscapedLabels) {
  Source source = Small();
  source.stats.accepted = 12345678901;
  source.stats.targets[0].flush_time = {4, 250, 200, 300, 390, 400};
  const std::string text = PrometheusText(Collect(source));
  EXPECT_THAT(text, HasSubstr("# TYPE taskwal_records_accepted_total counter\n"
                              "taskwal_records_accepted_total 12345678901"));
  EXPECT_THAT(text, HasSubstr("# HELP taskwal_flush_duration_seconds "));
  EXPECT_THAT(text, HasSubstr("# TYPE taskwal_flush_duration_seconds summary\n"
                              "taskwal_flush_duration_seconds_count{target="
                              R"("a \"quoted\"\nname"} 4)"));
  EXPECT_THAT(text, HasSubstr(R"(quantile="0.99"} 0.0003)"));
  EXPECT_THAT(text, HasSubstr(R"(quantile="1"} 0.0004)"));
}

TEST(RegistryTest, JsonIsOneObjectByTheSameNames) {
  Source source = Small();
  source.stats.applied = 7;
  source.stats.append_time = {10, 1, 1, 2, 3, 4};
  const std::string json = JsonText(Collect(source));
  ASSERT_TRUE(IsJson(json));
  EXPECT_THAT(json, HasSubstr(R"("taskwal_records_applied_total":7,)"));
  EXPECT_THAT(json, HasSubstr(R"("taskwal_append_duration_seconds":{"count":10,)"));
  EXPECT_THAT(json, HasSubstr(R"({"state":"normal","value":1})"));
}

TEST(RegistryTest, APastThatNeverWasHasNoSample) {
  Source source = Small();
  EXPECT_THAT(Find(Collect(source), "taskwal_flush_last_timestamp_seconds")->samples, IsEmpty());
  source.stats.last_flush_time = Time(std::chrono::milliseconds(1500));
  EXPECT_EQ(ValueOf(Collect(source), "taskwal_flush_last_timestamp_seconds"), 1.5);
}

TEST(RegistryTest, StartsOverAndStillBalances) {
  Source source = Small();
  source.stats.accepted = 100;
  source.stats.applied = 80;
  source.stats.dead_lettered = 5;
  source.stats.pending = 15;
  const std::vector<Family> baseline = Collect(source);
  source.stats.accepted = 130;
  source.stats.applied = 110;
  source.stats.pending = 15;
  std::vector<Family> families = Collect(source);
  Rebase(baseline, &families);
  EXPECT_EQ(ValueOf(families, "taskwal_records_applied_total"), 30);
  EXPECT_EQ(ValueOf(families, "taskwal_records_dead_lettered_total"), 0);
  EXPECT_EQ(ValueOf(families, "taskwal_records_pending"), 15);
  EXPECT_EQ(ValueOf(families, "taskwal_records_accepted_total"), 30 + 15);
}

}  // namespace
}  // namespace taskwal::metrics

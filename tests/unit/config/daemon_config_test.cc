#include "config/daemon_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "pipeline/option_fields.h"
#include "tests/support/status_matchers.h"

namespace taskwal::config {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Example(const std::string& name) {
  return std::string(TASKWAL_SOURCE_DIR) + "/examples/config/" + name;
}

std::string ErrorOf(std::string_view text) {
  const auto config = ParseConfig(text, "f.yaml");
  EXPECT_EQ(config.status().code(), StatusCode::kInvalidArgument) << text;
  return config.status().message();
}

// Keys that stand in no line "  name: value  # comment" below their group's.
std::vector<std::string> KeysMissingIn(const std::string& file) {
  std::set<std::string> found;
  std::ifstream in(file);
  std::string group;
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (line.empty() || line[0] == '#' || colon == std::string::npos) continue;
    if (line[0] != ' ') group = line.substr(0, colon);
    const bool is_explained = line.find("  # ") != std::string::npos;
    if (line[0] == ' ' && is_explained) found.insert(group + "." + line.substr(2, colon - 2));
  }
  std::vector<std::string> missing;
  for (const ConfigKey& key : ConfigKeys()) {
    if (!found.contains(key.path())) missing.push_back(key.path());
  }
  return missing;
}

std::string FileOf(const ConfigKey& key, std::string_view value) {
  return std::string(key.group) + ":\n  " + std::string(key.name) + ": " + std::string(value) +
         "\n";
}

// A value that the key takes and that is not its default; "" where there is none.
std::string OtherValueOf(const ConfigKey& key) {
  const std::string before = GetConfig(DaemonConfig{}, key);
  for (const char* value : {"7", "2000", "200000", "2MiB", "7s", "true", "false", "process", "0.5",
                            "3.5", "sample", "linear", "warn", "127.0.0.1:9", "other"}) {
    const auto config = ParseConfig(FileOf(key, value), "f.yaml");
    if (config.ok() && GetConfig(*config, key) != before) return value;
  }
  return "";
}

TEST(DaemonConfig, EveryKeyReachesItsFieldAndNoOther) {
  const DaemonConfig defaults;
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string value = OtherValueOf(key);
    ASSERT_NE(value, "") << key.path() << " takes no other value";
    const auto config = ParseConfig(FileOf(key, value), "f.yaml");
    ASSERT_OK(config);
    for (const ConfigKey& other : ConfigKeys()) {
      if (other.path() == key.path()) continue;
      if (key.path() == "wal.max_segments" && other.path() == "wal.quota") continue;
      EXPECT_EQ(GetConfig(*config, other), GetConfig(defaults, other))
          << key.path() << " changes " << other.path();
    }
  }
}

TEST(DaemonConfig, EveryOptionHasExactlyOneKey) {
  std::multiset<std::string_view> mapped;
  for (const ConfigKey& key : ConfigKeys()) {
    if (!key.option.empty()) mapped.insert(key.option);
  }
  for (const auto& field : pipeline::OptionFields()) {
    EXPECT_EQ(mapped.count(field.name), 1u) << field.name;
    mapped.erase(field.name);
  }
  EXPECT_TRUE(mapped.empty()) << *mapped.begin() << " is no option";
}

TEST(DaemonConfig, NamesTheNearestKey) {
  EXPECT_EQ(ErrorOf("wal:\n  dir: x\n  segmentsize: 1MiB\n"),
            "f.yaml:3: unknown key \"wal.segmentsize\"; did you mean \"wal.segment_size\"?");
  EXPECT_EQ(ErrorOf("wall:\n  dir: x\n"), "f.yaml:1: unknown key \"wall\"; did you mean \"wal\"?");
  EXPECT_THAT(ErrorOf("targets:\n  - {name: a, dns: 'memory:'}\n"),
              HasSubstr("f.yaml:2: unknown key \"targets.dns\"; did you mean \"targets.dsn\"?"));
}

TEST(DaemonConfig, NamesAKeyOfAnotherGroup) {
  const std::vector<std::pair<std::string, std::string>> meant = {
      {"batch_size: 5", "worker_pool.batch_size"},
      {"rate_limit: 5", "buffer.rate_limit"},
      {"num_workers: 5", "worker_pool.num_workers"},
      {"ratelimit: 5", "buffer.rate_limit"},
      {"buffer: {batch_size: 5}", "worker_pool.batch_size"},
      {"buffer: {batchsize: 5}", "worker_pool.batch_size"},
      {"reliability: {jitter: 5}", "retry.jitter"},
      {"worker_pool: {worker_count: 5}", "worker_pool.num_workers"},
      {"wal: {database: x}", "database"},
      {"buffer: {worker_count: 5}", "worker_pool.num_workers"},
      {"buffer: {sise: 5}", "buffer.size"},
      {"wal: {sgment_size: 5}", "wal.segment_size"}};
  for (const auto& [text, key] : meant) {
    EXPECT_THAT(ErrorOf(text), HasSubstr("; did you mean \"" + key + "\"?")) << text;
  }
}

TEST(DaemonConfig, SaysWhatToUseInsteadOfAKeyThatItDeclines) {
  EXPECT_EQ(ErrorOf("wal:\n  dir: x\nbuffer:\n  type: memory\n"),
            "f.yaml:4: no key \"buffer.type\": there is one buffer, the log's, and it outlives "
            "its process; wal.durability: memory is for records that need not");
  EXPECT_EQ(ErrorOf("dead_letter:\n  dir: /x\n"),
            "f.yaml:2: no key \"dead_letter.dir\": dead letters are a part of the log, which "
            "brings again what has none: they are in dead-letters, below wal.dir");
  EXPECT_EQ(DeclinedKeys().size(), 2u);
}

// Each key with a letter left out.
TEST(DaemonConfig, NamesEachKeyThatIsMeant) {
  for (const ConfigKey& key : ConfigKeys()) {
    std::string wrong(key.name);
    wrong.erase(wrong.size() / 2, 1);
    const std::string text = std::string(key.group) + ":\n  " + wrong + ": 1\n";
    EXPECT_THAT(ErrorOf(text), HasSubstr("did you mean \"" + key.path() + "\"?"));
  }
}

TEST(DaemonConfig, NamesTheLineOfAWrongValue) {
  EXPECT_THAT(ErrorOf("wal:\n  segment_size: big\n"), StartsWith("f.yaml:2: wal.segment_size: "));
  EXPECT_THAT(ErrorOf("wal:\n  segment_size: [1]\n"), StartsWith("f.yaml:2: wal.segment_size"));
  EXPECT_THAT(ErrorOf("wal:\n  segment_size:\n"), StartsWith("f.yaml:2: wal.segment_size"));
  EXPECT_THAT(ErrorOf("retry:\n  jitter: 3\n"), StartsWith("f.yaml:2: retry.jitter: "));
  EXPECT_THAT(ErrorOf("server:\n  threads: -1\n"), StartsWith("f.yaml:2: server.threads: "));
  EXPECT_THAT(ErrorOf("server:\n  max_body: 1\n"), StartsWith("f.yaml:2: server.max_body: "));
  EXPECT_THAT(ErrorOf("log:\n  level: loud\n"), StartsWith("f.yaml:2: log.level: "));
  EXPECT_THAT(ErrorOf("wal: 7\n"), StartsWith("f.yaml:1: wal is no map"));
}

TEST(DaemonConfig, NamesTheLineOfAValueOutOfBounds) {
  EXPECT_THAT(ErrorOf("wal:\n  dir: x\n  sync_lanes: 99\n"),
              StartsWith("f.yaml:3: wal.sync_lanes is 99"));
  EXPECT_THAT(ErrorOf("retry:\n  max_backoff: 1ms\n"), StartsWith("f.yaml:2: retry.max_backoff"));
  // By the names of the file, not by those of the options behind them.
  EXPECT_THAT(ErrorOf("worker_pool:\n  queue_size: 1\n"),
              StartsWith("f.yaml:2: worker_pool.queue_size is "));
  EXPECT_THAT(ErrorOf("worker_pool:\n  job_timeout: 1000h\n"),
              StartsWith("f.yaml:2: worker_pool.job_timeout is "));
  const std::string both = ErrorOf("retry:\n  initial_backoff: 2m\n  max_backoff: 1s\n");
  EXPECT_THAT(both, StartsWith("f.yaml:3: retry.max_backoff is 1s"));
  EXPECT_THAT(both, HasSubstr("retry.initial_backoff"));
}

TEST(DaemonConfig, RefusesAKeyGivenTwice) {
  EXPECT_EQ(ErrorOf("wal:\n  dir: x\n  dir: y\n"), "f.yaml:3: wal.dir is given twice");
}

TEST(DaemonConfig, RefusesWhatIsNoYaml) {
  EXPECT_THAT(ErrorOf("wal: {dir: x\n"), StartsWith("f.yaml:"));
  EXPECT_THAT(ErrorOf("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  EXPECT_THAT(ErrorOf(","), HasSubstr("document"));
  EXPECT_THAT(ErrorOf("- wal\n"), HasSubstr("no map"));
}

TEST(DaemonConfig, SaysThatAValueNeedsQuotes) {
  const std::string advice = "; put the value in quotes, as in \"memory:\"";
  for (const char* text : {"database: memory:\n", "wal:\n  enabled: false\ndatabase: @/etc/dsn\n",
                           "targets:\n  - {name: a, dsn: memory:}\n", "wal:\n  dir: `pwd`  # here",
                           "targets:\n  - name: a\n    dsn: memory:\n"}) {
    EXPECT_THAT(ErrorOf(text), HasSubstr(advice)) << text;
  }
  for (const char* text : {"database: *other\n", "wal:\n\tdir: x\n", ": :\n", "a: [\n"}) {
    EXPECT_THAT(ErrorOf(text), Not(HasSubstr("quotes"))) << text;
  }
  EXPECT_THAT(ErrorOf("database: mysql://u:secret@h/d:\n"), Not(HasSubstr("secret")));
}

TEST(DaemonConfig, AGroupWithoutKeysIsItsDefaults) {
  const auto config = ParseConfig("retry:\n  # max_retries: 3\nwal:\n  dir: x\n", "f.yaml");
  ASSERT_OK(config);
  EXPECT_EQ(config->options.wal_dir, "x");
  EXPECT_THAT(ErrorOf("targets:\n"), HasSubstr("targets takes a list of databases"));
  EXPECT_THAT(ErrorOf("targets:\n  -\n"), HasSubstr("a target has no name"));
}

TEST(DaemonConfig, AnEmptyFileIsTheDefaults) {
  const auto config = ParseConfig("# nothing\n", "f.yaml");
  ASSERT_OK(config);
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_EQ(GetConfig(*config, key), GetConfig(DaemonConfig{}, key)) << key.path();
  }
}

TEST(DaemonConfig, ReadsTargets) {
  const auto config = ParseConfig(
      "targets:\n"
      "  - {name: a, dsn: 'sqlite://a.db', weight: 3}\n"
      "  - {name: b, dsn: '@/secret'}\n",
      "f.yaml");
  ASSERT_OK(config);
  const auto& targets = config->options.targets;
  ASSERT_EQ(targets.size(), 2u);
  EXPECT_EQ(targets[0].name, "a");
  EXPECT_EQ(targets[0].dsn, "sqlite://a.db");
  EXPECT_EQ(targets[0].weight, 3u);
  EXPECT_EQ(targets[1].dsn, "@/secret");
  EXPECT_EQ(targets[1].weight, 1u);
}

TEST(DaemonConfig, RefusesTargetsThatAreNone) {
  EXPECT_THAT(ErrorOf("targets: sqlite://a.db\n"), HasSubstr("list of databases"));
  EXPECT_THAT(ErrorOf("targets:\n  - {name: a}\n"), HasSubstr("f.yaml:2: a target has no dsn"));
  EXPECT_THAT(ErrorOf("targets:\n  - {name: a, dsn: 'memory:', weight: 1001}\n"),
              HasSubstr("targets.weight"));
  EXPECT_THAT(ErrorOf("database: 'memory:'\ntargets:\n  - {name: a, dsn: 'memory:'}\n"),
              HasSubstr("exclude each other"));
}

TEST(DaemonConfig, CountsTheQuotaInSegments) {
  const auto config = ParseConfig("wal:\n  max_segments: 50\n  segment_size: 2MiB\n", "f.yaml");
  ASSERT_OK(config);
  EXPECT_EQ(config->options.quota_bytes, 100u << 20);
  EXPECT_THAT(ErrorOf("wal:\n  max_segments: 50\n  quota: 1GiB\n"),
              HasSubstr("exclude each other"));
}

TEST(DaemonConfig, AFileThatIsMissingIsNamed) {
  const auto config = LoadConfig("/nonexistent/f.yaml");
  EXPECT_EQ(config.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(config.status().message(), HasSubstr("/nonexistent/f.yaml"));
}

// What the annotated example claims to be every key's default is.
TEST(ExampleConfig, AnnotatedGivesEveryKeyItsDefault) {
  const auto config = LoadConfig(Example("annotated.yaml"));
  ASSERT_OK(config);
  const auto bare = ParseConfig("", "f.yaml");
  ASSERT_OK(bare);
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_EQ(GetConfig(*config, key), GetConfig(*bare, key)) << key.path();
  }
}

TEST(ExampleConfig, AnnotatedNamesEveryKeyWithAComment) {
  const std::vector<std::string> missing = KeysMissingIn(Example("annotated.yaml"));
  EXPECT_TRUE(missing.empty()) << missing.front();
}

TEST(ExampleConfig, TheOperationsPageListsEveryKeyWithItsOption) {
  std::ifstream in(std::string(TASKWAL_SOURCE_DIR) + "/docs/OPERATIONS.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  for (const ConfigKey& key : ConfigKeys()) {
    const std::string option = key.option.empty() ? "" : "`" + std::string(key.option) + "`";
    EXPECT_THAT(page, HasSubstr("| `" + key.path() + "` | " + option));
  }
}

TEST(ExampleConfig, TheOperationsPageSaysWhyAKeyIsDeclined) {
  std::ifstream in(std::string(TASKWAL_SOURCE_DIR) + "/docs/OPERATIONS.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  for (const DeclinedKey& key : DeclinedKeys()) {
    EXPECT_THAT(page, HasSubstr("| `" + std::string(key.path) + "` | "));
  }
}

TEST(ExampleConfig, ProfilesLoadAndDiffer) {
  const auto fast = LoadConfig(Example("high_throughput.yaml"));
  const auto safe = LoadConfig(Example("high_reliability.yaml"));
  const auto local = LoadConfig(Example("development.yaml"));
  ASSERT_OK(fast);
  ASSERT_OK(safe);
  ASSERT_OK(local);
  EXPECT_EQ(fast->options.durability, Durability::kProcess);
  EXPECT_EQ(fast->options.worker_count, 16u);
  EXPECT_EQ(fast->options.quota_bytes, 100 * (128ull << 20));
  EXPECT_EQ(safe->options.durability, Durability::kDisk);
  EXPECT_EQ(safe->options.max_flush_retries, 5u);
  EXPECT_EQ(safe->options.breaker_failures, 3u);
  EXPECT_EQ(local->options.max_flush_retries, 0u);
  EXPECT_EQ(local->log_level, "debug");
}

}  // namespace
}  // namespace taskwal::config

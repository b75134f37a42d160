#include "pipeline/option_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

// A value unlike the default, for every unit.
std::string OtherValue(const OptionField& field) {
  if (field.unit == "bytes") return "48MiB";
  if (field.unit == "duration") return "1234ms";
  if (field.unit == "count") return "7";
  if (field.unit == "on/off") return GetOption(Options(), field.name) == "true" ? "false" : "true";
  if (field.unit == "level") return "process";
  if (field.unit == "factor") return "3.5";
  if (field.unit == "policy") return "drop_newest";
  if (field.unit == "growth") return "linear";
  if (field.unit == "severity") return "warn";
  return "elsewhere";
}

TEST(OptionFields, EveryFieldKeepsWhatIsSetAndLeavesTheOthers) {
  for (const OptionField& field : OptionFields()) {
    Options options;
    const std::string value = OtherValue(field);
    ASSERT_OK(SetOption(&options, field.name, value)) << field.name;
    EXPECT_EQ(GetOption(options, field.name), value) << field.name;
    for (const OptionField& other : OptionFields()) {
      if (other.name == field.name) continue;
      EXPECT_EQ(GetOption(options, other.name), GetOption(Options(), other.name))
          << field.name << " changed " << other.name;
    }
  }
}

TEST(OptionFields, DefaultsReadBackAsThemselves) {
  for (const OptionField& field : OptionFields()) {
    Options options;
    ASSERT_OK(SetOption(&options, field.name, GetOption(Options(), field.name))) << field.name;
    EXPECT_EQ(GetOption(options, field.name), GetOption(Options(), field.name)) << field.name;
  }
  EXPECT_OK(CheckOptions(Options()));
}

TEST(OptionFields, NamesAreUniqueAndEachSaysWhatItDoes) {
  std::set<std::string_view> names;
  for (const OptionField& field : OptionFields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    EXPECT_FALSE(field.effect.empty()) << field.name;
  }
  EXPECT_EQ(names.size(), 79u);  // the plain fields of Options: a new one belongs into the table
}

TEST(OptionFields, UnknownNameNamesTheNearest) {
  Options options;
  EXPECT_THAT(SetOption(&options, "segment_byte", "1m"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("\"segment_bytes\"")));
  EXPECT_THAT(SetOption(&options, "flushinterval", "1s"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("\"flush_interval\"")));
}

TEST(OptionFields, SizesTakeBinaryUnitsInAnyCase) {
  Options options;
  for (const char* text : {"64MiB", "64mib", "64MB", "64m", "65536KiB", "67108864", "67108864b"}) {
    options.segment_bytes = 0;
    ASSERT_OK(SetOption(&options, "segment_bytes", text)) << text;
    EXPECT_EQ(options.segment_bytes, 64u << 20) << text;
  }
  for (const char* text :
       {"", "-1", "64 MiB", "64x", "64mibs", "1.5m", "99999999999t", "m", "64i"}) {
    EXPECT_THAT(SetOption(&options, "segment_bytes", text),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("64MiB")))
        << text;
  }
}

TEST(OptionFields, BadValuesAreRefusedAndChangeNothing) {
  Options options;
  for (const auto& [name, value] : {std::pair{"wal_enabled", "maybe"},
                                    {"batch_size", "many"},
                                    {"batch_size", "4294967296"},
                                    {"durability", "none"},
                                    {"flush_interval", "5"},
                                    {"backoff_multiplier", "inf"},
                                    {"backoff_multiplier", "2x"},
                                    {"backpressure_strategy", "drop"},
                                    {"backoff_strategy", "random"},
                                    {"min_activity_level", "loud"}}) {
    EXPECT_THAT(SetOption(&options, name, value), StatusIs(StatusCode::kInvalidArgument)) << name;
    EXPECT_EQ(GetOption(options, name), GetOption(Options(), name));
  }
}

TEST(OptionFields, DurationsTakeUnitsAndReadBackInTheLargestThatFits) {
  EXPECT_EQ(*ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(*ParseDuration("30s"), seconds(30));
  EXPECT_EQ(*ParseDuration("2m"), minutes(2));
  EXPECT_EQ(*ParseDuration("1h30m"), minutes(90));
  EXPECT_EQ(*ParseDuration("0"), milliseconds(0));
  for (const char* text : {"", "5", "-1s", "1d", "s", "1s2", "99999999999999999h", "1.5s", " 1s"}) {
    EXPECT_THAT(ParseDuration(text), StatusIs(StatusCode::kInvalidArgument)) << text;
  }
  EXPECT_EQ(FormatDuration(milliseconds(0)), "0");
  EXPECT_EQ(FormatDuration(milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(seconds(90)), "90s");
  EXPECT_EQ(FormatDuration(hours(24)), "24h");
}

TEST(OptionFields, ValuesOutsideTheirBoundsAreNamedWithThem) {
  Options options;
  options.sync_lanes = 9;
  EXPECT_THAT(CheckOptions(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("sync_lanes is 9, must be 1 to 8")));
  options = {};
  options.ring_bytes = 100;
  EXPECT_THAT(CheckOptions(options), StatusIs(StatusCode::kInvalidArgument, HasSubstr("4KiB")));
  options = {};
  options.block_timeout = milliseconds(-1);
  EXPECT_THAT(CheckOptions(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("block_timeout is -1ms")));
  options = {};
  options.backoff_multiplier = 0.5;
  EXPECT_THAT(CheckOptions(options), StatusIs(StatusCode::kInvalidArgument));
  options = {};
  options.durability = static_cast<Durability>(9);
  EXPECT_THAT(CheckOptions(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("durability")));
}

TEST(OptionFields, ZeroIsAllowedWhereItMeansSomething) {
  Options options;
  options.max_segment_size = 0;
  options.sync_interval = milliseconds(0);
  options.block_timeout = milliseconds(0);
  options.max_flush_retries = 0;
  options.retention_bytes = 0;
  options.recovery_timeout = milliseconds(0);
  options.initial_backoff = milliseconds(0);
  options.max_backoff = milliseconds(0);
  EXPECT_OK(CheckOptions(options));
}

TEST(OptionFields, CombinationsAreChecked) {
  Options options;
  options.initial_backoff = seconds(40);
  EXPECT_THAT(CheckOptions(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("initial_backoff")));
  options = {};
  options.batch_size_min = 7;
  options.batch_size_max = 6;
  EXPECT_THAT(CheckOptions(options),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("batch_size_min (7)")));
  options = {};
  options.wal_dir = "";
  EXPECT_THAT(CheckOptions(options), StatusIs(StatusCode::kInvalidArgument, HasSubstr("wal_dir")));
  options.wal_enabled = false;
  EXPECT_OK(CheckOptions(options));
}

TEST(OptionFields, DurabilityNamesAreThoseOfTheContract) {
  EXPECT_EQ(*ParseDurability("memory"), Durability::kMemory);
  EXPECT_EQ(*ParseDurability("process"), Durability::kProcess);
  EXPECT_EQ(*ParseDurability("disk"), Durability::kDisk);
  EXPECT_THAT(ParseDurability("Disk"), StatusIs(StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace taskwal::pipeline

#include "pipeline/activity_context.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/json_text.h"
#include "taskwal/context.h"
#include "taskwal/task.h"

namespace taskwal::pipeline {
namespace {

TEST(ActivityContext, AddsItsFieldsToAnObjectAndKeepsTheBytesOfTheRest) {
  const ContextScope scope({{"trace_id", "t-1"}, {"tenant", "acme"}});
  EXPECT_EQ(WithContext(R"({"rows" : 1.50})"),
            R"({"rows" : 1.50,"trace_id":"t-1","tenant":"acme"})");
  EXPECT_EQ(WithContext("{ }"), R"({ "trace_id":"t-1","tenant":"acme"})");
}

TEST(ActivityContext, MakesAnObjectWhereThereIsNoData) {
  const ContextScope scope({{"trace_id", "t-1"}});
  EXPECT_EQ(WithContext(std::nullopt), R"({"trace_id":"t-1"})");
}

TEST(ActivityContext, KeepsWhatIsNoObjectUnderData) {
  const ContextScope scope({{"trace_id", "t-1"}, {"data", "not this"}});
  EXPECT_EQ(WithContext("[1, 2]"), R"({"data":[1, 2],"trace_id":"t-1"})");
  EXPECT_EQ(WithContext("null"), R"({"data":null,"trace_id":"t-1"})");
}

TEST(ActivityContext, AKeyThatIsThereAlreadyWins) {
  const ContextScope scope({{"trace_id", "t-1"}});
  EXPECT_EQ(WithContext(R"({"tr\u0061ce_id":7})"), R"({"tr\u0061ce_id":7})");
}

TEST(ActivityContext, AnInnerScopeWinsAndEnds) {
  const ContextScope outer({{"step", "one"}, {"trace_id", "t-1"}});
  {
    const ContextScope inner({{"step", "two"}});
    EXPECT_EQ(WithContext(std::nullopt), R"({"trace_id":"t-1","step":"two"})");
  }
  EXPECT_EQ(WithContext(std::nullopt), R"({"step":"one","trace_id":"t-1"})");
}

TEST(ActivityContext, BelongsToItsThreadUnlessItIsCarriedOver) {
  const ContextScope scope({{"trace_id", "t-1"}});
  const auto fields = ContextScope::Capture();
  std::thread([&fields] {
    EXPECT_FALSE(HasContext());
    const ContextScope carried(fields);
    EXPECT_EQ(WithContext(std::nullopt), R"({"trace_id":"t-1"})");
  }).join();
}

TEST(ActivityContext, WhatItMakesIsValidJsonWhateverTheFieldsHold) {
  const ContextScope scope({{"quo\"te", "line\nbreak"}, {"bytes", "\xff\xfe"}, {"empty", ""}});
  const auto made = WithContext(R"({"a":1})");
  ASSERT_TRUE(made.has_value());
  EXPECT_TRUE(IsJson(*made)) << *made;
}

TEST(ActivityContext, LeavesDataThatIsNoJsonToTheChecks) {
  const ContextScope scope({{"trace_id", "t-1"}});
  EXPECT_FALSE(WithContext("{").has_value());
}

TEST(ActivityContext, LeavesOutWhatWouldNotFit) {
  const ContextScope scope({{"trace_id", "t-1"}});
  const std::string object = R"({"a":")" + std::string(kJsonBytesMax - 8, 'x') + R"("})";
  ASSERT_EQ(object.size(), kJsonBytesMax);
  EXPECT_EQ(WithContext(object), object);
  const std::string text = "\"" + std::string(kJsonBytesMax - 2, 'x') + "\"";
  EXPECT_EQ(WithContext(text), text);
}

TEST(ActivityContext, WithoutAScopeThereIsNothingToAdd) { EXPECT_FALSE(HasContext()); }

}  // namespace
}  // namespace taskwal::pipeline

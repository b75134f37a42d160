#include "pipeline/targets/target_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using wal::LogState;
using wal::TargetState;

using List = std::vector<NamedWeight>;

LogState StateAfter(LogState state, wal::Lsn end, const List& list) {
  auto planned = PlanTargets(state, end, list, "w");
  EXPECT_OK(planned);
  if (planned.ok() && *planned != state.targets) {
    RecordTargets(std::move(planned).value(), &state);
  }
  return state;
}

const TargetState& Named(const LogState& state, std::string_view name) {
  for (const TargetState& target : state.targets) {
    if (target.name == name) return target;
  }
  ADD_FAILURE() << "there is no target " << name;
  static const TargetState none;
  return none;
}

void FlushAll(wal::Lsn lsn, LogState* state) {
  for (const TargetState& target : state->targets) {
    if (!target.removed) NoteFlushed(target.number, lsn, {}, state);
  }
}

TEST(ParseTarget, TakesNamesAndWeightsFromTheFront) {
  ASSERT_OK_AND_ASSIGN(const TargetOptions named, ParseTarget("a=sqlite://a.db"));
  EXPECT_EQ(named.name, "a");
  EXPECT_EQ(named.dsn, "sqlite://a.db");
  EXPECT_EQ(named.weight, 1u);
  ASSERT_OK_AND_ASSIGN(const TargetOptions heavy, ParseTarget("b-2*40=memory:"));
  EXPECT_EQ(heavy.name, "b-2");
  EXPECT_EQ(heavy.dsn, "memory:");
  EXPECT_EQ(heavy.weight, 40u);
}

TEST(ParseTarget, APlainDsnIsTheDefaultTarget) {
  for (const std::string dsn : {"sqlite://x=y.db", "memory:", "@file", "",
                                "postgresql://u:p@h/d?sslmode=off", "mysql://h/d?a*2=b"}) {
    ASSERT_OK_AND_ASSIGN(const TargetOptions target, ParseTarget(dsn));
    EXPECT_EQ(target.name, "default");
    EXPECT_EQ(target.dsn, dsn);
  }
}

TEST(ParseTarget, RefusesAWeightThatIsNone) {
  for (const char* text : {"a*=memory:", "a*x=memory:", "a*-1=memory:", "a*1001=memory:",
                           "a*1.5=memory:"}) {
    EXPECT_THAT(ParseTarget(text), StatusIs(StatusCode::kInvalidArgument)) << text;
  }
}

TEST(CheckTargetList, RefusesWhatCannotBeServed) {
  EXPECT_OK(CheckTargetList(List{{"a", 0}, {"b", 1000}}));
  EXPECT_FALSE(CheckTargetList(List{}).ok());
  EXPECT_FALSE(CheckTargetList(List{{"a", 0}}).ok());
  EXPECT_FALSE(CheckTargetList(List{{"a", 1}, {"a", 2}}).ok());
  EXPECT_FALSE(CheckTargetList(List{{"a b", 1}}).ok());
  EXPECT_FALSE(CheckTargetList(List{{"", 1}}).ok());
  EXPECT_FALSE(CheckTargetList(List{{"a", 1001}}).ok());
}

TEST(PlanTargets, ASingleDatabaseOfNoNameIsNotRecorded) {
  EXPECT_THAT(StateAfter({}, 0, {{"default", 1}}).targets, IsEmpty());
  EXPECT_THAT(StateAfter({}, 500, {{"default", 1}}).targets, IsEmpty());
}

TEST(PlanTargets, TheFirstListIsInForceForTasksAtOnce) {
  const LogState state = StateAfter({}, 0, {{"a", 4}, {"default", 2}, {"b", 0}});
  ASSERT_THAT(state.targets, SizeIs(3));
  EXPECT_EQ(Named(state, "a").number, 1);
  EXPECT_EQ(Named(state, "a").weight, 4u);
  EXPECT_EQ(Named(state, "default").number, 0);
  EXPECT_EQ(Named(state, "b").number, 2);
  EXPECT_EQ(Named(state, "b").weight, 0u);
}

TEST(PlanTargets, ALogOfOneDatabaseKeepsItsTasksThere) {
  LogState single;
  single.db_id = Uuid{{5}};
  single.registered_epoch = 3;
  single.watermarks = {7, 9};
  single.flushed_lsn = 7;
  const LogState state = StateAfter(single, 9, {{"default", 1}, {"b", 3}});
  EXPECT_EQ(Named(state, "default").weight, 1u);
  EXPECT_EQ(Named(state, "default").db_id, single.db_id);
  EXPECT_EQ(Named(state, "default").registered_epoch, 3u);
  EXPECT_EQ(Named(state, "default").watermarks, single.watermarks);
  EXPECT_EQ(Named(state, "b").weight, 0u);
  EXPECT_EQ(Named(state, "b").joined_lsn, 9u);
  EXPECT_EQ(state.flushed_lsn, 7u);
  EXPECT_TRUE(state.db_id.IsZero());
}

TEST(PlanTargets, NewWeightsLeaveTasksWhereTheyAre) {
  LogState state = StateAfter({}, 0, {{"a", 1}, {"b", 1}});
  state = StateAfter(state, 50, {{"a", 9}, {"b", 1}});
  EXPECT_EQ(Named(state, "a").weight, 1u);
}

TEST(PlanTargets, ATargetWithTasksMustBeListed) {
  LogState state = StateAfter({}, 0, {{"a", 1}, {"b", 1}});
  FlushAll(50, &state);
  EXPECT_THAT(PlanTargets(state, 50, List{{"a", 1}}, "w").status().message(),
              HasSubstr("w has tasks in target b"));
}

TEST(PlanTargets, ATargetWithUnflushedRecordsMustBeListed) {
  LogState state = StateAfter({}, 0, {{"a", 1}, {"b", 0}});
  NoteFlushed(Named(state, "a").number, 50, {}, &state);
  NoteFlushed(Named(state, "b").number, 49, {}, &state);
  EXPECT_THAT(PlanTargets(state, 50, List{{"a", 1}}, "w").status().message(),
              HasSubstr("records that may not be flushed"));
}

TEST(PlanTargets, WhoIsLeftOutLaterHoldsNothingBackAndKeepsItsNumber) {
  LogState state = StateAfter({}, 0, {{"a", 1}, {"b", 0}});
  FlushAll(50, &state);
  state = StateAfter(state, 50, {{"a", 1}});
  EXPECT_TRUE(Named(state, "b").removed);
  NoteFlushed(1, 90, {}, &state);
  EXPECT_EQ(state.flushed_lsn, 90u);
  // What was logged meanwhile is no business of it.
  state = StateAfter(state, 100, {{"a", 1}, {"c", 1}, {"b", 1}});
  EXPECT_EQ(Named(state, "b").number, 2);
  EXPECT_EQ(Named(state, "b").joined_lsn, 100u);
  EXPECT_FALSE(Named(state, "b").removed);
  EXPECT_EQ(Named(state, "c").number, 3);
}

TEST(PlanTargets, ARebalanceUnderWayNeedsAllThatItMovesBetween) {
  LogState state = StateAfter({}, 0, {{"a", 1}, {"b", 1}});
  FlushAll(50, &state);
  state = StateAfter(state, 50, {{"a", 1}, {"b", 0}, {"c", 1}});
  PlanRebalance(List{{"a", 1}, {"b", 0}, {"c", 1}}, &state);
  EXPECT_TRUE(state.rebalancing);
  EXPECT_FALSE(PlanTargets(state, 50, List{{"a", 1}, {"c", 1}}, "w").ok());
  EXPECT_FALSE(PlanTargets(state, 50, List{{"a", 1}, {"b", 0}}, "w").ok());
  RecordRebalanced(&state);
  EXPECT_FALSE(state.rebalancing);
  EXPECT_OK(PlanTargets(state, 50, List{{"a", 1}, {"c", 1}}, "w"));
}

}  // namespace
}  // namespace taskwal::pipeline

#include <gtest/gtest.h>

#include <string>

#include "storage/operation.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/storage/sample_operations.h"

namespace taskwal::storage {
namespace {

using ::testing::HasSubstr;

auto Refused(const std::string& field) {
  return StatusIs(StatusCode::kInvalidArgument, HasSubstr(field));
}

template <typename Object>
struct TextField {
  std::string name;
  std::string Object::*place;
  std::size_t bytes_max;
};

const TextField<Task> kTaskTexts[] = {
    {"task.id", &Task::id, 255},
    {"task.dag_id", &Task::dag_id, 255},
    {"task.node_id", &Task::node_id, 255},
    {"task.current_node_id", &Task::current_node_id, 255},
    {"task.sub_dag_path", &Task::sub_dag_path, 4096},
    {"task.processing_state", &Task::processing_state, 255},
    {"task.error", &Task::error, 1u << 20}};

const TextField<Activity> kActivityTexts[] = {{"activity.id", &Activity::id, 255},
                                              {"activity.task_id", &Activity::task_id, 255},
                                              {"activity.dag_id", &Activity::dag_id, 255},
                                              {"activity.node_id", &Activity::node_id, 255},
                                              {"activity.action", &Activity::action, 255},
                                              {"activity.message", &Activity::message, 1u << 20}};

TEST(CheckTask, TakesEveryFieldUpToItsLimit) {
  for (const auto& [name, place, bytes_max] : kTaskTexts) {
    Task task = FullTask();
    task.*place = std::string(bytes_max, 'x');
    EXPECT_OK(CheckTask(task)) << name;
    task.*place += 'x';
    EXPECT_THAT(CheckTask(task), Refused(name + " is"));
  }
}

TEST(CheckTask, RefusesNulAndBrokenUtf8InEveryText) {
  for (const auto& [name, place, bytes_max] : kTaskTexts) {
    Task task = FullTask();
    task.*place = std::string("a\0b", 3);
    EXPECT_THAT(CheckTask(task), Refused(name + " "));
    task.*place = "\xc3\x28";
    EXPECT_THAT(CheckTask(task), Refused(name + " "));
  }
}

TEST(CheckTask, WantsOnlyTheId) {
  Task task;
  EXPECT_THAT(CheckTask(task), Refused("task.id"));
  task.id = "t";
  EXPECT_OK(CheckTask(task));
}

TEST(CheckTask, LimitsCountBytesNotCharacters) {
  Task task;
  for (int i = 0; i < 85; ++i) task.id += "\xe2\x82\xac";
  EXPECT_OK(CheckTask(task));
  task.id += 'x';
  EXPECT_THAT(CheckTask(task), Refused("256 bytes"));
}

TEST(CheckTask, PayloadIsJsonUpToItsLimit) {
  Task task = FullTask();
  for (const char* good : {"null", " [1, 2] ", "\"\\u20ac\"", "-1e400", "{}"}) {
    task.payload = good;
    EXPECT_OK(CheckTask(task)) << good;
  }
  for (const char* bad : {"", "{", "{'a':1}", "nul", "1 2", "\"\xff\""}) {
    task.payload = bad;
    EXPECT_THAT(CheckTask(task), Refused("task.payload")) << bad;
  }
  task.payload = '"' + std::string(kJsonBytesMax - 2, 'p') + '"';
  EXPECT_OK(CheckTask(task));
  *task.payload += ' ';
  EXPECT_THAT(CheckTask(task), Refused("task.payload"));
}

TEST(CheckTask, PayloadHoldsNoHalfOfASurrogatePair) {
  Task task = FullTask();
  task.payload = R"({"a":"\ud83d\ude00"})";
  EXPECT_OK(CheckTask(task));
  for (const char* half : {R"("\ud800")", R"({"a":"\udc00\ud800"})", R"({"\udfff":1})"}) {
    task.payload = half;
    EXPECT_THAT(CheckTask(task), Refused("task.payload holds half a surrogate pair")) << half;
  }
}

TEST(CheckTask, MessageNeverShowsThePayload) {
  Task task = FullTask();
  task.payload = "secret";
  EXPECT_EQ(CheckTask(task).message().find("secret"), std::string::npos);
}

TEST(CheckTask, RefusesAnUnknownStatus) {
  Task task = FullTask();
  task.status = static_cast<TaskStatus>(5);
  EXPECT_THAT(CheckTask(task), Refused("task.status"));
}

TEST(CheckTask, TimesAreWithinTheYearsEveryDatabaseHas) {
  Task task = FullTask();
  for (auto Task::*place :
       {&Task::created_at, &Task::updated_at, &Task::started_at, &Task::completed_at}) {
    Task changed = task;
    changed.*place = At(253402300799999999);  // 9999-12-31T23:59:59.999999Z
    EXPECT_OK(CheckTask(changed));
    changed.*place = At(253402300800000000);
    EXPECT_THAT(CheckTask(changed), Refused("_at is not within"));
    changed.*place = Time::min();
    EXPECT_THAT(CheckTask(changed), Refused("_at is not within"));
  }
}

TEST(CheckActivity, TakesEveryFieldUpToItsLimit) {
  for (const auto& [name, place, bytes_max] : kActivityTexts) {
    Activity activity = FullActivity();
    activity.*place = std::string(bytes_max, 'x');
    EXPECT_OK(CheckActivity(activity)) << name;
    activity.*place += 'x';
    EXPECT_THAT(CheckActivity(activity), Refused(name + " is"));
    activity.*place = std::string("a\0b", 3);
    EXPECT_THAT(CheckActivity(activity), Refused(name + " "));
  }
}

TEST(CheckActivity, NothingIsRequired) { EXPECT_OK(CheckActivity(Activity{})); }

TEST(CheckActivity, RefusesBadDataLevelPriorityAndTime) {
  Activity activity;
  activity.data = "{";
  EXPECT_THAT(CheckActivity(activity), Refused("activity.data"));
  activity.data = R"("\ud800")";
  EXPECT_THAT(CheckActivity(activity), Refused("activity.data holds half a surrogate pair"));
  activity = {};
  activity.level = static_cast<Level>(5);
  EXPECT_THAT(CheckActivity(activity), Refused("activity.level"));
  activity = {};
  activity.created_at = Time::max();
  EXPECT_THAT(CheckActivity(activity), Refused("activity.created_at"));
  for (const int priority : {0, 6, -1, 257}) {
    activity = {};
    activity.priority = priority;
    EXPECT_THAT(CheckActivity(activity), Refused("activity.priority"));
  }
}

TEST(CheckStatusUpdate, WantsAnIdAndCleanTexts) {
  EXPECT_OK(CheckStatusUpdate("t", ""));
  EXPECT_THAT(CheckStatusUpdate("", ""), Refused("task_id"));
  EXPECT_THAT(CheckStatusUpdate(std::string(256, 't'), ""), Refused("task_id"));
  EXPECT_THAT(CheckStatusUpdate("t", std::string_view("\0", 1)), Refused("error"));
  EXPECT_THAT(CheckStatusUpdate("t", std::string((1u << 20) + 1, 'e')), Refused("error"));
  EXPECT_THAT(CheckStatusUpdate("t", "", static_cast<TaskStatus>(200)), Refused("status"));
}

TEST(CheckId, EmptyIsAllowedOnlyWhereNotRequired) {
  EXPECT_OK(CheckId("dag_id", "", false));
  EXPECT_THAT(CheckId("dag_id", "", true), Refused("dag_id is required"));
}

// Text of brackets is no nesting, nor is what stands side by side.
TEST(OperationChecks, JsonMayBeNestedTenThousandLevelsDeep) {
  const auto check = [](const std::string& json) {
    Task task;
    task.id = "t";
    task.payload = json;
    Activity activity;
    activity.data = json;
    const Status status = CheckTask(task);
    EXPECT_EQ(CheckActivity(activity).code(), status.code());
    return status;
  };
  const auto nested = [](int levels, const std::string& inside) {
    std::string json;
    for (int i = 0; i < levels / 2; ++i) json += R"([{"a":)";
    json += levels % 2 == 1 ? "[" + inside + "]" : inside;
    for (int i = 0; i < levels / 2; ++i) json += "}]";
    return json;
  };
  EXPECT_OK(check(nested(10'000, R"("\"[[{{\\")")));
  EXPECT_OK(check('[' + nested(9'999, "1") + ",[]]"));
  EXPECT_OK(check('"' + std::string(50'000, '[') + '"'));
  EXPECT_OK(check(R"(["\"", ")" + std::string(50'000, '{') + R"("])"));
  EXPECT_THAT(check(nested(10'001, "1")),
              StatusIs(StatusCode::kInvalidArgument,
                       ::testing::HasSubstr("is nested deeper than 10000 levels")));
  EXPECT_THAT(check(R"(["\\",)" + nested(10'000, "1") + "]"),
              StatusIs(StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace taskwal::storage

#include "storage/ingest_line.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/status_matchers.h"
#include "tests/unit/storage/sample_operations.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Result<Task> ParseTask(const std::string& task) {
  auto body = ParseIngestLine(R"({"op":"save_task","task":)" + task + "}");
  if (!body.ok()) return body.status();
  return std::get<SaveTaskOp>(*body).task;
}

Result<Activity> ParseActivity(const std::string& activity) {
  auto body = ParseIngestLine(R"({"op":"log_activity","activity":)" + activity + "}");
  if (!body.ok()) return body.status();
  return std::get<LogActivityOp>(*body).activity;
}

// Refused in one line that names the field.
void ExpectRefused(const std::string& line, const std::string& named) {
  EXPECT_THAT(ParseIngestLine(line),
              StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr(named), Not(HasSubstr("\n")))))
      << line;
}

TEST(IngestLine, SaveTaskTakesEveryField) {
  ASSERT_OK_AND_ASSIGN(
      const Task task,
      ParseTask(
          R"({"id":"run-1/extract","dag_id":"run-1","node_id":"extract",)"
          R"("current_node_id":"extract.2","sub_dag_path":"/nightly/extract",)"
          R"("processing_state":"second try","status":"failed","payload":{ "b" : 1,"a":[ ] },)"
          R"("error":"exit 3: \"no such table\"","retry_count":2,"max_retries":-1,)"
          R"("priority":2147483647,"created_at":"2026-11-21T07:00:00.123456+01:00",)"
          R"("updated_at":"2026-11-21T06:00:01Z","started_at":"2026-11-21T06:00:00.5Z",)"
          R"("completed_at":"2026-11-21T06:00:00.999999Z"})"));
  EXPECT_EQ(task, FullTask());
}

TEST(IngestLine, AbsentFieldsAreTheirDefaults) {
  ASSERT_OK_AND_ASSIGN(const Task task, ParseTask(R"({"id":"t"})"));
  Task expected;
  expected.id = "t";
  EXPECT_EQ(task, expected);
  ASSERT_OK_AND_ASSIGN(const Activity activity, ParseActivity("{}"));
  EXPECT_EQ(activity, Activity{});
}

TEST(IngestLine, OnlyAResetMayReopenWhatHasEnded) {
  const auto protects = [](const std::string& line) {
    const auto body = ParseIngestLine(line);
    EXPECT_OK(body);
    if (const auto* save = std::get_if<SaveTaskOp>(&*body)) return save->protects_terminal;
    return std::get<UpdateStatusOp>(*body).protects_terminal;
  };
  EXPECT_TRUE(protects(R"({"op":"save_task","task":{"id":"t"}})"));
  EXPECT_FALSE(protects(R"({"op":"save_task","reset":true,"task":{"id":"t"}})"));
  EXPECT_TRUE(protects(R"({"op":"update_status","task_id":"t","status":"running"})"));
  EXPECT_TRUE(
      protects(R"({"op":"update_status","task_id":"t","status":"running","reset":false})"));
  EXPECT_FALSE(
      protects(R"({"op":"update_status","task_id":"t","status":"running","reset":true})"));
  ExpectRefused(R"({"op":"delete_task","task_id":"t","reset":true})", "reset");
  ExpectRefused(R"({"op":"update_status","task_id":"t","status":"running","reset":1})", "reset");
}

TEST(IngestLine, LogActivityTakesEveryField) {
  ASSERT_OK_AND_ASSIGN(
      const Activity activity,
      ParseActivity(R"({"id":"01K0ABCDEF","task_id":"run-1/extract","dag_id":"run-1",)"
                    R"("node_id":"extract","action":"retry","message":"waits 5 s \u23f3",)"
                    R"("data":[1, 2],"level":"error","created_at":"2026-11-21T06:00:00.123456Z",)"
                    R"("priority":5})"));
  EXPECT_EQ(activity, FullActivity());
}

TEST(IngestLine, UpdateStatusAndDelete) {
  ASSERT_OK_AND_ASSIGN(
      const OperationBody update,
      ParseIngestLine(R"({"op":"update_status","task_id":"t","status":"failed","error":"why"})"));
  EXPECT_EQ(std::get<UpdateStatusOp>(update).task_id, "t");
  EXPECT_EQ(std::get<UpdateStatusOp>(update).status, TaskStatus::kFailed);
  EXPECT_EQ(std::get<UpdateStatusOp>(update).error, "why");
  ASSERT_OK(ParseIngestLine(R"({"op":"update_status","task_id":"t","status":"running"})"));
  ASSERT_OK_AND_ASSIGN(const OperationBody removal,
                       ParseIngestLine(R"({"op":"delete_task","task_id":"t"})"));
  EXPECT_EQ(std::get<DeleteTaskOp>(removal).task_id, "t");
}

TEST(IngestLine, MembersComeInAnyOrderWithAnySpace) {
  ASSERT_OK_AND_ASSIGN(
      const OperationBody body,
      ParseIngestLine(
          "  { \"task\" : {\"payload\": [ 1 ,2 ] ,\"id\":\"t\"} , \"op\":\"save_task\" }\r"));
  EXPECT_EQ(std::get<SaveTaskOp>(body).task.payload, "[ 1 ,2 ]");
}

TEST(IngestLine, PayloadKeepsItsBytes) {
  for (const std::string json :
       {"null", "1.50", "\"\\u0041\"", "{\"b\":1,  \"a\":{}}", "true", "1e5"}) {
    ASSERT_OK_AND_ASSIGN(const Task task, ParseTask(R"({"id":"t","payload":)" + json + "}"));
    EXPECT_EQ(task.payload, json);
    ASSERT_OK_AND_ASSIGN(const Activity activity, ParseActivity("{\"data\":" + json + "}"));
    EXPECT_EQ(activity.data, json);
  }
}

TEST(IngestLine, NullTimeIsAbsent) {
  ASSERT_OK_AND_ASSIGN(const Task task,
                       ParseTask(R"({"id":"t","started_at":null,"created_at":null})"));
  EXPECT_EQ(task.started_at, std::nullopt);
  EXPECT_EQ(task.created_at, std::nullopt);
}

TEST(IngestLine, UnknownFieldIsNamed) {
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","prio":1}})", "prio");
  ExpectRefused(R"({"op":"log_activity","activity":{"task":"t"}})", "task");
  ExpectRefused(R"({"op":"delete_task","task_id":"t","force":true})", "force");
}

TEST(IngestLine, LongFieldNameIsNotShownWhole) {
  const auto status = ParseIngestLine("{\"" + std::string(1000000, 'k') + "\":1}").status();
  EXPECT_THAT(status, StatusIs(StatusCode::kInvalidArgument));
  EXPECT_LT(status.message().size(), 200u);
}

TEST(IngestLine, DuplicateFieldIsNamed) {
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","id":"u"}})", "id");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","payload":1,"payload":2}})", "payload");
  ExpectRefused(R"({"op":"delete_task","op":"delete_task","task_id":"t"})", "op");
  ExpectRefused(R"({"op":"log_activity","activity":{"level":"info","level":"info"}})", "level");
}

TEST(IngestLine, WrongTypeIsNamed) {
  ExpectRefused(R"({"op":"save_task","task":{"id":1}})", "id");
  ExpectRefused(R"({"op":"save_task","task":{"id":null}})", "id");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","error":null}})", "error");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","priority":"1"}})", "priority");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","priority":1.5}})", "priority");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","priority":2147483648}})", "priority");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","created_at":5}})", "created_at");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","status":7}})", "status");
  ExpectRefused(R"({"op":"save_task","task":[]})", "task");
  ExpectRefused(R"({"op":"log_activity","activity":"a"})", "activity");
  ExpectRefused(R"({"op":7,"task_id":"t"})", "op");
}

TEST(IngestLine, BadValueIsNamed) {
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","status":"done"}})", "status");
  ExpectRefused(R"({"op":"log_activity","activity":{"level":"INFO"}})", "level");
  ExpectRefused(R"({"op":"update_status","task_id":"t","status":"done"})", "status");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t","created_at":"2026-11-21T06:00:00"}})",
                "created_at");
  ExpectRefused(R"({"op":"log_activity","activity":{"priority":6}})", "priority");
  ExpectRefused(R"({"op":"save_task","task":{"id":")" + std::string(256, 'i') + R"("}})", "id");
  ExpectRefused(R"({"op":"delete_task","task_id":""})", "task_id");
  ExpectRefused(R"({"op":"save_task","task":{"id":"a\u0000b"}})", "id");
}

TEST(IngestLine, UnknownOpAndMissingMembersAreNamed) {
  ExpectRefused(R"({"op":"save","task":{"id":"t"}})", "op");
  ExpectRefused(R"({"op":"delete_dags","dag_id":"d"})", "op");
  ExpectRefused(R"({"op":"delete_dag","task_id":"t"})", "task_id");
  ExpectRefused(R"({"op":"delete_dag"})", "dag_id");
  ExpectRefused(R"({"op":"delete_dag","dag_id":""})", "dag_id");
  ExpectRefused(R"({"op":"save_tasks"})", "tasks");
  ExpectRefused(R"({"op":"save_tasks","tasks":[]})", "tasks");
  ExpectRefused(R"({"op":"save_tasks","tasks":{"id":"t"}})", "tasks");
  ExpectRefused(R"({"op":"save_tasks","tasks":[{"id":"t"},{"id":"u","colour":1}]})", "tasks[1]");
  ExpectRefused(R"({"op":"save_tasks","tasks":[{"id":"t"},{}]})", "id");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t"},"dag_id":"d"})", "dag_id");
  ExpectRefused(R"({"task":{"id":"t"}})", "op");
  ExpectRefused(R"({"op":"save_task"})", "task");
  ExpectRefused(R"({"op":"save_task","task":{}})", "id");
  ExpectRefused(R"({"op":"log_activity"})", "activity");
  ExpectRefused(R"({"op":"update_status","status":"running"})", "task_id");
  ExpectRefused(R"({"op":"update_status","task_id":"t"})", "status");
  ExpectRefused(R"({"op":"delete_task"})", "task_id");
  ExpectRefused("{}", "op");
}

TEST(IngestLine, MembersOfAnotherOpAreRefused) {
  ExpectRefused(R"({"op":"delete_task","task_id":"t","error":"x"})", "error");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t"},"task_id":"t"})", "task_id");
  ExpectRefused(R"({"op":"save_task","task":{"id":"t"},"activity":{}})", "activity");
}

TEST(IngestLine, WhatIsNoObjectIsRefused) {
  for (const char* line :
       {"", "   ", "[]", "null", "{", "{\"op\":\"save_task\",\"task\":{\"id\":\"t\"}",
        "{\"op\":\"delete_task\",\"task_id\":\"t\"} x", "\xff",
        "{\"op\":\"delete_task\",\"task_id\":\"t\",}"}) {
    EXPECT_THAT(ParseIngestLine(line), StatusIs(StatusCode::kInvalidArgument)) << line;
  }
}

}  // namespace
}  // namespace taskwal::storage

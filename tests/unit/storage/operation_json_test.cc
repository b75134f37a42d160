#include <gtest/gtest.h>

#include <string>

#include "base/json_text.h"
#include "storage/ingest_line.h"
#include "storage/operation.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/storage/sample_operations.h"

namespace taskwal::storage {
namespace {

TEST(OperationJson, TaskHasItsMembersInContractOrder) {
  EXPECT_EQ(
      TaskToJson(FullTask()),
      R"({"id":"run-1/extract","dag_id":"run-1","node_id":"extract",)"
      R"("current_node_id":"extract.2","sub_dag_path":"/nightly/extract",)"
      R"("processing_state":"second try","payload":{ "b" : 1,"a":[ ] },"status":"failed",)"
      R"("created_at":"2026-11-21T06:00:00.123456Z","updated_at":"2026-11-21T06:00:01.000000Z",)"
      R"("started_at":"2026-11-21T06:00:00.500000Z","completed_at":"2026-11-21T06:00:00.999999Z",)"
      R"("error":"exit 3: \"no such table\"","retry_count":2,"max_retries":-1,)"
      R"("priority":2147483647})");
}

TEST(OperationJson, ActivityHasItsMembersInContractOrder) {
  EXPECT_EQ(ActivityToJson(FullActivity()),
            R"({"id":"01K0ABCDEF","task_id":"run-1/extract","dag_id":"run-1","node_id":"extract",)"
            R"("action":"retry","message":"waits 5 s ⏳","data":[1, 2],"level":"error",)"
            R"("created_at":"2026-11-21T06:00:00.123456Z","priority":5})");
}

TEST(OperationJson, AbsentFieldsAreLeftOut) {
  Task task;
  task.id = "t";
  EXPECT_EQ(
      TaskToJson(task),
      R"({"id":"t","dag_id":"","node_id":"","current_node_id":"","sub_dag_path":"",)"
      R"("processing_state":"","status":"pending","error":"","retry_count":0,"max_retries":0,)"
      R"("priority":0})");
}

TEST(OperationJson, LineBreaksInsideAPayloadStayOnOneLine) {
  Task task;
  task.id = "t";
  task.payload = "{\r\n \"a\\n\": 1\n}";
  const std::string json = TaskToJson(task);
  EXPECT_EQ(json.find('\n'), std::string::npos);
  EXPECT_NE(json.find(R"("payload":{   "a\n": 1 })"), std::string::npos);
  EXPECT_TRUE(IsJson(json));
}

TEST(OperationJson, IngestTakesWhatIsPrinted) {
  const OperationBody bodies[] = {SaveTaskOp{FullTask(), {}},
                                  UpdateStatusOp{"t\n\"1\"", TaskStatus::kRunning, "e", {}},
                                  DeleteTaskOp{"t", {}}, LogActivityOp{FullActivity()},
                                  DeleteDagOp{"d\"1", {}},
                                  SaveTasksOp{{FullTask(), FullTask()}, {}}};
  for (const OperationBody& body : bodies) {
    const std::string line = OperationToJson(body);
    ASSERT_OK_AND_ASSIGN(const OperationBody parsed, ParseIngestLine(line));
    EXPECT_EQ(parsed.index(), body.index());
    EXPECT_EQ(OperationToJson(parsed), line);
  }
}

TEST(OperationJson, BarriersPrintInTheSameManner) {
  EXPECT_EQ(OperationToJson(DeleteDagOp{"d\"1", {}}), R"({"op":"delete_dag","dag_id":"d\"1"})");
  Task a, b;
  a.id = "a";
  b.id = "b";
  EXPECT_EQ(OperationToJson(SaveTasksOp{{a, b}, {}}),
            R"({"op":"save_tasks","tasks":[)" + TaskToJson(a) + "," + TaskToJson(b) + "]}");
}

}  // namespace
}  // namespace taskwal::storage

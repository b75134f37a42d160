#include "dag/resume.h"

#include <gmock/gmock.h>

#include "base/json_text.h"
#include "dag/activity_log.h"
#include "tests/support/recording_storage.h"
#include "tests/support/status_matchers.h"

namespace taskwal::dag {
namespace {

using ::testing::UnorderedElementsAre;

void Start(RecordingStorage& storage, const std::string& dag_id, const std::string& payload) {
  ASSERT_OK(storage.LogActivity(DagActivity(Action::kDagStarted, dag_id, "", payload), {}));
}

void Save(RecordingStorage& storage, const std::string& dag_id, const std::string& node,
          TaskStatus status) {
  Task task;
  task.id = dag_id + "/" + node;
  task.dag_id = dag_id;
  task.node_id = node;
  task.status = status;
  ASSERT_OK(storage.SaveTask(task, {}));
}

TEST(Resume, FindsNoRunInAnEmptyStorage) {
  RecordingStorage storage;
  ASSERT_OK_AND_ASSIGN(const auto run, FindLastRun(storage, "abc"));
  EXPECT_EQ(run, std::nullopt);
}

TEST(Resume, FindsTheLastRunOfThatContent) {
  RecordingStorage storage;
  Start(storage, "first", RunPayload("abc", "file.yaml"));
  Start(storage, "second", RunPayload("abc", "copy.yaml"));
  Start(storage, "other", RunPayload("def", "file.yaml"));
  Start(storage, "strange", "[\"content_hash\"]");
  Start(storage, "stranger", R"({"content_hash":5})");
  Start(storage, "empty", "");
  ASSERT_OK_AND_ASSIGN(const auto run, FindLastRun(storage, "abc"));
  EXPECT_EQ(run, "second");
}

TEST(Resume, LooksThroughEveryPage) {
  RecordingStorage storage;
  Start(storage, "wanted", RunPayload("abc", "f"));
  for (int i = 0; i < 2500; ++i) Start(storage, "other", RunPayload("def", "f"));
  ASSERT_OK_AND_ASSIGN(const auto run, FindLastRun(storage, "abc"));
  EXPECT_EQ(run, "wanted");
}

TEST(Resume, LoadsWhatIsCompletedOfOneRunOverAllPages) {
  RecordingStorage storage;
  Start(storage, "d", RunPayload("abc", "f"));
  for (int i = 0; i < 2500; ++i) Save(storage, "d", std::to_string(i), TaskStatus::kCompleted);
  Save(storage, "d", "failed", TaskStatus::kFailed);
  Save(storage, "d", "running", TaskStatus::kRunning);
  Save(storage, "another", "x", TaskStatus::kCompleted);
  ASSERT_OK_AND_ASSIGN(const EarlierRun run, LoadEarlierRun(storage, "d"));
  EXPECT_TRUE(run.is_started);
  EXPECT_FALSE(run.is_finished);
  EXPECT_EQ(run.rows, 2502u);
  EXPECT_EQ(run.completed.size(), 2500u);
  EXPECT_FALSE(run.completed.contains("failed"));
}

void LogCompleted(RecordingStorage& storage, const std::string& node) {
  const std::string id = "d/" + node;
  ASSERT_OK(storage.LogActivity(TaskActivity(Action::kTaskCompleted, {"d", node, id}, ""), {}));
}

TEST(Resume, KnowsACompletedTaskWhoseRowWasStillToSaySo) {
  RecordingStorage storage;
  Start(storage, "d", RunPayload("abc", "f"));
  for (const char* node : {"torn", "again", "failed", "running"}) {
    Save(storage, "d", node, TaskStatus::kPending);
    ASSERT_OK(storage.UpdateTaskStatus(std::string("d/") + node, TaskStatus::kRunning, "", {}));
  }
  for (const char* node : {"torn", "again", "failed"}) LogCompleted(storage, node);
  ASSERT_OK(storage.UpdateTaskStatus("d/again", TaskStatus::kRunning, "", {}));
  ASSERT_OK(storage.UpdateTaskStatus("d/failed", TaskStatus::kFailed, "", {}));
  ASSERT_OK_AND_ASSIGN(const EarlierRun run, LoadEarlierRun(storage, "d"));
  EXPECT_THAT(run.completed, UnorderedElementsAre("torn"));
  EXPECT_THAT(run.to_complete, UnorderedElementsAre("d/torn"));
}

TEST(Resume, KnowsAFinishedRunEvenWhenItsRowsAreGone) {
  RecordingStorage storage;
  Start(storage, "d", RunPayload("abc", "f"));
  ASSERT_OK(storage.LogActivity(DagActivity(Action::kDagCompleted, "d", ""), {}));
  ASSERT_OK_AND_ASSIGN(const EarlierRun run, LoadEarlierRun(storage, "d"));
  EXPECT_TRUE(run.is_finished);
  EXPECT_EQ(run.rows, 0u);
}

TEST(Resume, KnowsNothingOfARunThatNeverWas) {
  RecordingStorage storage;
  ASSERT_OK_AND_ASSIGN(const EarlierRun run, LoadEarlierRun(storage, "d"));
  EXPECT_FALSE(run.is_started);
  EXPECT_FALSE(run.is_finished);
}

TEST(Resume, WritesThePayloadAsJson) {
  EXPECT_EQ(RunPayload("abc", "a \"b\".yaml"), R"({"content_hash":"abc","file":"a \"b\".yaml"})");
}

TEST(ActivityLog, CleansAndCutsTheMessage) {
  const Activity activity =
      TaskActivity(Action::kTaskFailed, {"d", "n", "d/n"}, "\xff" + std::string(2'000'000, 'x'));
  EXPECT_TRUE(IsCleanText(activity.message));
  EXPECT_EQ(activity.message.size(), kMessageBytesMax);
  EXPECT_EQ(activity.action, "task_failed");
  EXPECT_EQ(activity.level, Level::kError);
  EXPECT_EQ(activity.task_id, "d/n");
  EXPECT_EQ(activity.data, std::nullopt);
}

}  // namespace
}  // namespace taskwal::dag

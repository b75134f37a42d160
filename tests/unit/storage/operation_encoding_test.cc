#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "storage/operation.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/storage/sample_operations.h"

namespace taskwal::storage {
namespace {

using Bytes = std::vector<std::byte>;

const Time kNow = At(1795240805000001);

Bytes Encoded(const Task& task) {
  Bytes bytes(EncodedBytes(task));
  Encode(task, kNow, bytes);
  return bytes;
}

Bytes Encoded(const Activity& activity, std::string_view id) {
  Bytes bytes(EncodedBytes(activity, id));
  Encode(activity, id, kNow, bytes);
  return bytes;
}

Bytes EncodedUpdate(std::string_view id, TaskStatus status, std::string_view error) {
  Bytes bytes(EncodedStatusUpdateBytes(id, error));
  EncodeStatusUpdate(id, status, error, kNow, bytes);
  return bytes;
}

Bytes EncodedName(std::string_view name) {
  Bytes bytes(EncodedNameBytes(name));
  EncodeName(name, kNow, bytes);
  return bytes;
}

Bytes Encoded(const std::vector<Task>& tasks) {
  Bytes bytes(EncodedBytes(tasks));
  Encode(tasks, kNow, bytes);
  return bytes;
}

std::vector<Task> ThreeTasks() {
  Task bare;
  bare.id = "bare";
  Task half = FullTask();
  half.id = "half";
  half.started_at.reset();
  half.payload.reset();
  return {FullTask(), bare, half};
}

struct Sample {
  OperationType type;
  Bytes bytes;
};

std::vector<Sample> SamplesOfEveryType() {
  return {
      {OperationType::kTaskUpdate, Encoded(FullTask())},
      {OperationType::kStatusUpdate, EncodedUpdate("run-1/extract", TaskStatus::kFailed, "exit 3")},
      {OperationType::kTaskDelete, EncodedName("run-1/extract")},
      {OperationType::kDagDelete, EncodedName("run-1")},
      {OperationType::kActivityLog, Encoded(FullActivity(), "")},
      {OperationType::kBatchUpdate, Encoded(ThreeTasks())}};
}

std::vector<std::uint64_t> KeysOf(OperationType type, std::uint64_t key, const Bytes& body) {
  std::vector<std::uint64_t> keys;
  IndexKeys(type, key, body, &keys);
  return keys;
}

TEST(OperationEncoding, TaskComesBackWithEveryField) {
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kTaskUpdate, Encoded(FullTask())));
  const auto& op = std::get<SaveTaskOp>(body);
  EXPECT_EQ(op.task, FullTask());
  EXPECT_EQ(op.time, kNow);
}

TEST(OperationEncoding, EachOptionalTaskFieldIsIndependent) {
  for (int present = 0; present < 32; ++present) {
    Task task = FullTask();
    if (!(present & 1)) task.payload.reset();
    if (!(present & 2)) task.created_at.reset();
    if (!(present & 4)) task.updated_at.reset();
    if (!(present & 8)) task.started_at.reset();
    if (!(present & 16)) task.completed_at.reset();
    ASSERT_OK_AND_ASSIGN(const OperationBody body,
                         Decode(OperationType::kTaskUpdate, Encoded(task)));
    EXPECT_EQ(std::get<SaveTaskOp>(body).task, task) << "present " << present;
  }
}

TEST(OperationEncoding, AbsentPayloadDiffersFromEmptyText) {
  Task task;
  task.id = "t";
  task.payload = "";
  ASSERT_OK_AND_ASSIGN(const OperationBody body, Decode(OperationType::kTaskUpdate, Encoded(task)));
  EXPECT_EQ(std::get<SaveTaskOp>(body).task.payload, "");
}

TEST(OperationEncoding, StatusUpdateComesBack) {
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kStatusUpdate,
                              EncodedUpdate("id with 'quotes'", TaskStatus::kCancelled, "why")));
  const auto& op = std::get<UpdateStatusOp>(body);
  EXPECT_EQ(op.task_id, "id with 'quotes'");
  EXPECT_EQ(op.status, TaskStatus::kCancelled);
  EXPECT_EQ(op.error, "why");
  EXPECT_EQ(op.time, kNow);
}

TEST(OperationEncoding, DeletesComeBackAsWhatTheyAre) {
  ASSERT_OK_AND_ASSIGN(const OperationBody task,
                       Decode(OperationType::kTaskDelete, EncodedName("name")));
  ASSERT_OK_AND_ASSIGN(const OperationBody dag,
                       Decode(OperationType::kDagDelete, EncodedName("name")));
  EXPECT_EQ(std::get<DeleteTaskOp>(task).task_id, "name");
  EXPECT_EQ(std::get<DeleteTaskOp>(task).time, kNow);
  EXPECT_EQ(std::get<DeleteDagOp>(dag).dag_id, "name");
  EXPECT_EQ(std::get<DeleteDagOp>(dag).time, kNow);
}

TEST(OperationEncoding, ActivityComesBackWithEveryField) {
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kActivityLog, Encoded(FullActivity(), "unused")));
  EXPECT_EQ(std::get<LogActivityOp>(body).activity, FullActivity());
}

TEST(OperationEncoding, GivenIdAndTimeStandInForAbsentOnes) {
  Activity bare;
  bare.action = "start";
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kActivityLog, Encoded(bare, "made-id")));
  Activity expected = bare;
  expected.id = "made-id";
  expected.created_at = kNow;
  EXPECT_EQ(std::get<LogActivityOp>(body).activity, expected);
}

TEST(OperationEncoding, BatchComesBackInOrder) {
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kBatchUpdate, Encoded(ThreeTasks())));
  EXPECT_EQ(std::get<SaveTasksOp>(body).tasks, ThreeTasks());
  EXPECT_EQ(std::get<SaveTasksOp>(body).time, kNow);
}

TEST(OperationEncoding, EmptyBatchComesBack) {
  ASSERT_OK_AND_ASSIGN(const OperationBody body,
                       Decode(OperationType::kBatchUpdate, Encoded(std::vector<Task>{})));
  EXPECT_TRUE(std::get<SaveTasksOp>(body).tasks.empty());
}

TEST(OperationEncoding, LargestFieldsComeBack) {
  Task task = FullTask();
  task.id = std::string(kIdBytesMax, 'i');
  task.error = std::string(kMessageBytesMax, 'e');
  task.payload = '"' + std::string(kJsonBytesMax - 2, 'p') + '"';
  ASSERT_OK_AND_ASSIGN(const OperationBody body, Decode(OperationType::kTaskUpdate, Encoded(task)));
  EXPECT_EQ(std::get<SaveTaskOp>(body).task, task);
}

TEST(OperationEncoding, EveryShorterBodyIsCorrupt) {
  for (const auto& [type, bytes] : SamplesOfEveryType()) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THAT(Decode(type, std::span(bytes).first(size)), StatusIs(StatusCode::kCorruption))
          << OperationTypeName(type) << " cut to " << size;
    }
  }
}

TEST(OperationEncoding, TrailingByteIsCorrupt) {
  for (auto& [type, bytes] : SamplesOfEveryType()) {
    bytes.push_back(std::byte{0});
    EXPECT_THAT(Decode(type, bytes), StatusIs(StatusCode::kCorruption)) << OperationTypeName(type);
  }
}

TEST(OperationEncoding, OtherVersionIsCorruptAndNamed) {
  for (auto& [type, bytes] : SamplesOfEveryType()) {
    bytes[0] = std::byte{2};
    EXPECT_THAT(Decode(type, bytes),
                StatusIs(StatusCode::kCorruption, ::testing::HasSubstr("version 2")));
  }
}

TEST(OperationEncoding, NoFlippedByteReadsOutsideTheBody) {
  // Whatever comes of it, it comes as a Status: the sanitizers watch the rest.
  for (const auto& [type, bytes] : SamplesOfEveryType()) {
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      Bytes flipped = bytes;
      flipped[at] ^= std::byte{0xff};
      const Result<OperationBody> decoded = Decode(type, flipped);
      EXPECT_TRUE(decoded.ok() || decoded.status().code() == StatusCode::kCorruption);
      KeysOf(type, 1, flipped);
    }
  }
}

TEST(OperationEncoding, ProtectionOfWhatHasEndedIsKept) {
  for (const bool protects : {false, true}) {
    Bytes save(EncodedBytes(FullTask()));
    Encode(FullTask(), kNow, save, protects);
    ASSERT_OK_AND_ASSIGN(const OperationBody task, Decode(OperationType::kTaskUpdate, save));
    EXPECT_EQ(std::get<SaveTaskOp>(task).protects_terminal, protects);
    EXPECT_EQ(std::get<SaveTaskOp>(task).task, FullTask());

    Bytes update(EncodedStatusUpdateBytes("t", "e"));
    EncodeStatusUpdate("t", {TaskStatus::kCancelled, protects}, "e", kNow, update);
    ASSERT_OK_AND_ASSIGN(const OperationBody status, Decode(OperationType::kStatusUpdate, update));
    EXPECT_EQ(std::get<UpdateStatusOp>(status).protects_terminal, protects);
    EXPECT_EQ(std::get<UpdateStatusOp>(status).status, TaskStatus::kCancelled);

    const std::vector<Task> three = ThreeTasks();
    Bytes all(EncodedBytes(three));
    Encode(three, kNow, all, protects);
    ASSERT_OK_AND_ASSIGN(const OperationBody tasks, Decode(OperationType::kBatchUpdate, all));
    EXPECT_EQ(std::get<SaveTasksOp>(tasks).protects_terminal, protects);
    EXPECT_EQ(std::get<SaveTasksOp>(tasks).tasks, three);
  }
}

TEST(OperationEncoding, UnknownStatusIsCorrupt) {
  Bytes bytes = EncodedUpdate("t", TaskStatus::kPending, "");
  bytes[9] = std::byte{5};
  EXPECT_THAT(Decode(OperationType::kStatusUpdate, bytes), StatusIs(StatusCode::kCorruption));
}

TEST(OperationEncoding, UnknownLevelPriorityOrFieldIsCorrupt) {
  const Bytes good = Encoded(FullActivity(), "");
  for (const auto& [at, value] :
       {std::pair(9, 5), std::pair(10, 0), std::pair(10, 6), std::pair(11, 2)}) {
    Bytes bytes = good;
    bytes[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
    EXPECT_THAT(Decode(OperationType::kActivityLog, bytes), StatusIs(StatusCode::kCorruption))
        << "byte " << at;
  }
}

TEST(OperationEncoding, UnknownOptionalTaskFieldIsCorrupt) {
  Task task;
  task.id = "t";
  Bytes bytes = Encoded(task);
  bytes[9 + 4 + 1 + 1] = std::byte{64};
  EXPECT_THAT(Decode(OperationType::kTaskUpdate, bytes), StatusIs(StatusCode::kCorruption));
}

TEST(OperationEncoding, UnknownTypeIsCorrupt) {
  EXPECT_THAT(Decode(static_cast<OperationType>(22), Encoded(FullTask())),
              StatusIs(StatusCode::kCorruption));
}

TEST(OperationEncoding, BytesAreThoseOfTheFormatDocument) {
  const Bytes bytes = EncodedUpdate("ab", TaskStatus::kCompleted, "");
  const unsigned char expected[] = {1,                                               // version
                                    0x41, 0xe3, 0x77, 0x12, 0xc3, 0x60, 0x06, 0x00,  // time
                                    2,                                               // status
                                    2,    0,    0,    0,    'a',  'b',               // task_id
                                    0,    0,    0,    0};                            // error
  ASSERT_EQ(bytes.size(), std::size(expected));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(bytes[i]), expected[i]) << "byte " << i;
  }
}

TEST(OperationTypes, NamesAndNumbersStay) {
  const std::pair<int, std::string_view> expected[] = {{16, "task_update"}, {17, "status_update"},
                                                       {18, "task_delete"}, {19, "dag_delete"},
                                                       {20, "activity_log"}, {21, "batch_update"}};
  for (const auto& [number, name] : expected) {
    const auto type = static_cast<OperationType>(number);
    EXPECT_EQ(OperationTypeName(type), name);
    EXPECT_EQ(ParseOperationType(name), type);
  }
  EXPECT_EQ(ParseOperationType("unknown"), std::nullopt);
}

TEST(OperationTypes, BodyTellsItsType) {
  EXPECT_EQ(Operation{.body = SaveTaskOp{}}.type(), OperationType::kTaskUpdate);
  EXPECT_EQ(Operation{.body = UpdateStatusOp{}}.type(), OperationType::kStatusUpdate);
  EXPECT_EQ(Operation{.body = DeleteTaskOp{}}.type(), OperationType::kTaskDelete);
  EXPECT_EQ(Operation{.body = DeleteDagOp{}}.type(), OperationType::kDagDelete);
  EXPECT_EQ(Operation{.body = LogActivityOp{}}.type(), OperationType::kActivityLog);
  EXPECT_EQ(Operation{.body = SaveTasksOp{}}.type(), OperationType::kBatchUpdate);
}

TEST(IndexKeys, OneTaskOperationsHaveTheRecordsKey) {
  EXPECT_EQ(KeysOf(OperationType::kTaskUpdate, 7, Encoded(FullTask())),
            std::vector<std::uint64_t>{7});
  EXPECT_EQ(KeysOf(OperationType::kStatusUpdate, 7, EncodedUpdate("t", TaskStatus::kRunning, "")),
            std::vector<std::uint64_t>{7});
  EXPECT_EQ(KeysOf(OperationType::kTaskDelete, 7, EncodedName("t")), std::vector<std::uint64_t>{7});
}

TEST(IndexKeys, BatchHasTheKeyOfEachTask) {
  const std::vector<std::uint64_t> expected = {KeyOf("run-1/extract"), KeyOf("bare"),
                                               KeyOf("half")};
  EXPECT_EQ(KeysOf(OperationType::kBatchUpdate, 7, Encoded(ThreeTasks())), expected);
}

TEST(IndexKeys, DagDeleteHasAKeyThatNoTaskOfThatNameHas) {
  EXPECT_EQ(KeysOf(OperationType::kDagDelete, KeyOf("run-1"), EncodedName("run-1")),
            std::vector<std::uint64_t>{DagKeyOf("run-1")});
  EXPECT_NE(DagKeyOf("run-1"), KeyOf("run-1"));
}

TEST(IndexKeys, ActivitiesHaveNone) {
  EXPECT_TRUE(KeysOf(OperationType::kActivityLog, 7, Encoded(FullActivity(), "")).empty());
}

TEST(IndexKeys, BodiesOfOtherVersionsHaveNone) {
  Bytes batch = Encoded(ThreeTasks());
  batch[0] = std::byte{2};
  EXPECT_TRUE(KeysOf(OperationType::kBatchUpdate, 7, batch).empty());
}

}  // namespace
}  // namespace taskwal::storage

#include "pipeline/read_overlay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "base/random.h"
#include "base/status_macros.h"
#include "pipeline/flush/batch.h"
#include "recovery/prepare_log.h"
#include "tests/support/fake_clock.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"
#include "wal/log_directory.h"

namespace taskwal::pipeline {
namespace {

using storage::Operation;
using storage::OperationType;

constexpr Time kNow = std::chrono::sys_days(std::chrono::year(2026) / 11 / 21);

Task TaskNamed(std::string id, std::string dag = "d") {
  Task task;
  task.id = std::move(id);
  task.dag_id = std::move(dag);
  return task;
}

// Calls back when `path` is opened for reading the n-th time from now on.
class InterruptedOpens final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  void Interrupt(const std::string& path, int n, std::function<void()> call) {
    path_ = path;
    left_ = n;
    call_ = std::move(call);
  }
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    if (call_ && path == path_ && --left_ == 0) std::exchange(call_, nullptr)();
    return ForwardingFileSystem::OpenReadable(path);
  }

 private:
  std::string path_;
  int left_ = 0;
  std::function<void()> call_;
};

// A log, and a flusher that moves only when told.
class ReadOverlayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.wal_dir = dir_.File("wal");
    options_.sync_interval = std::chrono::milliseconds(1);
    Open();
  }
  void TearDown() override { Shut(); }

  void Open() {
    recovery::PrepareReport report;
    ASSERT_OK_AND_ASSIGN(
        auto start, recovery::PrepareLog(FileSystem::Real(),
                                         {options_.wal_dir, 4, true, IndexOperation}, &report));
    wal::LogOptions log;
    log.directory = options_.wal_dir;
    log.ring_bytes = 1u << 20;
    log.index_keys = IndexOperation;
    log.segment_records_max = segment_records_max_;
    log.retention_bytes = 0;
    log.segment_retention = std::chrono::milliseconds(0);
    ASSERT_OK_AND_ASSIGN(log_, wal::Log::Open(fs_, Clock::Real(), log, std::move(start)));
    backend_ = database_.Open();
    ASSERT_OK_AND_ASSIGN(letters_, DeadLetters::Open(FileSystem::Real(), options_.wal_dir, false));
    flusher_ = std::make_unique<Flusher>(*log_, *backend_, *letters_, Clock::Real(), options_);
    calls_ = std::make_unique<DatabaseCalls>(*backend_);
    overlay_ = std::make_unique<ReadOverlay>(*log_, [this](std::uint64_t) {
      return ReadOverlay::Home{flusher_.get(), calls_.get(), nullptr};
    });
  }
  void Shut() {
    overlay_.reset();
    calls_.reset();
    flusher_.reset();
    if (log_) {
      EXPECT_OK(log_->Close());
    }
    log_.reset();
    letters_.reset();
    backend_.reset();
  }
  void Reopen() {
    Shut();
    Open();
  }

  wal::Lsn Append(OperationType type, std::string_view id, std::size_t bytes,
                  const std::function<void(std::span<std::byte>)>& encode) {
    const wal::RecordHeader header{static_cast<std::uint8_t>(type), 0, storage::KeyOf(id),
                                   log_->NextStamp(now_)};
    const auto lsn = log_->Append(header, bytes, Durability::kDisk, {}, encode);
    EXPECT_OK(lsn);
    return lsn.ok() ? *lsn : 0;
  }
  wal::Lsn Save(const Task& task) {
    return Append(OperationType::kTaskUpdate, task.id, storage::EncodedBytes(task),
                  [&](std::span<std::byte> into) { storage::Encode(task, now_, into); });
  }
  wal::Lsn SaveAll(const std::vector<Task>& tasks) {
    return Append(OperationType::kBatchUpdate, tasks.front().id, storage::EncodedBytes(tasks),
                  [&](std::span<std::byte> into) { storage::Encode(tasks, now_, into); });
  }
  wal::Lsn Update(std::string_view id, TaskStatus status, std::string_view error = {}) {
    return Append(OperationType::kStatusUpdate, id, storage::EncodedStatusUpdateBytes(id, error),
                  [&](std::span<std::byte> into) {
                    storage::EncodeStatusUpdate(id, status, error, now_, into);
                  });
  }
  wal::Lsn Delete(std::string_view id) {
    return Append(OperationType::kTaskDelete, id, storage::EncodedNameBytes(id),
                  [&](std::span<std::byte> into) { storage::EncodeName(id, now_, into); });
  }
  wal::Lsn DeleteDag(std::string_view dag) {
    const wal::Lsn lsn =
        Append(OperationType::kDagDelete, dag, storage::EncodedNameBytes(dag),
               [&](std::span<std::byte> into) { storage::EncodeName(dag, now_, into); });
    overlay_->NoteDagDelete(lsn);
    return lsn;
  }
  // Steps the flusher until all that was appended is in the database.
  void FlushAll() {
    const wal::Lsn end = log_->end_lsn();
    ASSERT_OK(log_->WaitDurable(end, {}));
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (flusher_->flushed_lsn() < end && std::chrono::steady_clock::now() < until) {
      if (!flusher_->Step()) std::this_thread::yield();
    }
    ASSERT_GE(flusher_->flushed_lsn(), end);
  }

  TempDir dir_;
  InterruptedOpens fs_{FileSystem::Real()};
  std::uint64_t segment_records_max_ = 0;
  SwitchableDatabase database_;
  Options options_;
  Time now_ = kNow;
  std::unique_ptr<storage::Backend> backend_;
  std::unique_ptr<wal::Log> log_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
  std::unique_ptr<DatabaseCalls> calls_;
  std::unique_ptr<ReadOverlay> overlay_;
};

TEST_F(ReadOverlayTest, ShowsASaveThatTheDatabaseLacks) {
  Task task = TaskNamed("t");
  task.payload = "{ \"x\":1}";
  Save(task);
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  task.created_at = task.updated_at = kNow;
  EXPECT_EQ(read, task);
}

TEST_F(ReadOverlayTest, KnowsNoTaskThatNobodySaved) {
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kNotFound));
  Update("t", TaskStatus::kRunning);
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kNotFound));
}

TEST_F(ReadOverlayTest, FoldsStatusUpdatesOnTheUnflushedSave) {
  Save(TaskNamed("t"));
  now_ += std::chrono::seconds(1);
  Update("t", TaskStatus::kRunning);
  now_ += std::chrono::seconds(1);
  Update("t", TaskStatus::kFailed, "boom");
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.status, TaskStatus::kFailed);
  EXPECT_EQ(read.error, "boom");
  EXPECT_EQ(read.created_at, kNow);
  EXPECT_EQ(read.started_at, kNow + std::chrono::seconds(1));
  EXPECT_EQ(read.completed_at, kNow + std::chrono::seconds(2));
}

TEST_F(ReadOverlayTest, FoldsStatusUpdatesOnTheDatabasesRow) {
  Save(TaskNamed("t"));
  FlushAll();
  now_ += std::chrono::seconds(1);
  Update("t", TaskStatus::kRunning);
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.status, TaskStatus::kRunning);
  EXPECT_EQ(read.started_at, now_);
  EXPECT_EQ(read.dag_id, "d");
}

TEST_F(ReadOverlayTest, KeepsCreatedAtOfTheRowUnderAnUnflushedSave) {
  Save(TaskNamed("t"));
  FlushAll();
  now_ += std::chrono::hours(1);
  Save(TaskNamed("t", "other"));
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.created_at, kNow);
  EXPECT_EQ(read.updated_at, now_);
  EXPECT_EQ(read.dag_id, "other");
}

TEST_F(ReadOverlayTest, ShowsAnUnflushedDelete) {
  Save(TaskNamed("t"));
  FlushAll();
  Delete("t");
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kNotFound));
  now_ += std::chrono::hours(1);
  Save(TaskNamed("t"));
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.created_at, now_);  // a new task: nothing of the deleted one is kept
}

TEST_F(ReadOverlayTest, TakesTheLastSaveOfATaskOutOfABatch) {
  Task first = TaskNamed("t", "first"), last = TaskNamed("t", "last");
  SaveAll({TaskNamed("a"), first, TaskNamed("b"), last});
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.dag_id, "last");
  EXPECT_OK(overlay_->GetTask("b"));  // found under the keys of all its tasks
  EXPECT_THAT(overlay_->GetTask("c"), StatusIs(StatusCode::kNotFound));
}

TEST_F(ReadOverlayTest, ShowsTheUnflushedDeleteOfADag) {
  Save(TaskNamed("old"));
  Save(TaskNamed("elsewhere", "e"));
  FlushAll();
  Save(TaskNamed("new"));
  DeleteDag("d");
  Save(TaskNamed("after"));
  EXPECT_THAT(overlay_->GetTask("old"), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(overlay_->GetTask("new"), StatusIs(StatusCode::kNotFound));
  EXPECT_OK(overlay_->GetTask("elsewhere"));
  EXPECT_OK(overlay_->GetTask("after"));
}

TEST_F(ReadOverlayTest, RemembersAnUnflushedDeleteOfADagOverARestart) {
  Save(TaskNamed("t"));
  FlushAll();
  DeleteDag("d");
  Reopen();
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kNotFound));
}

// The save is read; both are flushed and their segments retired; only then the delete is looked
// for.
TEST_F(ReadOverlayTest, LooksAgainWhenADeleteOfADagIsRetiredInTheMidstOfIt) {
  segment_records_max_ = 1;
  Reopen();
  Save(TaskNamed("t"));
  const wal::Lsn deleted_at = DeleteDag("d");
  Save(TaskNamed("other", "e"));
  ASSERT_OK(log_->WaitDurable(log_->end_lsn(), {}));
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (log_->GetStats().segments_active > 1 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  ASSERT_EQ(log_->GetStats().segments_active, 1u);
  bool is_retired = false;
  const auto retire = [&] {
    FlushAll();
    ASSERT_OK(log_->Retire(log_->end_lsn(), {}));
    is_retired = log_->first_lsn() > deleted_at;
  };
  ASSERT_OK_AND_ASSIGN(const auto segments, wal::ListSegments(fs_, options_.wal_dir));
  ASSERT_GE(segments.size(), 3u);
  // Opened the first time, it is looked through for the task.
  const std::string name = wal::SegmentName(segments[1]);
  fs_.Interrupt(wal::JoinPath(options_.wal_dir, name), 2, retire);
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kNotFound));
  EXPECT_TRUE(is_retired);
}

TEST_F(ReadOverlayTest, SeesUnflushedWritesAfterARestart) {
  Task task = TaskNamed("t");
  task.created_at = kNow;
  Save(task);
  Update("t", TaskStatus::kRunning);
  database_.GoAway();
  Reopen();
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.status, TaskStatus::kRunning);
}

TEST_F(ReadOverlayTest, ServesFromTheLogAloneWhileTheDatabaseIsAway) {
  Save(TaskNamed("flushed"));
  FlushAll();
  database_.GoAway();
  Save(TaskNamed("saved"));
  Update("flushed", TaskStatus::kRunning);
  EXPECT_OK(overlay_->GetTask("saved"));
  EXPECT_THAT(overlay_->GetTask("flushed"), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(overlay_->GetTask("unknown"), StatusIs(StatusCode::kUnavailable));
  Delete("flushed");
  EXPECT_THAT(overlay_->GetTask("flushed"), StatusIs(StatusCode::kNotFound));
  database_.ComeBack();
  EXPECT_THAT(overlay_->GetTask("unknown"), StatusIs(StatusCode::kNotFound));
}

// A save that reopens no task which has ended is without effect, for all that is known: it gives
// the next one no created_at.
TEST_F(ReadOverlayTest, TakesNothingFromASaveThatDependsOnARowNobodyKnows) {
  Task ended = TaskNamed("t");
  ended.status = TaskStatus::kCompleted;
  Save(ended);
  FlushAll();
  Task given = TaskNamed("t");
  given.created_at = kNow - std::chrono::hours(1);
  Append(OperationType::kTaskUpdate, "t", storage::EncodedBytes(given),
         [&](std::span<std::byte> into) { storage::Encode(given, now_, into, true); });
  database_.GoAway();
  EXPECT_THAT(overlay_->GetTask("t"), StatusIs(StatusCode::kUnavailable));
  now_ += std::chrono::seconds(1);
  Save(TaskNamed("t"));
  ASSERT_OK_AND_ASSIGN(const Task away, overlay_->GetTask("t"));
  EXPECT_EQ(away.created_at, now_);
  database_.ComeBack();
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.created_at, kNow);
}

// The flusher may have committed what this process does not know of yet: the row's LSN tells.
TEST_F(ReadOverlayTest, FoldsNothingTwiceOnARowThatIsAhead) {
  Save(TaskNamed("t"));
  FlushAll();
  now_ += std::chrono::seconds(1);
  const wal::Lsn lsn = Update("t", TaskStatus::kRunning);
  now_ += std::chrono::seconds(1);
  // As if the batch with the update, and a later change by hand of the same LSN, were committed.
  ASSERT_OK_AND_ASSIGN(auto session, database_.data().Connect());
  storage::Batch batch;
  batch.wal_id = log_->state().wal_id;
  storage::TaskChange change;
  change.id = "t";
  change.origin = {lsn, 1};
  change.task = TaskNamed("t", "ahead");
  change.task.created_at = change.task.updated_at = kNow;
  batch.tasks.push_back(change);
  ASSERT_OK(session->Apply(batch));
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.dag_id, "ahead");
  EXPECT_EQ(read.status, TaskStatus::kPending);
}

TEST_F(ReadOverlayTest, LeavesARowThatAnotherLogWroteLater) {
  now_ = Clock::Real().WallNow();
  Save(TaskNamed("t"));
  FlushAll();
  const wal::Lsn lsn = Update("t", TaskStatus::kRunning);
  ASSERT_OK_AND_ASSIGN(auto session, database_.data().Connect());
  storage::Batch batch;
  batch.wal_id = Uuid::Make();
  storage::TaskChange change;
  change.id = "t";
  change.origin = {lsn, log_->NextStamp(now_) + 60'000'000};
  change.task = TaskNamed("t", "theirs");
  change.task.created_at = change.task.updated_at = now_;
  batch.tasks.push_back(change);
  ASSERT_OK(session->Apply(batch));
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.dag_id, "theirs");
  EXPECT_EQ(read.status, TaskStatus::kPending);
  // What was read is behind whatever is written from now on.
  EXPECT_GE(log_->NextStamp(now_), change.origin.stamp);
}

// As the row will have it, once the save has come in.
TEST_F(ReadOverlayTest, ShowsTheCreationThatATooLateSaveHandsIn) {
  now_ = Clock::Real().WallNow();
  Save(TaskNamed("t"));
  FlushAll();
  ASSERT_OK_AND_ASSIGN(auto session, database_.data().Connect());
  const Uuid theirs = Uuid::Make();
  const Time their_call = now_ + std::chrono::minutes(1);
  const auto apply = [&](storage::TaskChange::Kind kind, std::uint64_t stamp) {
    storage::TaskChange change;
    change.kind = kind;
    change.id = "t";
    change.origin = {stamp, stamp};
    change.task = TaskNamed("t", "theirs");
    change.task.created_at = change.task.updated_at = their_call;
    change.created_rank = storage::MakeCreatedRank(false, {stamp, theirs, stamp});
    storage::Batch batch;
    batch.wal_id = theirs;
    batch.tasks.push_back(change);
    ASSERT_OK(session->Apply(batch));
  };
  const std::uint64_t stamp = log_->NextStamp(now_) + 60'000'000;
  apply(storage::TaskChange::Kind::kDelete, stamp);
  apply(storage::TaskChange::Kind::kPut, stamp + 1);
  Save(TaskNamed("t"));  // called before theirs
  ASSERT_OK_AND_ASSIGN(const Task read, overlay_->GetTask("t"));
  EXPECT_EQ(read.dag_id, "theirs");
  EXPECT_EQ(read.created_at, now_);
  FlushAll();
  ASSERT_OK_AND_ASSIGN(const auto row, session->GetTask("t"));
  EXPECT_EQ(row.task, read);
}

TEST_F(ReadOverlayTest, KnowsWhichTasksHaveUnflushedRecords) {
  Save(TaskNamed("t"));
  ASSERT_OK_AND_ASSIGN(const bool before, overlay_->HasUnflushed("t"));
  EXPECT_TRUE(before);
  FlushAll();
  ASSERT_OK_AND_ASSIGN(const bool after, overlay_->HasUnflushed("t"));
  EXPECT_FALSE(after);
  ASSERT_OK_AND_ASSIGN(const bool other, overlay_->HasUnflushed("u"));
  EXPECT_FALSE(other);
}

// The row that a composed change leaves, by the rules of the backends.
std::optional<Task> ApplyChanges(std::optional<Task> row, std::vector<Operation> operations) {
  storage::MemoryBackend backend;
  auto session = backend.Connect();
  EXPECT_OK(session);
  const auto apply = [&](ComposedRows rows, const Uuid& wal_id) {
    storage::Batch batch;
    batch.wal_id = wal_id;
    batch.tasks = std::move(rows.tasks);
    EXPECT_OK((*session)->Apply(batch));
  };
  if (row) {
    std::vector<Operation> first;
    first.push_back({1, 1, storage::SaveTaskOp{*row, kNow}});
    apply(Compose(std::move(first), Uuid()), Uuid());
  }
  apply(Compose(std::move(operations), Uuid()), Uuid());
  auto stored = (*session)->GetTask("t");
  if (!stored.ok()) return std::nullopt;
  return std::move(stored->task);
}

TEST(Fold, AgreesWithWhatTheFlusherComposes) {
  const std::uint64_t seed = Random::FromSystem().Next();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::optional<Task> row;
    if (random.OneIn(2)) {
      row = TaskNamed("t", "row");
      row->created_at = row->updated_at = kNow - std::chrono::hours(1);
      row->started_at = kNow;
      row->status = static_cast<TaskStatus>(random.Below(5));
    }
    std::vector<Operation> operations;
    for (std::uint64_t lsn = 2; lsn < 2 + 1 + random.Below(6); ++lsn) {
      const Time time = kNow + std::chrono::seconds(lsn);
      const auto status = static_cast<TaskStatus>(random.Below(5));
      const bool protects = random.OneIn(3);
      if (random.OneIn(3)) {
        Task task = TaskNamed("t", "save" + std::to_string(lsn));
        task.status = status;
        if (random.OneIn(3)) task.created_at = time - std::chrono::minutes(1);
        if (random.OneIn(3)) task.updated_at = time - std::chrono::minutes(2);
        if (random.OneIn(3)) task.completed_at = time;
        operations.push_back({lsn, lsn, storage::SaveTaskOp{task, time, protects}});
      } else if (random.OneIn(4)) {
        operations.push_back({lsn, lsn, storage::DeleteTaskOp{"t", time}});
      } else {
        operations.push_back({lsn, lsn,
                              storage::UpdateStatusOp{"t", status, "e", time, protects}});
      }
    }
    ASSERT_EQ(Fold(row, operations), ApplyChanges(row, operations)) << "round " << round;
  }
}

}  // namespace
}  // namespace taskwal::pipeline

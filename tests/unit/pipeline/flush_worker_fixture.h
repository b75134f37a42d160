// A worker over all partitions, fed by hand, for the tests of it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/flush/flush_worker.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {

inline constexpr std::uint32_t kPartitions = OperationLog::kPartitions;

// One worker over all partitions, fed by hand: no log.
class FlushWorkerTest : public ::testing::Test {
 protected:
  FlushWorkerTest() {
    options_.backoff_jitter = false;
    options_.initial_backoff = std::chrono::milliseconds(100);
    options_.max_backoff = std::chrono::seconds(10);
    options_.breaker_failures = 3;
    options_.breaker_open_time = std::chrono::seconds(60);
    options_.max_flush_retries = 2;
    options_.batch_size = 100;
    options_.flush_linger = std::chrono::milliseconds(0);
    options_.on_flush = [this](const FlushEvent& event) { events_.push_back(event); };
    identity_.wal_id = Uuid::Make();
    identity_.epoch = 5;
    identity_.db_id = memory_.db_id();
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    Register(memory_, 0);
    Make();
  }

  void Register(storage::Backend& backend, wal::Lsn at) {
    auto session = backend.Connect();
    ASSERT_OK(session);
    ASSERT_OK((*session)->RegisterLog(identity_.wal_id, identity_.epoch,
                                      std::vector<wal::Lsn>(kPartitions, at)));
  }
  void Make() {
    PartitionQueues::Limits limits;
    limits.partitions = kPartitions;
    limits.batch_records = options_.batch_size;
    limits.linger = options_.flush_linger;
    queues_ = std::make_unique<PartitionQueues>(limits);
    const std::vector<wal::Lsn> none(kPartitions, 0);
    queues_->Reset(none, none);
    breaker_ = std::make_unique<CircuitBreaker>(BreakerLimitsOf(options_));
    setting_ = std::make_unique<FlushSetting>(
        FlushSetting{backend_, *queues_, *letters_, *breaker_, counters_, guard_, connections_,
                     clock_, options_,
                     [this](std::uint64_t stamp) { stamp_ = std::max(stamp_, stamp); }});
    worker_ = std::make_unique<FlushWorker>(*setting_, 0, 1);
    worker_->Begin(identity_, nullptr);
  }

  // --- feeding ---
  wal::Lsn Offer(storage::OperationType type, const std::string& id, std::vector<std::byte> body) {
    wal::RecordView record;
    record.lsn = next_++;
    record.header.type = static_cast<std::uint8_t>(type);
    record.header.key = storage::KeyOf(id);
    record.header.stamp = 1000 + record.lsn;
    record.body = body;
    queues_->Offer(record, clock_.Now());
    queues_->AdvanceTo(next_);
    return record.lsn;
  }
  wal::Lsn Save(const std::string& id, const std::string& dag_id = {}) {
    Task task;
    task.id = id;
    task.dag_id = dag_id;
    std::vector<std::byte> body(storage::EncodedBytes(task));
    storage::Encode(task, clock_.WallNow(), body);
    return Offer(storage::OperationType::kTaskUpdate, id, body);
  }
  wal::Lsn Update(const std::string& id, TaskStatus status) {
    std::vector<std::byte> body(storage::EncodedStatusUpdateBytes(id, ""));
    storage::EncodeStatusUpdate(id, status, "", clock_.WallNow(), body);
    return Offer(storage::OperationType::kStatusUpdate, id, body);
  }
  wal::Lsn Delete(const std::string& id,
                  storage::OperationType type = storage::OperationType::kTaskDelete) {
    std::vector<std::byte> body(storage::EncodedNameBytes(id));
    storage::EncodeName(id, clock_.WallNow(), body);
    return Offer(type, id, body);
  }
  wal::Lsn SaveAll(const std::vector<std::string>& ids) {
    std::vector<Task> tasks(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) tasks[i].id = ids[i];
    std::vector<std::byte> body(storage::EncodedBytes(tasks));
    storage::Encode(tasks, clock_.WallNow(), body);
    return Offer(storage::OperationType::kBatchUpdate, ids[0], body);
  }
  wal::Lsn Log(const std::string& id, const std::string& task_id = "t") {
    Activity activity;
    activity.task_id = task_id;
    std::vector<std::byte> body(storage::EncodedBytes(activity, id));
    storage::Encode(activity, id, clock_.WallNow(), body);
    return Offer(storage::OperationType::kActivityLog, task_id, body);
  }

  // --- driving ---
  FlushWorker::Turn Step() { return worker_->Step(); }
  // Until there is nothing to do now or it pauses.
  FlushWorker::Turn RunNow() {
    FlushWorker::Turn turn = FlushWorker::Turn::kProgress;
    for (int i = 0; i < 10000 && turn == FlushWorker::Turn::kProgress; ++i) turn = Step();
    return turn;
  }
  // The same, passing over the rests of refused records.
  FlushWorker::Turn Run() {
    FlushWorker::Turn turn = RunNow();
    for (int i = 0; i < 1000 && turn == FlushWorker::Turn::kIdle &&
                    counters_.workers()[0].in_hand > 0; ++i) {
      clock_.Advance(worker_->NextTurnIn());
      turn = RunNow();
    }
    return turn;
  }
  // The same, passing over pauses.
  void Drain() {
    for (int i = 0; i < 100; ++i) {
      if (Run() != FlushWorker::Turn::kPaused) return;
      clock_.Advance(options_.breaker_open_time);
    }
    FAIL() << "still paused: " << counters_.Snapshot().alarm;
  }
  // In another partition than `id`.
  static std::string IdElsewhere(const std::string& id, const std::string& name) {
    const auto partition_of = [](const std::string& task) {
      return wal::PartitionOf(storage::KeyOf(task), kPartitions);
    };
    std::string other = name;
    while (partition_of(other) == partition_of(id)) other += "'";
    return other;
  }
  void RejectTask(const std::string& id) {
    backend_.RejectTasks([id](const storage::TaskChange& change) { return change.id == id; });
  }
  std::unique_ptr<storage::Session> Session() { return std::move(memory_.Connect()).value(); }
  bool IsStored(const std::string& id) { return Session()->GetTask(id).ok(); }
  std::vector<wal::Lsn> Lettered() {
    std::vector<wal::Lsn> lsns;
    EXPECT_OK(letters_->ForEach([&](const DeadLetter& letter) {
      lsns.push_back(letter.lsns.from);
      return true;
    }));
    return lsns;
  }
  FlusherStats Stats() { return counters_.Snapshot(); }
  wal::Lsn settled() { return queues_->settled_lsn(); }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  LogIdentity identity_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<PartitionQueues> queues_;
  std::unique_ptr<CircuitBreaker> breaker_;
  FlushCounters counters_;
  PoisonGuard guard_;
  WorkerConnections connections_;
  std::unique_ptr<FlushSetting> setting_;
  std::unique_ptr<FlushWorker> worker_;
  std::vector<FlushEvent> events_;
  std::uint64_t stamp_ = 0;
  wal::Lsn next_ = 1;
};

}  // namespace taskwal::pipeline

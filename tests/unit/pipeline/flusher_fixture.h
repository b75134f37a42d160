// A flusher driven step by step, over a log on a simulated disk, for the tests of it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "pipeline/flush/flusher.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/scripted_backend.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {

class FlusherTest : public ::testing::Test {
 protected:
  FlusherTest() {
    options_.wal_dir = "/wal";
    options_.worker_count = 2;
    options_.backoff_jitter = false;
    Open();
  }

  void Open() {
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    flusher_ = std::make_unique<Flusher>(log_->log(), backend_, *letters_, clock_, options_, fs_);
  }
  // As a clean end and a new process.
  void Reopen() {
    flusher_.reset();
    log_->Close();
    log_->Open();
    Open();
  }
  // As a kill at this point, and a new process.
  void Restart() {
    flusher_.reset();
    log_->Abandon();
    fs_.Kill();
    log_->Open();
    Open();
  }
  // Until nothing is left, over pauses and the linger.
  void Drain() {
    log_->Sync();
    // Before contact the position is what STATE confirms, which a restored database may not have.
    const auto is_done = [&] {
      return Stats().start_lsn > 0 && flusher_->flushed_lsn() >= log_->log().end_lsn();
    };
    for (int i = 0; i < 200 && !is_done(); ++i) {
      while (flusher_->Step()) {
      }
      clock_.Advance(std::chrono::seconds(1));
    }
    EXPECT_EQ(flusher_->flushed_lsn(), log_->log().end_lsn()) << Stats().alarm;
  }
  // As long as it makes progress, over `pauses`.
  void Work(int pauses) {
    for (int i = 0; i < pauses; ++i) {
      while (flusher_->Step()) {
      }
      clock_.Advance(std::chrono::seconds(1));
    }
  }
  // A hundred tasks over small segments, of which the first have been given up.
  void FlushManySegments() {
    log_->Abandon();
    log_->Open(64u << 10);
    Open();
    for (int i = 0; i < 100; ++i) {
      log_->Save("task-" + std::to_string(i), {}, 4000);
      log_->Sync();
      while (log_->log().MaintenanceStep()) {
      }
    }
    Drain();
  }
  // From here on the same database, restored from before its first contact with this log.
  void RestoreFromBefore(storage::MemoryBackend& restored) {
    backend_.SwitchTo(restored);
    ASSERT_OK(log_->log().SetState([&](wal::LogState* state) {
      state->db_id = restored.db_id();
    }));
  }
  FlusherStats Stats() { return flusher_->GetStats(); }
  std::unique_ptr<storage::Session> Session() { return std::move(memory_.Connect()).value(); }
  bool IsStored(const std::string& id) { return Session()->GetTask(id).ok(); }
  storage::LogRow Row(storage::Backend& backend) {
    return *(*backend.Connect())->ReadLog(log_->log().state().wal_id);
  }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  std::unique_ptr<OperationLog> log_ = std::make_unique<OperationLog>(fs_, clock_);
  storage::MemoryBackend memory_;
  ScriptedBackend backend_{memory_};
  Options options_;
  std::unique_ptr<DeadLetters> letters_;
  std::unique_ptr<Flusher> flusher_;
};

}  // namespace taskwal::pipeline

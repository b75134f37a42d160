// Queues of two partitions, driven without threads, for the tests of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "pipeline/flush/partition_queues.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

class PartitionQueuesTest : public ::testing::Test {
 protected:
  PartitionQueuesTest() {
    limits_.partitions = 2;
    Make(1);
  }

  void Make(std::uint32_t workers) {
    limits_.workers = workers;
    limits_.partition_bytes = 4000;
    limits_.batch_records = 5;
    limits_.batch_bytes = 1500;
    limits_.due_records = 3;
    limits_.due_age = std::chrono::milliseconds(200);
    limits_.linger = std::chrono::milliseconds(20);
    queues_ = std::make_unique<PartitionQueues>(limits_);
    Reset(std::vector<wal::Lsn>(limits_.partitions, 0));
  }
  void Reset(const std::vector<wal::Lsn>& start) { queues_->Reset(start, start); }

  // A record of partition `key` (0 or 1) with `bytes` of body.
  wal::RecordView Record(wal::Lsn lsn, std::uint64_t key, std::size_t bytes = 10,
                         storage::OperationType type = storage::OperationType::kTaskUpdate) {
    body_.resize(std::max(body_.size(), bytes));
    wal::RecordView record;
    record.lsn = lsn;
    record.header.key = key;
    record.header.type = static_cast<std::uint8_t>(type);
    record.body = std::span(body_).first(bytes);
    return record;
  }
  PartitionQueues::Offered Offer(
      wal::Lsn lsn, std::uint64_t key, std::size_t bytes = 10,
      storage::OperationType type = storage::OperationType::kTaskUpdate) {
    return queues_->Offer(Record(lsn, key, bytes, type), now_);
  }
  // One record each, in LSN order from 1, then the reader is behind them.
  void OfferAll(const std::vector<std::uint64_t>& keys) {
    wal::Lsn lsn = 0;
    for (const std::uint64_t key : keys) Offer(++lsn, key);
    queues_->AdvanceTo(lsn + 1);
  }
  std::vector<wal::Lsn> Take(std::uint32_t worker = 0) {
    std::vector<wal::Lsn> lsns;
    for (const QueuedRecord* record : queues_->Take(worker)) lsns.push_back(record->lsn);
    return lsns;
  }
  PartitionQueues::Settled Settle(const std::vector<storage::WatermarkMove>& moves) {
    const PartitionQueues::Settled settled = queues_->Count(moves);
    queues_->Settle(0, moves, now_);
    return settled;
  }
  // When the next batch is due, from now; -1: never.
  std::int64_t DueIn(std::uint32_t worker = 0) {
    const auto due = queues_->DueAt(worker, now_);
    if (!due) return -1;
    return std::max<std::int64_t>(
        0, std::chrono::duration_cast<std::chrono::milliseconds>(*due - now_).count());
  }

  PartitionQueues::Limits limits_;
  std::unique_ptr<PartitionQueues> queues_;
  Monotonic now_{std::chrono::hours(1)};
  std::vector<std::byte> body_;
};

}  // namespace taskwal::pipeline

// The reader's side of the flusher: follows the log up to its durable position, never beyond, and
// offers the records to the partition queues. What is lost is declared, durably, before anything
// can pass it. Steps are called by one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/flush_counters.h"
#include "pipeline/flush/log_identity.h"
#include "pipeline/flush/partition_queues.h"
#include "taskwal/options.h"
#include "wal/log.h"

namespace taskwal::pipeline {

// What the part of a frame that counts does not hold: runs of records that a failed sync took away,
// and everything behind bytes that are no record.
std::vector<wal::LsnRange> LostIn(const wal::Frame& frame, const wal::TailEvent& event);

class LogFeeder {
 public:
  // All references outlive it.
  LogFeeder(wal::Log& log, PartitionQueues& queues, DeadLetters& letters, FlushCounters& counters,
            Clock& clock, const Options& options, std::uint16_t target = 0);

  // After contact, and after the queues were reset: reads from their position on.
  void Start(const LogIdentity& identity);
  // One frame of the log for the queues, and one for those left behind; asks for a sync where only
  // that keeps records back. True when there was something to read.
  bool Step();
  // Blocks until Step may find more, at most `longest`; queues.Wake() ends most of its waits.
  void WaitForMore(std::chrono::milliseconds longest);

 private:
  bool ReadStep();
  bool CatchUpStep();
  void AskForSync(wal::Lsn next);
  [[nodiscard]] bool IsOurs(const wal::RecordView& record) const;
  Status TakeFrame(const wal::TailEvent& event);
  void Offer(const wal::RecordView& record, Monotonic now);
  Status Declare(const std::vector<wal::LsnRange>& lost, const std::string& detail);
  void CountLost(const wal::LsnRange& range);
  void CountLate(std::uint64_t lost);
  void AdvanceLate(wal::Lsn from, wal::Lsn to);
  bool Failed(const Status& status);

  wal::Log& log_;
  PartitionQueues& queues_;
  DeadLetters& letters_;
  FlushCounters& counters_;
  Clock& clock_;
  const std::uint16_t target_;  // whose records are brought; others' count as settled
  const wal::Lsn end_at_open_;
  const Options& options_;
  const Options::Duration linger_;
  const std::uint32_t due_records_;

  LogIdentity identity_;
  std::unique_ptr<wal::TailReader> reader_;
  std::unique_ptr<wal::TailReader> late_reader_;  // made when first needed
  wal::Frame frame_;
  wal::Frame late_frame_;
  wal::Lsn passed_ = 0;          // voids and losses up to here have been counted
  Monotonic sync_due_{};         // not asked for again before
  Monotonic retry_at_{};         // after a failure
  std::uint64_t seen_change_ = 0;
};

}  // namespace taskwal::pipeline

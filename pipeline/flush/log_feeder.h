// The reader's side of the flusher: follows the log up to its durable position, never beyond, and
// offers the records to the partition queues. What is lost is declared, durably, before anything
// can pass it. Steps are called by one thread at a time.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
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
            Clock& clock, const Options& options, const FlushTarget& target = {});

  // After contact, and after the queues were reset: reads from their position on. What is brought
  // of LSNs up to the first `settled` that it is given counts as regained.
  void Start(const LogIdentity& identity, wal::Lsn settled = 0);
  // What is read up to there is accepted by being read, as behind a setback at the first contact.
  // Any thread, before the first Step.
  void CountAsRegained(wal::Lsn to) { regained_to_.store(to); }
  // One frame of the log for the queues, and one for those left behind; asks for a sync where only
  // that keeps records back. True when there was something to read.
  bool Step();
  // Blocks until Step may find more, at most `longest`; a stop, then queues.Wake() and
  // log.WakeReaders(), end it.
  void WaitForMore(std::chrono::milliseconds longest, const std::stop_token& stop = {});

 private:
  bool ReadStep();
  bool CatchUpStep();
  [[nodiscard]] wal::Lsn BooksBegin() const;
  void AskForSync(wal::Lsn next);
  [[nodiscard]] bool IsOurs(const wal::RecordView& record) const;
  Status TakeFrame(const wal::TailEvent& event);
  // What a frame came to.
  struct Met {
    std::uint64_t voids = 0, regained = 0;
    std::uint64_t found = 0, found_lettered = 0;  // settled already
    std::uint64_t released = 0, released_bytes = 0;  // of these, from the budget
  };
  Met Meet(const wal::TailEvent& event, Monotonic now);
  void Offer(const wal::RecordView& record, Monotonic now, Met* met);
  void Release(std::uint64_t records, std::uint64_t bytes) const;
  Status Declare(const std::vector<wal::LsnRange>& lost, const std::string& detail);
  void CountLost(const wal::LsnRange& range);
  void CountLate(wal::Lsn next, std::optional<wal::Lsn> late_from);
  void AdvanceLate(wal::Lsn from, wal::Lsn to);
  bool Failed(const Status& status);

  wal::Log& log_;
  PartitionQueues& queues_;
  DeadLetters& letters_;
  FlushCounters& counters_;
  Clock& clock_;
  const FlushTarget target_;  // whose records are brought; others' count as settled
  const Options& options_;
  const Options::Duration linger_;
  const std::uint32_t due_records_;

  LogIdentity identity_;
  std::unique_ptr<wal::TailReader> reader_;
  std::unique_ptr<wal::TailReader> late_reader_;  // made when first needed
  wal::Frame frame_;
  wal::Frame late_frame_;
  wal::Lsn passed_ = 0;          // voids and losses up to here have been counted
  std::optional<wal::Lsn> settled_at_start_;
  std::atomic<wal::Lsn> regained_to_{0};
  Monotonic sync_due_{};         // not asked for again before
  Monotonic retry_at_{};         // after a failure
  std::uint64_t seen_change_ = 0;
};

}  // namespace taskwal::pipeline

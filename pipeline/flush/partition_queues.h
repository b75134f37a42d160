// What has been read from the log and is not settled yet, by partition, and the positions that
// follow from it. The reader offers records, workers take them in LSN order and settle them; a
// record stays in its queue until it is settled, so that the queue's front is always the first
// unsettled one.
//
//   reader ─Offer─▶ [ front … back ] ─Take─▶ worker ─Settle─▶ gone, watermark moved
//
// A partition belongs to one worker; while records of it are in a worker's hands, no other gets
// any. So the number of workers may change at any time: a partition is handed over once the batch
// it is in is done. A partition whose first record the worker has set aside stays its own longer:
// until that is taken up again and done.
//
// A queue that is full is left behind at the first record it has no room for; from half empty on
// the catch-up reader serves it, until it has come up to the reader again. A barrier (dag_delete,
// batch_update) holds back everything behind it until all partitions have come up to it.
//
// All queues together hold no more than their bound and one record. Where there is no room the
// reader stops; but the oldest record that is not settled is let in whatever its size, for the
// others may be waiting for nothing else (behind a barrier, say). Any thread may call any method.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "storage/backend.h"
#include "wal/log.h"
#include "wal/record.h"

namespace taskwal::pipeline {

struct QueuedRecord {
  wal::Lsn lsn = 0;
  std::uint64_t stamp = 0;
  std::uint8_t type = 0;
  bool is_lettered = false;   // set by the worker that took it
  std::uint32_t partition = 0;
  Monotonic queued_at{};
  std::vector<std::byte> body;
};

class PartitionQueues {
 public:
  struct Limits {
    std::uint32_t partitions = 16;
    std::uint32_t workers = 1;
    std::size_t bytes = 32u << 20;           // all queues together, but for one record
    std::size_t partition_bytes = 2u << 20;  // then a queue is full; one record always fits
    std::uint32_t batch_records = 5000;
    std::size_t batch_bytes = 4u << 20;
    // When a batch is due, without anybody waiting.
    std::uint32_t due_records = 1000;
    std::chrono::milliseconds due_age{200};
    std::chrono::milliseconds linger{20};
    // A worker with nothing to do takes partitions of one that is busy with others.
    bool work_stealing = false;
  };

  explicit PartitionQueues(const Limits& limits);

  // Forgets all and starts over: `start` is how far each partition is settled, `stored` its
  // watermark in the database. No worker may hold records meanwhile.
  void Reset(const std::vector<wal::Lsn>& start, const std::vector<wal::Lsn>& stored)
      EXCLUDES(mutex_);

  // Behind the first Reset: what is settled up to there is in nobody's books, or counted already,
  // even should the database go back behind it.
  void KnowAsSettled(wal::Lsn to) EXCLUDES(mutex_);

  // --- the reader ------------------------------------------------------------------------------
  enum class Offered : std::uint8_t {
    kTaken,         // in its queue, even if offered again; or left for later
    kFoundSettled,  // settled before: counts as found in the database
    kKnown,         // the same, and counted before
  };
  // Leaves the partition behind when its queue is full. Where all together are, nothing more is
  // taken before AdvanceTo.
  Offered Offer(const wal::RecordView& record, Monotonic now) EXCLUDES(mutex_);
  // The reader has offered everything below `next`: wakes the workers. It is to go on at
  // next_lsn(): there, or at the record that found no room.
  void AdvanceTo(wal::Lsn next) EXCLUDES(mutex_);
  // Nothing that the reader could offer would be taken.
  [[nodiscard]] bool is_blocked() const EXCLUDES(mutex_);
  [[nodiscard]] wal::Lsn next_lsn() const EXCLUDES(mutex_);

  // --- the catch-up reader ---------------------------------------------------------------------
  // Where it should read: the lowest position of a partition that was left behind and has room
  // again.
  [[nodiscard]] std::optional<wal::Lsn> CatchUpFrom() const EXCLUDES(mutex_);
  [[nodiscard]] bool has_left_behind() const EXCLUDES(mutex_);
  // Were there a record with this key at `lsn`, it would neither be settled nor in a queue.
  [[nodiscard]] bool HasMissed(std::uint64_t key, wal::Lsn lsn) const EXCLUDES(mutex_);
  // Offers a record out of a turn that began at `from`.
  void OfferLate(wal::Lsn from, const wal::RecordView& record, Monotonic now) EXCLUDES(mutex_);
  // Everything in [from, to] has been offered late.
  void AdvanceLate(wal::Lsn from, wal::Lsn to) EXCLUDES(mutex_);

  // --- workers ---------------------------------------------------------------------------------
  // When this worker's next batch is due; nothing when there is nothing to take.
  [[nodiscard]] std::optional<Monotonic> DueAt(std::uint32_t worker, Monotonic now) const
      EXCLUDES(mutex_);
  // A batch in LSN order: at most batch_records and batch_bytes, at least one; a barrier alone, by
  // worker 0. Valid until settled or Reset. Its partitions are the worker's until Release.
  // `is_full` (may be null): one of these bounds ended it, or a queue that held all it can.
  std::vector<QueuedRecord*> Take(std::uint32_t worker, bool* is_full = nullptr) EXCLUDES(mutex_);
  // Of a record in the worker's hands, with what is behind it in its partition (of a barrier,
  // everything): nothing more is taken from there before it is taken up again.
  void SetAside(const QueuedRecord& record) EXCLUDES(mutex_);
  void TakeUp(const QueuedRecord& record) EXCLUDES(mutex_);
  // Nothing is in the worker's hands any more, but for what it has set aside. `gives_up`: it is in
  // trouble; until it takes again, others may have its partitions.
  void Release(std::uint32_t worker, bool gives_up = false) EXCLUDES(mutex_);
  struct Settled {
    std::uint64_t applied = 0;
    std::uint64_t lettered = 0;
    std::uint64_t bytes = 0;  // of their bodies
    // Workers that gave some of it up, and have nothing in hand now: their trouble is over.
    std::vector<std::uint32_t> relieved;
  };
  // The watermarks have moved in the database: what that settles, each record told once, however
  // often it is brought. Before Settle, so that whoever waits for it finds the counters right.
  Settled Count(std::span<const storage::WatermarkMove> moves) EXCLUDES(mutex_);
  // Everything of these partitions up to there is settled.
  void Settle(std::uint32_t worker, std::span<const storage::WatermarkMove> moves, Monotonic now)
      EXCLUDES(mutex_);
  [[nodiscard]] std::vector<wal::Lsn> stored() const EXCLUDES(mutex_);

  // 1 to the number of partitions.
  void SetWorkers(std::uint32_t workers) EXCLUDES(mutex_);
  [[nodiscard]] std::uint32_t workers() const EXCLUDES(mutex_);
  // At least 1: of the batches to come.
  void SetBatchRecords(std::uint32_t records) EXCLUDES(mutex_);
  struct Fill {
    std::uint64_t records = 0, bytes = 0;
    double utilization = 0;  // of the fullest queue, or of the bound of all
  };
  [[nodiscard]] Fill fill() const EXCLUDES(mutex_);

  // --- positions and waiting -------------------------------------------------------------------
  // Records that were offered, were not taken in then, and will not be offered again, once the
  // reader (or, with `late_from`, the catch-up reader) has advanced to `next`: their files were
  // damaged meanwhile. Each told once; before advancing, so that whoever waits for it finds the
  // counters right.
  std::uint64_t TakeLost(wal::Lsn next, std::optional<wal::Lsn> late_from = {}) EXCLUDES(mutex_);
  // Records that were offered and have not been told of since: by Offer as found settled, by Count,
  // or by TakeLost.
  [[nodiscard]] std::uint64_t Unsettled() const EXCLUDES(mutex_);
  [[nodiscard]] wal::Lsn settled_lsn() const EXCLUDES(mutex_);
  [[nodiscard]] wal::Lsn settled_lsn(std::uint32_t partition) const EXCLUDES(mutex_);
  // How far all is settled, and the watermarks of that moment.
  [[nodiscard]] std::pair<wal::Lsn, std::vector<wal::Lsn>> Positions() const EXCLUDES(mutex_);

  // The highest LSN that a caller in WaitSettled waits for; 0: nobody waits.
  [[nodiscard]] wal::Lsn awaited_lsn() const EXCLUDES(mutex_);
  // True when `lsn` is settled; false on the deadline, a stop, or Interrupt.
  bool WaitSettled(wal::Lsn lsn, const wal::Deadline& deadline, Clock& clock) EXCLUDES(mutex_);
  // Sleeps until something has changed since change(), at most `longest`.
  void WaitForChange(std::uint64_t seen, std::chrono::nanoseconds longest) EXCLUDES(mutex_);
  [[nodiscard]] std::uint64_t change() const EXCLUDES(mutex_);
  void Wake() EXCLUDES(mutex_);
  // Ends all WaitSettled, now and later (until Reset).
  void Interrupt() EXCLUDES(mutex_);

 private:
  static constexpr std::uint32_t kNobody = UINT32_MAX;

  struct Queue {
    std::deque<QueuedRecord> records;
    std::size_t bytes = 0;
    wal::Lsn offered = 0;      // the last record taken in
    wal::Lsn start = 0;        // settled when the log was contacted
    wal::Lsn stored = 0;       // watermark in the database
    wal::Lsn counted = 0;      // everything up to here has been counted as settled
    wal::Lsn seen = 0;         // the last record offered, ever
    std::uint64_t owed = 0;    // records up to there that are neither here nor counted
    bool is_behind = false;
    wal::Lsn resume = 0;       // first LSN not offered, while behind
    std::uint32_t holder = kNobody;  // the worker that has records of it in hand
    bool is_aside = false;           // the holder has set them aside
    std::vector<std::uint32_t> given_up_by;  // workers, since it was last settled further
    bool is_full = false;      // in this turn of the catch-up reader
    std::size_t needs = 0;     // room that the record at `resume` did not find
  };
  // A record and its place in the bound of all queues together.
  struct Room {
    wal::Lsn lsn = 0;
    std::size_t bytes = 0;
  };

  [[nodiscard]] bool HasRoom(const Queue& queue) const;
  [[nodiscard]] bool Fits(std::size_t bytes) const REQUIRES(mutex_);
  [[nodiscard]] bool IsOldest(wal::Lsn lsn, std::optional<wal::Lsn> late_from) const
      REQUIRES(mutex_);
  [[nodiscard]] bool MayEnter(const Room& room, std::optional<wal::Lsn> late_from) const
      REQUIRES(mutex_);
  Queue& QueueOf(const QueuedRecord& record) REQUIRES(mutex_);
  void Push(Queue* queue, std::uint32_t partition, const wal::RecordView& record, Monotonic now)
      REQUIRES(mutex_);
  static Offered FoundSettled(Queue* queue, wal::Lsn lsn);
  static void See(Queue* queue, wal::Lsn lsn);
  [[nodiscard]] static std::uint64_t UnsettledIn(const Queue& queue);
  static void KeepAccount(const Queue& before, Queue* fresh);
  [[nodiscard]] wal::Lsn SettledOf(const Queue& queue) const REQUIRES(mutex_);
  [[nodiscard]] wal::Lsn SettledOfAll() const REQUIRES(mutex_);
  [[nodiscard]] wal::Lsn TakeLimit() const REQUIRES(mutex_);
  [[nodiscard]] bool IsBarrierReady() const REQUIRES(mutex_);
  std::vector<QueuedRecord*> TakeMerged(std::uint32_t worker, bool* is_full) REQUIRES(mutex_);
  [[nodiscard]] bool MayTake(std::uint32_t worker, std::uint32_t partition) const REQUIRES(mutex_);
  [[nodiscard]] bool IsOfBarrier(std::span<const storage::WatermarkMove> moves) const
      REQUIRES(mutex_);
  static void CountUpTo(Queue* queue, wal::Lsn to, Settled* settled);
  [[nodiscard]] bool IsRelieved(std::uint32_t worker) const REQUIRES(mutex_);
  void DropUpTo(Queue* queue, wal::Lsn to) REQUIRES(mutex_);
  void Changed() REQUIRES(mutex_);

  const Limits limits_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::uint64_t changes_ GUARDED_BY(mutex_) = 0;
  std::vector<Queue> queues_ GUARDED_BY(mutex_);
  Queue barriers_ GUARDED_BY(mutex_);          // in LSN order
  wal::Lsn next_lsn_ GUARDED_BY(mutex_) = 1;   // the reader's
  std::size_t bytes_ GUARDED_BY(mutex_) = 0;   // in all queues
  // The one record that was let in although there was no room: it takes none from others.
  Room beyond_ GUARDED_BY(mutex_);
  // The first record that found no room, in the reader's turn; and after it, at next_lsn_.
  std::optional<Room> stopped_ GUARDED_BY(mutex_);
  std::optional<Room> awaits_ GUARDED_BY(mutex_);
  struct WorkerState {
    Monotonic last_flush{};
    std::uint32_t held = 0;   // partitions
    bool has_given_up = false;
  };
  // As many as there can ever be: one for each partition.
  std::vector<WorkerState> worker_states_ GUARDED_BY(mutex_);
  std::uint32_t workers_ GUARDED_BY(mutex_);
  std::uint32_t batch_records_ GUARDED_BY(mutex_);
  std::vector<wal::Lsn> awaited_ GUARDED_BY(mutex_);      // one entry per waiting caller
  bool is_interrupted_ GUARDED_BY(mutex_) = false;
};

}  // namespace taskwal::pipeline

// Log: a durable, ordered, gap-free sequence of opaque records in one directory. The folder's one
// entry.
//
//   Append ─▶ ring (mapped) ─▶ frames ─▶ segment file ─▶ fdatasync ─▶ durable position ─▶ Tail,
//   Retire
//
// Any thread may call any method. Append takes no lock, allocates nothing and makes no system call
// while there is room. Opening is two steps: recovery::PrepareLog repairs the directory's end and
// yields a LogStart, Open takes it from there.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "taskwal/options.h"
#include "taskwal/stats.h"
#include "taskwal/status.h"
#include "wal/record.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::wal {

struct LogOptions {
  std::string directory;
  std::uint64_t ring_bytes = 16u << 20;
  std::uint64_t segment_bytes = 64u << 20;
  std::uint64_t segment_records_max = 0;  // 0: bytes alone decide
  std::uint64_t frame_bytes = 256u << 10;
  bool compression = false;
  std::uint32_t sync_lanes = 2;
  std::chrono::milliseconds sync_interval{500};
  std::uint64_t quota_bytes = 16ull << 30;
  std::uint64_t retention_bytes = 1ull << 30;
  std::chrono::milliseconds segment_retention = std::chrono::hours(24);
  // Keys under which Lookup finds a record. Empty: the record's own key, for every record.
  void (*index_keys)(const RecordView& record, std::vector<std::uint64_t>* keys) = nullptr;
  // False: no thread is started; the caller drives WriterStep() and MaintenanceStep() (tests).
  bool start_threads = true;
};

// What recovery found; the lock is handed over to the log.
struct LogStart {
  std::unique_ptr<FileLock> lock;
  LogState state;  // epoch as found: Open raises it, synced, before anything else
  std::vector<std::uint64_t> segments;  // numbers present, ascending; all sealed or damaged
  std::uint64_t next_segment = 1;       // higher than any number ever used
  Lsn next_lsn = 1;  // everything below is on disk and synced, or reported as lost
  std::uint64_t stamp = 0;              // highest seen
};

// When a wait must end. Default: never.
struct Deadline {
  Monotonic at = Monotonic::max();
  std::stop_token stop;
};

struct LogStats {
  Lsn end_lsn = 0, written_lsn = 0, durable_lsn = 0;
  std::uint64_t rescued = 0;       // records taken out of the ring at open
  std::uint64_t lost = 0;          // LSNs declared lost by a failed sync since open
  std::uint64_t segments = 0, log_bytes = 0, unflushed_bytes = 0;
  std::uint64_t bytes_written = 0, writes = 0, syncs = 0;
  std::uint64_t segments_active = 0;    // not sealed; part of segments
  std::uint64_t segments_flushing = 0;  // sealed, and not all settled
  LatencySummary sync_time;             // of one write and sync
  double ring_utilization = 0;
  bool full = false;               // quota or disk: appends wait
  std::string full_reason;         // where full
  bool lacks_segment = false;      // full, as no file can be made
};

class Log {
 public:
  // Takes what the ring of a killed process still holds, raises the epoch, starts a new segment.
  static Result<std::unique_ptr<Log>> Open(FileSystem& fs, Clock& clock, LogOptions options,
                                           LogStart start);
  // As Abandon() when Close() was not called.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // --- appending ---------------------------------------------------------------------------
  // Room for one record of `body_bytes`, to be filled and then published by the same thread, soon:
  // nothing behind it is written before. Until then `header.target` may still be changed, as who
  // has room knows that the record comes. Waits for room until the deadline (kOverloaded, nothing
  // kept). kIoError: read-only. kClosed. kInvalidArgument: over kRecordBodyBytesMax.
  struct Reservation {
    std::span<std::byte> body;
    Lsn lsn = 0;
    std::byte* slot = nullptr;                 // in the ring
    std::unique_ptr<std::byte[]> large;        // a record too large for the ring
    RecordHeader header;
  };
  Result<Reservation> Reserve(const RecordHeader& header, std::size_t body_bytes, Durability level,
                              const Deadline& deadline);
  // Acknowledged at levels `memory` and `process` on an OK return. A record too large for the ring
  // is written to the OS before it returns (kInDoubt with its LSN when that fails, or takes longer
  // than until the deadline).
  Status Publish(Reservation reservation, const Deadline& deadline = {});
  // Whether a record of so many bytes is too large for the ring.
  [[nodiscard]] bool IsLarge(std::size_t body_bytes) const;

  // Reserve (until `room_until`), encode(span), Publish.
  template <typename Encode>
  Result<Lsn> Append(const RecordHeader& header, std::size_t body_bytes, Durability level,
                     const Deadline& room_until, Encode&& encode, const Deadline& deadline = {}) {
    Result<Reservation> room = Reserve(header, body_bytes, level, room_until);
    if (!room.ok()) return room.status();
    const Lsn lsn = room->lsn;
    encode(room->body);
    Status published = Publish(std::move(room).value(), deadline);
    if (!published.ok()) return published;
    return lsn;
  }

  // --- waiting -------------------------------------------------------------------------------
  // Until every record up to `lsn` is on disk (fdatasync). The caller may do the write and the sync
  // itself; others ride along. kUnavailable when the deadline passes, kIoError when the log broke,
  // or has lost that record.
  Status WaitDurable(Lsn lsn, const Deadline& deadline);
  // kIoError where a failed write or sync has cost the record, which the durable position passes.
  [[nodiscard]] Status CheckKept(Lsn lsn) const;
  // Until every record up to `lsn` stands in a segment file (written, not synced).
  Status WaitWritten(Lsn lsn, const Deadline& deadline);
  // Until something beyond `lsn` stands in a segment file. False when the deadline passed first, or
  // where a stop was requested and then told by WakeReaders().
  bool WaitForMore(Lsn lsn, const Deadline& deadline);
  void WakeReaders();

  [[nodiscard]] Lsn end_lsn() const;      // last LSN given out
  [[nodiscard]] Lsn written_lsn() const;
  [[nodiscard]] Lsn durable_lsn() const;
  // At least the stamp of every record so far and of every one told to RaiseStamp; microseconds.
  [[nodiscard]] std::uint64_t NextStamp(Time now);
  void RaiseStamp(std::uint64_t seen);

  // --- reading -------------------------------------------------------------------------------
  [[nodiscard]] TailReader Tail(Lsn from);
  // Visits the records of `key` with LSN >= from that stand in segments, newest first, until
  // `visit` returns false. Records still in the ring are written (not synced) first; those appended
  // since the call began are passed over. The view is
  // valid only inside the call; no lock is held in it. A segment that is retired meanwhile is
  // passed over. kCorruption when a needed frame is damaged.
  Status Lookup(std::uint64_t key, Lsn from, const std::function<bool(const RecordView&)>& visit,
                const Deadline& deadline = {});

  // --- space ---------------------------------------------------------------------------------
  // Everything up to `flushed` is settled in this target: segments below the lowest of all targets
  // may go once retention allows it, after STATE with `watermarks` (by partition, may be empty) and
  // db_id is on disk.
  Status Retire(Lsn flushed, const std::vector<Lsn>& watermarks, std::uint16_t target = 0);
  // The target may need again what it had settled: from here on nothing of it that is left from
  // `lsn` on goes, until Retire is called for it.
  void KeepFrom(Lsn lsn, std::uint16_t target = 0);
  // What STATE holds now. SetState replaces the identity parts (db_id, copied, lost…), durable on
  // return.
  [[nodiscard]] LogState state() const;
  Status SetState(const std::function<void(LogState*)>& change);
  [[nodiscard]] std::uint64_t epoch() const;
  [[nodiscard]] Lsn first_lsn() const;   // oldest record kept
  [[nodiscard]] LogStats GetStats() const;
  void ResetTimes();  // the latencies start over
  // OK, or why the log is read-only.
  [[nodiscard]] Status health() const;

  // --- life ----------------------------------------------------------------------------------
  // One turn of the background work; true when something was done.
  bool WriterStep();        // ring -> frame -> file; idle frame; sync interval
  bool MaintenanceStep();   // spare files, sealing, recycling
  // No more appends; writes, syncs and seals what there is. kUnavailable: the disk stays full, the
  // ring keeps the rest for the next open. Second call: the first one's result. `turns`: asked
  // behind the last record for LogState::turns, of which the log knows nothing itself.
  Status Close(const std::function<std::uint64_t()>& turns = nullptr);
  // Stops the threads and leaves everything as a kill would.
  void Abandon();

 private:
  struct Impl;
  explicit Log(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::wal

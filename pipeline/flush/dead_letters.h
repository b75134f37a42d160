// The durable store of what no database will ever take, in <wal>/dead-letters/: rejected records
// and declared losses, keyed by (wal_id, LSN). A letter is synced before the watermark passes its
// record, and final: a replay skips an LSN that has one. Append-only (letter_file.h); indexed in
// memory at open (keys and task ids, not bodies). Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "base/uuid.h"
#include "storage/operation.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::pipeline {

struct DeadLetter {
  enum class Kind : std::uint8_t { kRejected, kLoss } kind = Kind::kRejected;
  Uuid wal_id;
  wal::LsnRange lsns;            // one LSN for a rejected record
  std::uint64_t stamp = 0;
  storage::OperationType type{};
  std::vector<std::byte> body;   // as in the log; empty for a loss
  std::string task_id;           // empty where there is none
  std::string error;             // the database's, or what was found on disk
  std::string sql_code;
  std::uint32_t attempts = 0;
  Time first_failed{}, last_failed{};
  std::string backend;           // name of the target, masked
  [[nodiscard]] std::string id() const;  // "<wal_id>-<lsn>": what `dlq show` takes
};

class DeadLetters {
 public:
  // Reads what is there; a torn last entry (never synced) is cut off, damage in older ones is
  // reported through `damage` and passed over. `read_only` changes nothing (beside a live process).
  static Result<std::unique_ptr<DeadLetters>> Open(FileSystem& fs, const std::string& wal_directory,
                                                   bool read_only,
                                                   std::vector<std::string>* damage = nullptr);
  ~DeadLetters();

  // Durable on return. Adding what is there already changes nothing and is OK; of a loss only the
  // LSNs that no other loss covers are added. kUnavailable: no space, try again.
  Status Add(const DeadLetter& letter);
  // Whether this record was rejected. A declared loss is no letter of its records: should one turn
  // up after all, it is brought.
  [[nodiscard]] bool Contains(const Uuid& wal_id, wal::Lsn lsn) const;
  // A save of this task below `before` was lettered, and no save or delete since has cleared it:
  // partial operations at `before` follow it.
  [[nodiscard]] bool HoldsSaveOf(const std::string& task_id, wal::Lsn before = UINT64_MAX) const;
  // From `lsn` on, a save or delete about to be applied, nothing follows any more. Durable on
  // return: a restart in between must not send later operations after the letter. A letter at the
  // very `lsn` (the save was refused after all) prevails.
  Status ClearTask(const std::string& task_id, wal::Lsn lsn);
  [[nodiscard]] std::uint64_t count() const;   // rejected records (not losses)
  [[nodiscard]] std::uint64_t lost() const;    // LSNs in losses
  // In the order they were added, until `visit` returns false. kCorruption: an entry that was sound
  // at open is not any more.
  Status ForEach(const std::function<bool(const DeadLetter&)>& visit) const;

 private:
  struct Impl;
  explicit DeadLetters(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::pipeline

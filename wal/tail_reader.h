// Follows the log from an LSN across segments: the flusher, dump and recovery read through this
// alone.
//
// What it yields is gap-free: every LSN from the start on is in exactly one frame or one loss. A
// segment counts only up to the first LSN in the next segment's header. Not thread-safe; works
// beside the log's writer (give `Next` the durable position as the limit) and beside other readers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {

struct TailEvent {
  enum class Kind : std::uint8_t {
    kFrame,  // `frame` holds records from position() on (skip its records below `from`)
    kLoss,   // no valid frame holds the records of `loss`
    kEnd,    // nothing more up to the limit
  };
  Kind kind = Kind::kEnd;
  LsnRange loss;
  bool declared = false;  // of a loss: salvage declared it before, so it is no damage any more
  std::string detail;     // of a loss: file, offset and what was found there
  Lsn from = 0;           // of a frame: the first record that counts
  Lsn to = 0;             // and the last
};

struct TailSource {
  std::string directory;
  std::vector<Uuid> wal_ids;
  // Segments below this LSN were retired on purpose: reading starts here at the earliest.
  Lsn first_lsn = 1;
  std::vector<LsnRange> declared;  // LogState::lost; told as losses marked `declared`
};

class TailReader {
 public:
  TailReader(FileSystem& fs, TailSource source, Lsn from);
  ~TailReader();

  // Reads on up to `limit` (inclusive). Below `limit` every LSN must exist: what is not found there
  // is a loss. kIoError when a file cannot be read.
  Result<TailEvent> Next(Lsn limit, Frame* frame);
  // The next LSN that Next will look for.
  [[nodiscard]] Lsn position() const;
  void SeekTo(Lsn lsn);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::wal

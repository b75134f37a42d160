// The segments of a directory in order, their headers read only when asked for: which of them holds
// an LSN. Opening a reader on 1,024 segments reads about as many headers as on 8.
//
// A segment owns the LSNs from its own first one on, up to the first LSN of any later segment:
// after a failed sync a fresh segment starts over behind the durable position, below what older
// ones hold. Not thread-safe; works beside the log's writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::wal {

class SegmentChain {
 public:
  static constexpr Lsn kNever = UINT64_MAX;

  SegmentChain(FileSystem& fs, std::string directory, std::vector<Uuid> wal_ids)
      : fs_(fs), directory_(std::move(directory)), wal_ids_(std::move(wal_ids)) {}

  // Lists the directory again; what is known of segments still there is kept.
  Status Refresh();
  // Looks for the one file that a writer would have made since: cheaper than Refresh.
  Status LookForNext();

  // Number of the segment that owns `lsn`; nothing when `lsn` lies before them all.
  Result<std::optional<std::uint64_t>> OwnerOf(Lsn lsn);
  // The lowest first LSN of the segments behind `number`: where they take over. Exact as far as
  // LSNs up to `upto` are concerned; kNever when there is none.
  Result<Lsn> TakeoverBehind(std::uint64_t number, Lsn upto);
  [[nodiscard]] const std::vector<Uuid>& wal_ids() const { return wal_ids_; }

 private:
  struct Link {
    std::uint64_t number = 0;
    bool is_read = false;
    bool counts = false;      // a segment of this log that holds records or may come to hold some
    bool has_synced = false;  // its header is intact
    Lsn first_lsn = 0;
    Lsn synced_lsn = 0;
  };

  Result<const Link*> Read(std::size_t index);
  Status ReadFirstFrame(class SegmentReader& reader, Link* link);
  Result<std::size_t> FirstSyncedFrom(Lsn lsn);

  FileSystem& fs_;
  const std::string directory_;
  const std::vector<Uuid> wal_ids_;
  std::vector<Link> links_;  // ascending
};

}  // namespace taskwal::wal

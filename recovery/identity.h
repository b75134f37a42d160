// Who a log directory is: STATE, or what can be rebuilt of it, and whether the machine was started
// anew since the directory was last written. Reads only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/state_file.h"

namespace taskwal::recovery {

struct LogIdentity {
  wal::LogState state;
  bool state_damaged = false;  // missing though there is a log, or not valid: `state` was rebuilt
  std::string state_detail;    // why
  bool targets_damaged = false;  // TARGETS is there and does not validate
  std::string targets_detail;    // why
  bool other_boot = true;      // the page cache was lost since: true too where nobody can tell
  // Without a power cut since, the segments hold everything up to here, synced or not: the ring of
  // the killed process says so.
  wal::Lsn written_lsn = 0;

  // Its own, and those it had before.
  [[nodiscard]] std::vector<Uuid> wal_ids() const;
};

// `segments`: numbers present. kNotFound when there is nothing of a log; kCorruption when STATE is
// damaged and nothing is left to rebuild it from.
Result<LogIdentity> ReadIdentity(FileSystem& fs, const std::string& directory,
                                 const std::vector<std::uint64_t>& segments);

}  // namespace taskwal::recovery

// The frames that a log directory holds, told by the bytes alone: what a bad disk may be asked
// about. Segments whose own header does not validate count as holding none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/simulated_file_system.h"
#include "wal/record.h"

namespace taskwal {

struct LiveFrame {
  std::string path;
  std::uint64_t offset = 0;
  wal::LsnRange lsns;          // empty: of a footer, or a frame that only names what is synced
  wal::Lsn synced_lsn = 0;     // that it names
  std::string bytes;           // its header and its body
};

// By segment and offset. What a younger segment makes void is left out.
std::vector<LiveFrame> LiveFrames(SimulatedFileSystem& disk, const std::string& directory);

// The highest LSN that any of them names as synced.
wal::Lsn NamedSynced(const std::vector<LiveFrame>& frames);

// Whether each of these LSNs stands in one of them.
bool HoldsAll(const std::vector<LiveFrame>& frames, const wal::LsnRange& lsns);

// Those that are not in the directory any more as they were.
std::vector<LiveFrame> Changed(SimulatedFileSystem& disk, const std::vector<LiveFrame>& frames);

}  // namespace taskwal

// Writes again, before a log is opened, what stands at its end and nothing names as synced.
//
// A killed process may have been told, or not have lived to hear, that a sync has failed. The
// kernel tells of that once and calls the pages clean (PostgreSQL 2018; Rebello et al., ATC '20):
// they are read as they should be, a sync says OK, and a power cut takes them. And none of them may
// be written over in its place: it may be on disk, acknowledged as durable, and a power cut in the
// midst of the write would take that. So the records go to fresh segments, as they do where a
// process lives to see its sync fail.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/file_system.h"
#include "recovery/survey.h"
#include "recovery/tail_repair.h"
#include "taskwal/status.h"
#include "wal/segment_file.h"

namespace taskwal::recovery {

// The segments made, with numbers from `next_number` on: durable, not sealed, with every record of
// the survey that counts and is not known to be on disk. None where there is none, or where the
// survey has lost any: that is for salvage. A crash anywhere leaves each record where it was, or in
// the new segments too. kUnavailable: the disk has no room for them. `builders` has seen the frames
// of the survey. Reads again what it writes, and nothing else.
Result<std::vector<std::unique_ptr<wal::SegmentFile>>> RewriteTail(FileSystem& fs,
                                                                   const Survey& survey,
                                                                   const FooterBuilders& builders,
                                                                   std::uint64_t next_number,
                                                                   IndexKeys index_keys);

}  // namespace taskwal::recovery

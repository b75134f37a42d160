// What one segment file holds, without any judgement: the ground on which verdicts are given. Its
// size does not depend on the number of frames, only on the number of gaps and damaged places.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "taskwal/status.h"
#include "wal/format.h"
#include "wal/record.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {

// Valid frames one behind the other whose LSNs follow each other.
struct FrameRun {
  wal::LsnRange lsns;
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
};

// Bytes that belong to no valid frame, though a frame stood or may have stood there.
struct BadRegion {
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  bool only_zeros = false;
  bool is_padding = false;  // bytes that must be zero, behind a valid frame
  wal::LsnRange named;      // by an intact frame header: its own, or of the frame that it pads
  std::string detail;
};

struct SegmentFacts {
  std::uint64_t number = 0;
  wal::HeaderState header_state = wal::HeaderState::kEmpty;
  wal::SegmentHeader header{};  // as SegmentReader::header()
  bool header_padding_clean = true;
  Uuid wal_id;              // that its frames validate under
  std::uint64_t epoch = 0;  // of its header, else of its frames
  std::uint64_t file_bytes = 0;
  bool has_footer = false;      // a valid one, at the very end
  bool was_sealed = false;      // has one, or had one for certain
  bool broken_footer = false;   // one that does not validate, or does not end the file: damaged,
                                // or left so by a power cut while sealing
  wal::FooterSummary footer{};  // where has_footer
  std::uint64_t frames_end = wal::kSegmentHeaderBytes;  // behind the last valid frame
  std::vector<FrameRun> runs;                           // in file order
  std::vector<BadRegion> bad;                           // in file order
  std::uint64_t frames = 0;                             // valid ones, empty ones included
  std::uint64_t records = 0;
  wal::Lsn synced_lsn = 0;  // highest named by header, frames or footer
};

using FrameVisitor = std::function<void(const wal::Frame& frame)>;

// Reads the whole segment from its first frame on; `visit` (may be empty) is told each valid frame.
Result<SegmentFacts> ReadSegment(wal::SegmentReader& reader, const FrameVisitor& visit);
// Of a sealed segment, from header and footer alone: its frames are believed to be there.
Result<SegmentFacts> FactsOfSealed(const wal::SegmentReader& reader,
                                   const wal::FooterSummary& footer);

}  // namespace taskwal::recovery

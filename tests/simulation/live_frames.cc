#include "tests/simulation/live_frames.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "base/checksum.h"
#include "wal/format.h"
#include "wal/frame.h"
#include "wal/log_directory.h"

namespace taskwal {
namespace {

struct Segment {
  std::string path;
  std::string content;
  wal::SegmentHeader header;
};

std::vector<Segment> ReadSegments(SimulatedFileSystem& disk, const std::string& directory) {
  std::vector<Segment> segments;
  const auto numbers = wal::ListSegments(disk, directory);
  if (!numbers.ok()) return segments;
  for (const std::uint64_t number : *numbers) {
    const std::string path = wal::JoinPath(directory, wal::SegmentName(number));
    std::string content = disk.Content(path);
    wal::SegmentHeader header{};
    if (content.size() < sizeof header) continue;
    std::memcpy(&header, content.data(), sizeof header);
    const auto checked = std::as_bytes(std::span(&header, 1)).first(sizeof header - 8);
    if (header.checksum != Checksum(checked) || header.number != number) {
      // Its frames validate by themselves, and it voids nothing.
      header = {};
      header.number = number;
      header.header_bytes = wal::kSegmentHeaderBytes;
      header.first_lsn = UINT64_MAX;
    }
    segments.push_back({path, std::move(content), header});
  }
  // The name of the log is that of those next to it.
  const auto with_header =
      std::find_if(segments.begin(), segments.end(),
                   [](const Segment& s) { return s.header.first_lsn != UINT64_MAX; });
  for (Segment& segment : segments) {
    if (segment.header.first_lsn != UINT64_MAX || with_header == segments.end()) continue;
    std::memcpy(segment.header.wal_id.bytes.data(), with_header->header.wal_id.bytes.data(),
                sizeof segment.header.wal_id);
  }
  return segments;
}

void AddFrames(const Segment& segment, wal::Lsn void_from, std::vector<LiveFrame>* frames) {
  const auto bytes = std::as_bytes(std::span(segment.content));
  const wal::SegmentHeader& of = segment.header;
  for (std::uint64_t at = of.header_bytes; at + sizeof(wal::FrameHeader) <= bytes.size();) {
    wal::FrameHeader header{};
    const bool is_whole =
        wal::IsFrameHeader(bytes.subspan(at, sizeof header), at, of.wal_id, of.number, of.epoch,
                           &header) &&
        sizeof header + header.body_bytes <= bytes.size() - at &&
        wal::IsFrameBody(header, of.wal_id, of.number,
                         bytes.subspan(at + sizeof header, header.body_bytes));
    if (!is_whole) {
      at += wal::kSectorBytes;
      continue;
    }
    const wal::LsnRange lsns{header.first_lsn, header.first_lsn + header.count - 1};
    if (lsns.to < void_from || lsns.empty()) {
      frames->push_back({segment.path, at, lsns, header.synced_lsn,
                         segment.content.substr(at, sizeof header + header.body_bytes)});
    }
    at += wal::FrameBytesOnDisk(header);
  }
}

}  // namespace

std::vector<LiveFrame> LiveFrames(SimulatedFileSystem& disk, const std::string& directory) {
  const std::vector<Segment> segments = ReadSegments(disk, directory);
  std::vector<LiveFrame> frames;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    wal::Lsn void_from = UINT64_MAX;
    for (std::size_t later = i + 1; later < segments.size(); ++later) {
      void_from = std::min(void_from, wal::Lsn{segments[later].header.first_lsn});
    }
    AddFrames(segments[i], void_from, &frames);
  }
  return frames;
}

wal::Lsn NamedSynced(const std::vector<LiveFrame>& frames) {
  wal::Lsn named = 0;
  for (const LiveFrame& frame : frames) named = std::max(named, frame.synced_lsn);
  return named;
}

bool HoldsAll(const std::vector<LiveFrame>& frames, const wal::LsnRange& lsns) {
  wal::Lsn next = lsns.from;
  // In the order of the log, and each frame is live from its first LSN on.
  for (const LiveFrame& frame : frames) {
    if (frame.lsns.from <= next && next <= frame.lsns.to) next = frame.lsns.to + 1;
  }
  return next > lsns.to;
}

std::vector<LiveFrame> Changed(SimulatedFileSystem& disk, const std::vector<LiveFrame>& frames) {
  std::vector<LiveFrame> changed;
  std::string path;
  std::string content;
  for (const LiveFrame& frame : frames) {
    if (path != frame.path) {
      path = frame.path;
      content = disk.Exists(path) ? disk.Content(path) : std::string();
    }
    const bool is_there = content.size() >= frame.offset &&
                          content.compare(frame.offset, frame.bytes.size(), frame.bytes) == 0;
    if (!is_there) changed.push_back(frame);
  }
  return changed;
}

}  // namespace taskwal

#include "recovery/segment_facts.h"

#include <algorithm>

#include "base/byte_codec.h"
#include "base/status_macros.h"

namespace taskwal::recovery {

namespace {

using wal::SegmentEvent;

Result<SegmentFacts> FactsOfHeader(const wal::SegmentReader& reader) {
  SegmentFacts facts;
  facts.number = reader.number();
  facts.header_state = reader.header_state();
  facts.header = reader.header();
  facts.header_padding_clean = reader.header_padding_clean();
  facts.wal_id = reader.wal_id();
  TASKWAL_ASSIGN(facts.file_bytes, reader.FileBytes());
  if (facts.header_state == wal::HeaderState::kValid) {
    facts.epoch = facts.header.epoch;
    facts.synced_lsn = facts.header.synced_lsn;
  }
  return facts;
}

void AddFrame(const wal::Frame& frame, SegmentFacts* facts) {
  const wal::FrameHeader& header = frame.header;
  ++facts->frames;
  facts->records += header.count;
  facts->epoch = header.epoch;
  facts->synced_lsn = std::max(facts->synced_lsn, header.synced_lsn);
  facts->frames_end = frame.end_offset;
  if (header.count == 0) return;
  const bool bad_between = !facts->bad.empty() && !facts->runs.empty() &&
                           facts->bad.back().offset >= facts->runs.back().offset;
  if (!facts->runs.empty() && !bad_between && facts->runs.back().lsns.to + 1 == header.first_lsn) {
    facts->runs.back().lsns.to = frame.last_lsn();
    facts->runs.back().end_offset = frame.end_offset;
  } else {
    facts->runs.push_back({{header.first_lsn, frame.last_lsn()}, frame.offset, frame.end_offset});
  }
}

void AddFooter(const wal::Frame& frame, SegmentFacts* facts) {
  facts->footer = LoadLittle<wal::FooterSummary>(frame.raw.data());
  facts->has_footer = facts->was_sealed = true;
  facts->epoch = frame.header.epoch;
  facts->synced_lsn = std::max(facts->synced_lsn, facts->footer.synced_lsn);
}

void AddBadBytes(const SegmentEvent& event, const wal::Frame& before, SegmentFacts* facts) {
  BadRegion region{event.offset, event.end_offset, event.only_zeros, event.is_padding,
                   {},           event.detail};
  const bool is_of_frame = event.is_padding && before.end_offset == event.end_offset;
  if (is_of_frame && before.header.count > 0) {
    region.named = {before.header.first_lsn, before.last_lsn()};
  } else if (event.named_count > 0) {
    region.named = {event.named_first, event.named_first + event.named_count - 1};
  }
  if (facts->has_footer && event.end_offset > facts->file_bytes) {  // not written to its end
    facts->has_footer = facts->was_sealed = false;
  } else if (facts->has_footer && !event.is_padding) {  // bytes behind it
    facts->has_footer = false;
    facts->broken_footer = true;
    // No writer leaves a part of a sector.
    facts->was_sealed = facts->file_bytes % wal::kSectorBytes != 0;
  } else {
    facts->broken_footer = facts->broken_footer || event.resembles_footer;
  }
  facts->bad.push_back(std::move(region));
}

}  // namespace

Result<SegmentFacts> ReadSegment(wal::SegmentReader& reader, const FrameVisitor& visit) {
  TASKWAL_ASSIGN(SegmentFacts facts, FactsOfHeader(reader));
  if (facts.header_state == wal::HeaderState::kForeign ||
      facts.header_state == wal::HeaderState::kOtherVersion) {
    return facts;
  }
  reader.SeekTo(wal::kSegmentHeaderBytes);
  wal::Frame frame;
  while (true) {
    TASKWAL_ASSIGN(const SegmentEvent event, reader.Next(&frame));
    if (event.kind == SegmentEvent::Kind::kEnd) {
      // Else it is zeros, or what an older use of the file left.
      const bool is_ours = event.resembles_footer || event.detail == "frame header";
      if (is_ours) AddBadBytes(event, frame, &facts);
      break;
    }
    if (event.kind == SegmentEvent::Kind::kBadBytes) {
      AddBadBytes(event, frame, &facts);
    } else if (event.kind == SegmentEvent::Kind::kFooter) {
      AddFooter(frame, &facts);
    } else {
      AddFrame(frame, &facts);
      if (visit) visit(frame);
    }
  }
  facts.wal_id = reader.wal_id();
  return facts;
}

Result<SegmentFacts> FactsOfSealed(const wal::SegmentReader& reader,
                                   const wal::FooterSummary& footer) {
  TASKWAL_ASSIGN(SegmentFacts facts, FactsOfHeader(reader));
  facts.has_footer = facts.was_sealed = true;
  facts.footer = footer;
  facts.frames = footer.frames;
  facts.records = footer.last_lsn + 1 - footer.first_lsn;
  facts.synced_lsn = std::max(facts.synced_lsn, footer.synced_lsn);
  facts.frames_end = facts.file_bytes;
  if (footer.first_lsn <= footer.last_lsn) {
    facts.runs.push_back(
        {{footer.first_lsn, footer.last_lsn}, wal::kSegmentHeaderBytes, facts.file_bytes});
  }
  return facts;
}

}  // namespace taskwal::recovery

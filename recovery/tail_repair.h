// Brings the end of a log into order before it is opened: cuts what is torn (a copy goes to
// quarantine/) and what stands again in a later segment, syncs and seals the segments that nobody
// sealed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "recovery/survey.h"
#include "taskwal/status.h"
#include "wal/format.h"
#include "wal/record.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {

// The keys under which a record is to be found; null: its own key.
using IndexKeys = void (*)(const wal::RecordView& record, std::vector<std::uint64_t>* keys);

// What a footer needs to know of its segment, gathered while the segment is read (SurveyOptions::
// on_frame) or written.
class FooterBuilder {
 public:
  explicit FooterBuilder(IndexKeys index_keys) : index_keys_(index_keys) {}
  void Add(const wal::Frame& frame);

  struct Mark {
    std::uint64_t offset = 0;
    std::uint64_t end_offset = 0;
    wal::LsnRange lsns;         // empty: a frame without records
    std::uint64_t stamp = 0;    // highest up to here
    std::size_t index_end = 0;  // entries up to here
  };
  [[nodiscard]] const std::vector<Mark>& marks() const { return marks_; }
  [[nodiscard]] std::uint64_t stamp() const { return marks_.empty() ? 0 : marks_.back().stamp; }
  // The footer of a segment that keeps the first `frames` frames, to be put behind them; records
  // above `last_lsn` do not count. `synced_lsn`: what is known to be on disk in the whole log.
  struct Place {
    wal::SegmentHeader header;
    std::size_t frames = 0;
    wal::Lsn last_lsn = 0;
    wal::Lsn synced_lsn = 0;
  };
  [[nodiscard]] std::vector<std::byte> Finish(const Place& place) const;

 private:
  IndexKeys index_keys_;
  std::vector<std::uint64_t> keys_;  // of one record
  std::vector<Mark> marks_;
  std::vector<wal::FooterEntry> index_;
};

using FooterBuilders = std::map<std::uint64_t, FooterBuilder>;  // by segment number

// Whether it has no footer and gets one; not what is damaged.
bool IsToBeSealed(const SegmentFacts& facts, const SegmentJudgement& judged);

// Seals every unsealed segment of the survey that is not damaged; `builders` has seen their frames.
// From `moved_from` on the records stand in later segments, durable. Durable on return. A crash
// anywhere leaves segments that the next survey judges alike.
Status SealTail(FileSystem& fs, const Survey& survey, const FooterBuilders& builders,
                wal::Lsn moved_from);

}  // namespace taskwal::recovery

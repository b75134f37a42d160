// Writes records into fresh segments outside the ring's normal course: what a killed process left
// in its ring, and what must be written again after a failed sync. One thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "taskwal/status.h"
#include "wal/frame.h"
#include "wal/record.h"
#include "wal/segment_file.h"

namespace taskwal::wal {

class DirectWriter {
 public:
  // Makes the next segment, its first record being `first_lsn`, with room for one frame of
  // `frame_bytes` at least.
  using MakeSegment =
      std::function<Result<std::unique_ptr<SegmentFile>>(Lsn first_lsn, std::uint64_t frame_bytes)>;
  struct Options {
    std::uint64_t frame_bytes = 256u << 10;
    void (*index_keys)(const RecordView& record, std::vector<std::uint64_t>* keys) = nullptr;
  };

  DirectWriter(MakeSegment make_segment, Options options, Lsn first_lsn);

  // Records in LSN order, without gaps.
  Status Add(const RecordView& record);
  // Writes and syncs everything. Durable on return; the last segment is open for more.
  Status Finish();

  // In order; all but the last are full and synced, ready to be sealed.
  std::vector<std::unique_ptr<SegmentFile>> TakeSegments() { return std::move(segments_); }
  [[nodiscard]] std::uint64_t stamp_max() const { return stamp_max_; }

 private:
  Status WriteFrame();

  const MakeSegment make_segment_;
  const Options options_;
  FrameBuilder builder_;
  std::vector<std::uint64_t> keys_;  // of the frame being built
  std::vector<std::unique_ptr<SegmentFile>> segments_;
  Lsn next_lsn_;
  std::uint64_t stamp_max_ = 0;
};

// The keys under which a record is found: by `index_keys`, else its own.
void AppendKeys(void (*index_keys)(const RecordView&, std::vector<std::uint64_t>*),
                const RecordView& record, std::vector<std::uint64_t>* keys);

}  // namespace taskwal::wal

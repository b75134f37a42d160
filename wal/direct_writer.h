// Writes records into fresh segments outside the ring's normal course: what a killed process left
// in its ring, and what must be written again after a failed sync. A segment voids what stood under
// its LSNs before, so each gets its name only once it and all behind it are whole and synced: a
// crash at any point leaves every record in one of the two. One thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/frame.h"
#include "wal/record.h"
#include "wal/segment_file.h"

namespace taskwal::wal {

class DirectWriter {
 public:
  // Makes the next segment, not published, its first record being `first_lsn`, with room for one
  // frame of `frame_bytes` at least.
  using MakeSegment =
      std::function<Result<std::unique_ptr<SegmentFile>>(Lsn first_lsn, std::uint64_t frame_bytes)>;
  struct Options {
    std::uint64_t frame_bytes = 256u << 10;
    void (*index_keys)(const RecordView& record, std::vector<std::uint64_t>* keys) = nullptr;
  };

  DirectWriter(FileSystem& fs, std::string directory, MakeSegment make_segment, Options options,
               Lsn first_lsn);

  // Records in LSN order, without gaps.
  Status Add(const RecordView& record);
  // Writes, syncs and publishes everything. Durable on return; the last segment is open for more.
  // Failed, nothing has a name that is not whole; with kUnavailable (no room), nothing has one.
  Status Finish();

  // In order; all but the last are full and synced, ready to be sealed. Where Finish has failed,
  // some may not be published: they are spares.
  std::vector<std::unique_ptr<SegmentFile>> TakeSegments() { return std::move(segments_); }
  [[nodiscard]] std::uint64_t stamp_max() const { return stamp_max_; }

 private:
  Status WriteFrame();

  FileSystem& fs_;
  const std::string directory_;
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

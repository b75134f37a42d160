#include "wal/direct_writer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace taskwal::wal {

void AppendKeys(void (*index_keys)(const RecordView&, std::vector<std::uint64_t>*),
                const RecordView& record, std::vector<std::uint64_t>* keys) {
  if (record.header.type < kFirstUserType) return;
  if (index_keys != nullptr) {
    index_keys(record, keys);
  } else {
    keys->push_back(record.header.key);
  }
}

DirectWriter::DirectWriter(FileSystem& fs, std::string directory, MakeSegment make_segment,
                           Options options, Lsn first_lsn)
    : fs_(fs),
      directory_(std::move(directory)),
      make_segment_(std::move(make_segment)),
      options_(options),
      next_lsn_(first_lsn) {
  builder_.Reset(first_lsn);
}

Status DirectWriter::Add(const RecordView& record) {
  TASKWAL_CHECK(record.lsn == next_lsn_);
  if (builder_.count() > 0 && builder_.body_bytes() + record.body.size() > options_.frame_bytes) {
    TASKWAL_TRY(WriteFrame());
  }
  builder_.Add(record.header, record.body);
  AppendKeys(options_.index_keys, record, &keys_);
  ++next_lsn_;
  return Status::Ok();
}

Status DirectWriter::WriteFrame() {
  const std::uint64_t room = AlignUp(sizeof(FrameHeader) + builder_.body_bytes(), kSectorBytes);
  if (segments_.empty() || !segments_.back()->HasRoom(room)) {
    if (!segments_.empty()) TASKWAL_TRY(segments_.back()->lane(0).Sync());
    TASKWAL_ASSIGN(std::unique_ptr<SegmentFile> segment, make_segment_(builder_.first_lsn(), room));
    segments_.push_back(std::move(segment));
  }
  SegmentFile& segment = *segments_.back();
  const std::uint64_t offset =
      segment.Place(room, builder_.last_lsn(), builder_.count(), builder_.stamp_max());
  for (const std::uint64_t key : keys_) segment.index().Add(key, offset);
  stamp_max_ = std::max(stamp_max_, builder_.stamp_max());
  const Lsn synced = segment.header().synced_lsn;
  TASKWAL_TRY(segment.lane(0).Write(
      offset, builder_.Finish({segment.seed(), offset, segment.header().epoch, synced})));
  keys_.clear();
  builder_.Reset(next_lsn_);
  return Status::Ok();
}

Status DirectWriter::Finish() {
  if (builder_.count() > 0) TASKWAL_TRY(WriteFrame());
  if (segments_.empty()) {
    TASKWAL_ASSIGN(std::unique_ptr<SegmentFile> segment, make_segment_(next_lsn_, kSectorBytes));
    segments_.push_back(std::move(segment));
  }
  TASKWAL_TRY(segments_.back()->lane(0).Sync());
  // Crash in here: the last ones are in the log, and what stood before them where they begin.
  bool is_begun = false;
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    const Status published = (*segment)->Publish(fs_, directory_);
    // Nobody may go on as if nothing had happened.
    if (!published.ok()) return is_begun ? Status::IoError(published.message()) : published;
    is_begun = true;
  }
  return Status::Ok();
}

}  // namespace taskwal::wal

#include "wal/segment_file.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/checksum.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

void SegmentIndex::Add(std::uint64_t key, std::uint64_t frame_offset) {
  entries_.push_back({key, static_cast<std::uint32_t>(frame_offset / kSectorBytes)});
}

std::vector<std::uint64_t> SegmentIndex::Find(std::uint64_t key) {
  while (previous_.size() < entries_.size()) {
    const auto at = static_cast<std::uint32_t>(previous_.size());
    const std::uint64_t entry_key = entries_[at].key;
    const auto [it, fresh] = last_.try_emplace(entry_key, at);
    previous_.push_back(fresh ? kNone : it->second);
    it->second = at;
  }
  std::vector<std::uint64_t> offsets;
  const auto found = last_.find(key);
  if (found == last_.end()) return offsets;
  for (std::uint32_t at = found->second; at != kNone; at = previous_[at]) {
    const std::uint64_t offset = entries_[at].sector * kSectorBytes;
    if (offsets.empty() || offsets.back() != offset) offsets.push_back(offset);
  }
  return offsets;
}

std::vector<FooterEntry> SegmentIndex::Sorted() const {
  std::vector<FooterEntry> sorted = entries_;
  // By value: the members of a packed struct take no references.
  const auto rank = [](const FooterEntry& e) {
    return std::pair<std::uint64_t, std::uint32_t>(+e.key, +e.sector);
  };
  std::sort(sorted.begin(), sorted.end(),
            [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  const auto end = std::unique(sorted.begin(), sorted.end(),
                               [&](const auto& a, const auto& b) { return rank(a) == rank(b); });
  sorted.erase(end, sorted.end());
  return sorted;
}

SegmentHeader SegmentFile::MakeHeader(const Uuid& wal_id, std::uint64_t number, std::uint64_t epoch,
                                      std::uint32_t partitions) {
  SegmentHeader header{};
  std::memcpy(header.magic, "TWALSEG\1", sizeof header.magic);
  header.version = kFormatVersion;
  header.header_bytes = kSegmentHeaderBytes;
  header.wal_id = wal_id;
  header.number = number;
  header.epoch = epoch;
  header.partitions = partitions;
  return header;
}

Result<std::unique_ptr<SegmentFile>> SegmentFile::Create(FileSystem& fs, const Plan& plan) {
  std::unique_ptr<SegmentFile> segment(new SegmentFile());
  segment->spare_ = plan.spare;
  segment->header_ = plan.header;
  segment->bytes_ = plan.bytes;
  segment->last_lsn_ = plan.header.first_lsn - 1;
  segment->stamp_max_ = plan.header.stamp;
  segment->seed_ = FrameSeed(plan.header.wal_id, plan.header.number, plan.header.epoch);
  const std::string spare = JoinPath(plan.directory, plan.spare);
  for (std::uint32_t lane = 0; lane < plan.lanes; ++lane) {
    TASKWAL_ASSIGN(std::unique_ptr<WritableFile> file, fs.OpenWritable(spare, false));
    segment->files_.push_back(std::move(file));
  }
  SegmentHeader& header = segment->header_;
  std::vector<std::byte> block(kSegmentHeaderBytes);
  header.checksum =
      Checksum(std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, checksum)));
  std::memcpy(block.data(), &header, sizeof header);
  TASKWAL_TRY(segment->lane(0).WriteAndSync(0, block));
  // Crash here: a spare with a header; the next open makes it a plain spare again.
  return segment;
}

Status SegmentFile::Publish(FileSystem& fs, const std::string& directory) {
  const std::string name = SegmentName(number());
  TASKWAL_TRY(fs.Rename(JoinPath(directory, spare_), JoinPath(directory, name)));
  spare_.clear();
  const Status synced = fs.SyncDirectory(directory);
  // It has its name now: trying again would be to make another one.
  return synced.ok() ? synced : Status::IoError(synced.message());
}

std::uint64_t SegmentFile::Place(std::uint64_t frame_bytes, Lsn last_lsn, std::uint32_t records,
                                 std::uint64_t stamp_max) {
  TASKWAL_CHECK(frame_bytes % kSectorBytes == 0 && HasRoom(frame_bytes));
  const std::uint64_t offset = next_offset_;
  next_offset_ += frame_bytes;
  last_lsn_ = std::max(last_lsn_, last_lsn);
  records_ += records;
  ++frames_;
  stamp_max_ = std::max(stamp_max_, stamp_max);
  return offset;
}

Result<std::uint64_t> SegmentFile::Seal(const std::string& directory,
                                        bool ends_unsynced) const {
  FooterSummary summary{};
  const std::vector<FooterEntry> entries = index_.Sorted();
  summary.first_lsn = header_.first_lsn;
  summary.last_lsn = last_lsn_;
  summary.frames = frames_;
  summary.stamp = stamp_max_;
  summary.synced_lsn = last_lsn_;
  summary.index_count = static_cast<std::uint32_t>(entries.size());
  const auto footer = MakeFooter(summary, entries,
                                 {seed_, next_offset_, header_.epoch, last_lsn_});
  // A footer on disk before that frame would turn a power cut into damage.
  Status status = ends_unsynced ? files_[0]->Sync() : Status::Ok();
  // Cut first: with a valid footer the file ends exactly behind it, so that any later growth shows.
  // Crash between the two: an unsealed segment, sealed at the next open.
  if (status.ok()) status = files_[0]->Truncate(next_offset_);
  if (status.ok()) status = files_[0]->WriteAndSync(next_offset_, footer);
  if (!status.ok()) {
    return Status(status.code(), "sealing " + JoinPath(directory, SegmentName(number())) + ": " +
                                     status.message());
  }
  return next_offset_ + footer.size();
}

}  // namespace taskwal::wal

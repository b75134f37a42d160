#include "tests/support/segment_builder.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "base/checksum.h"
#include "wal/frame.h"
#include "wal/log_directory.h"

namespace taskwal {

SegmentBuilder::SegmentBuilder(const SegmentSpec& spec)
    : spec_(spec), bytes_(wal::kSegmentHeaderBytes), next_lsn_(spec.first_lsn) {
  wal::SegmentHeader header{};
  std::memcpy(header.magic, "TWALSEG\1", sizeof header.magic);
  header.version = spec.version;
  header.header_bytes = wal::kSegmentHeaderBytes;
  header.wal_id = spec.wal_id;
  header.number = spec.number;
  header.epoch = spec.epoch;
  header.first_lsn = spec.first_lsn;
  header.synced_lsn = spec.synced_lsn;
  header.partitions = 16;
  const auto checked = std::as_bytes(std::span(&header, 1));
  header.checksum = Checksum(checked.first(offsetof(wal::SegmentHeader, checksum)));
  std::memcpy(bytes_.data(), &header, sizeof header);
}

FramePlace SegmentBuilder::Finish(wal::FrameBuilder& frame, wal::Lsn synced_lsn, bool compress) {
  FramePlace place;
  place.offset = bytes_.size();
  place.lsns = {frame.first_lsn(), frame.first_lsn() + frame.count() - 1};
  wal::FrameBuilder::Placement placement;
  placement.seed = wal::FrameSeed(spec_.wal_id, spec_.number, spec_.epoch);
  placement.offset = place.offset;
  placement.epoch = spec_.epoch;
  placement.synced_lsn = synced_lsn == UINT64_MAX ? frame.first_lsn() - 1 : synced_lsn;
  frame.Pack(compress);
  AddBytes(frame.Finish(placement));
  place.end_offset = bytes_.size();
  next_lsn_ += frame.count();
  stamp_ = std::max(stamp_, frame.stamp_max());
  frames_.push_back(place);
  return place;
}

FramePlace SegmentBuilder::AddFrame(std::uint32_t records, wal::Lsn synced_lsn, bool compress) {
  wal::FrameBuilder frame;
  frame.Reset(next_lsn_);
  for (std::uint32_t i = 0; i < records; ++i) {
    const wal::RecordHeader header = TestRecordHeader(next_lsn_ + i);
    const std::string body = TestRecordBody(next_lsn_ + i);
    frame.Add(header, std::as_bytes(std::span(body)));
    index_.push_back({header.key, static_cast<std::uint32_t>(bytes_.size() / wal::kSectorBytes)});
  }
  return Finish(frame, synced_lsn, compress);
}

FramePlace SegmentBuilder::AddRecord(const wal::RecordHeader& header,
                                     std::span<const std::byte> body, bool compress,
                                     wal::Lsn synced_lsn) {
  wal::FrameBuilder frame;
  frame.Reset(next_lsn_);
  frame.Add(header, body);
  index_.push_back({header.key, static_cast<std::uint32_t>(bytes_.size() / wal::kSectorBytes)});
  return Finish(frame, synced_lsn, compress);
}

void SegmentBuilder::AddBytes(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::vector<std::byte> SegmentBuilder::Sealed() const {
  wal::FooterSummary summary{};
  summary.first_lsn = spec_.first_lsn;
  summary.last_lsn = next_lsn_ - 1;
  summary.frames = frames_.size();
  summary.stamp = stamp_;
  summary.synced_lsn = next_lsn_ - 1;
  std::vector<wal::FooterEntry> index = index_;
  // By value: the entries are packed, so nothing may refer to their members.
  std::sort(index.begin(), index.end(), [](const auto& a, const auto& b) {
    return a.key != b.key ? a.key < b.key : a.sector < b.sector;
  });
  summary.index_count = static_cast<std::uint32_t>(index.size());
  wal::FrameBuilder::Placement placement;
  placement.seed = wal::FrameSeed(spec_.wal_id, spec_.number, spec_.epoch);
  placement.offset = bytes_.size();
  placement.epoch = spec_.epoch;
  placement.synced_lsn = summary.synced_lsn;
  std::vector<std::byte> all = bytes_;
  const auto footer = wal::MakeFooter(summary, index, placement);
  all.insert(all.end(), footer.begin(), footer.end());
  return all;
}

std::vector<std::byte> SegmentBuilder::Unsealed(std::uint64_t bytes) const {
  std::vector<std::byte> all = bytes_;
  all.resize(std::max<std::uint64_t>(bytes, all.size()));
  return all;
}

wal::RecordHeader TestRecordHeader(wal::Lsn lsn) {
  wal::RecordHeader header;
  header.type = static_cast<std::uint8_t>(wal::kFirstUserType + lsn % 5);
  header.key = lsn * 0x9e3779b97f4a7c15ull;
  header.stamp = 1000 + lsn;
  return header;
}

std::string TestRecordBody(wal::Lsn lsn) {
  return "record " + std::to_string(lsn) + std::string(lsn % 50, '.');
}

void WriteFile(FileSystem& fs, const std::string& path, std::span<const std::byte> bytes) {
  const auto file = fs.OpenWritable(path, true);
  TASKWAL_CHECK(file.ok());
  TASKWAL_CHECK((*file)->Truncate(0).ok());
  TASKWAL_CHECK((*file)->Write(0, bytes).ok());
  TASKWAL_CHECK((*file)->Sync().ok());
  TASKWAL_CHECK(fs.SyncDirectory(path.substr(0, path.rfind('/'))).ok());
}

std::vector<std::byte> ReadBytes(FileSystem& fs, const std::string& path) {
  const auto text = ReadFile(fs, path);
  TASKWAL_CHECK(text.ok());
  const auto bytes = std::as_bytes(std::span(*text));
  return {bytes.begin(), bytes.end()};
}

wal::LogState MakeLogDirectory(FileSystem& fs, const std::string& directory, wal::LogState state) {
  TASKWAL_CHECK(fs.MakeDirectories(directory).ok());
  const std::string lock = wal::JoinPath(directory, "LOCK");
  TASKWAL_CHECK(fs.Lock(lock).ok());
  const auto stat = fs.Stat(lock);
  TASKWAL_CHECK(stat.ok());
  if (state.wal_id.IsZero()) state.wal_id = kTestWalId;
  if (state.epoch == 0) state.epoch = 1;
  state.lock_inode = stat->inode;
  state.lock_born = stat->born;
  TASKWAL_CHECK(wal::WriteState(fs, directory, state).ok());
  return state;
}

}  // namespace taskwal

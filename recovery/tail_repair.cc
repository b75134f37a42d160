#include "recovery/tail_repair.h"

#include <algorithm>
#include <memory>

#include "base/status_macros.h"
#include "recovery/quarantine.h"
#include "wal/frame.h"
#include "wal/log_directory.h"

namespace taskwal::recovery {

namespace {

using wal::Lsn;

// Enough to look at of a frame whose length is not known.
constexpr std::uint64_t kUnnamedBytesMax = 1u << 20;

// By value: the entries are packed, so nothing may refer to their members.
bool ComesBefore(const wal::FooterEntry& a, const wal::FooterEntry& b) {
  return a.key != b.key ? a.key < b.key : a.sector < b.sector;
}
bool IsSame(const wal::FooterEntry& a, const wal::FooterEntry& b) {
  return a.key == b.key && a.sector == b.sector;
}

// One segment to be sealed.
struct Job {
  const SegmentFacts* facts = nullptr;
  const FooterBuilder* builder = nullptr;
  Lsn keep_to = 0;  // records above do not count
  std::size_t keep_frames = 0;
  std::uint64_t keep_end = wal::kSegmentHeaderBytes;
  // What is cut between these is worth a copy: the rest is nothing, or stands again elsewhere.
  std::uint64_t worth_from = wal::kSegmentHeaderBytes;
  std::uint64_t worth_end = 0;
  [[nodiscard]] std::string file() const { return wal::SegmentName(facts->number); }
};

Job MakeJob(const SegmentFacts& facts, const SegmentJudgement& judged, Lsn end_lsn,
            Lsn moved_from, const FooterBuilder& builder) {
  Job job;
  job.facts = &facts;
  job.builder = &builder;
  job.keep_to = std::min({judged.owned_to, end_lsn, moved_from - 1});
  const auto& marks = builder.marks();
  for (std::size_t i = 0; i < marks.size(); ++i) {
    if (marks[i].lsns.empty()) continue;
    if (marks[i].lsns.from <= job.keep_to) {
      job.keep_frames = i + 1;
      job.keep_end = job.worth_from = marks[i].end_offset;
    } else if (marks[i].lsns.to <= end_lsn) {
      job.worth_from = marks[i].end_offset;
    } else {
      job.worth_end = marks[i].end_offset;
    }
  }
  for (const BadRegion& region : facts.bad) {
    if (region.is_padding || region.offset < job.keep_end) continue;
    const std::uint64_t end = region.named.empty()
                                  ? std::min(region.end_offset, region.offset + kUnnamedBytesMax)
                                  : region.end_offset;
    job.worth_end = std::max(job.worth_end, end);
  }
  return job;
}

// A sector that stood empty or torn between frames that count, and that no record was lost in: an
// empty frame was on its way there. In a sealed segment every byte counts, so it gets one now.
Status FillHole(FileSystem& fs, const std::string& directory, const Job& job,
                const BadRegion& region, WritableFile& file) {
  if (!region.only_zeros) {
    TASKWAL_TRY(CopyToQuarantine(fs, directory, {job.file(), region.offset, region.end_offset},
                                 job.file() + ".hole-" + std::to_string(region.offset)));
  }
  const wal::SegmentHeader& header = job.facts->header;
  Lsn next_lsn = header.first_lsn;
  for (const FooterBuilder::Mark& mark : job.builder->marks()) {
    if (mark.offset < region.offset && !mark.lsns.empty()) next_lsn = mark.lsns.to + 1;
  }
  wal::FrameBuilder frame;
  for (std::uint64_t at = region.offset; at < region.end_offset; at += wal::kSectorBytes) {
    frame.Reset(next_lsn);
    wal::FrameBuilder::Placement placement;
    placement.seed = wal::FrameSeed(header.wal_id, header.number, header.epoch);
    placement.offset = at;
    placement.epoch = header.epoch;
    placement.synced_lsn = header.synced_lsn;
    TASKWAL_TRY(file.Write(at, frame.Finish(placement)));
  }
  return Status::Ok();
}

Status CleanKeptPart(FileSystem& fs, const std::string& directory, const Job& job,
                     WritableFile& file) {
  const auto zero = [&](std::uint64_t from, std::uint64_t to) {
    return file.Write(from, std::vector<std::byte>(to - from));
  };
  if (!job.facts->header_padding_clean) {
    TASKWAL_TRY(zero(sizeof(wal::SegmentHeader), wal::kSegmentHeaderBytes));
  }
  for (const BadRegion& region : job.facts->bad) {
    if (region.end_offset > job.keep_end) continue;
    TASKWAL_TRY(region.is_padding ? zero(region.offset, region.end_offset)
                                  : FillHole(fs, directory, job, region, file));
  }
  return Status::Ok();
}

// Left as it is, for salvage. But what is intact in it counts, and no power cut may take that.
Status SyncDamaged(FileSystem& fs, const std::string& directory, const SegmentFacts& facts) {
  const std::string path = wal::JoinPath(directory, wal::SegmentName(facts.number));
  TASKWAL_ASSIGN(const auto file, fs.OpenWritable(path, false));
  return file->Sync();
}

Status Seal(FileSystem& fs, const std::string& directory, Lsn end_lsn, const Job& job) {
  if (job.worth_end > job.worth_from) {
    TASKWAL_TRY(CopyToQuarantine(fs, directory, {job.file(), job.worth_from, job.worth_end},
                                 job.file() + ".tail-" + std::to_string(job.worth_from)));
  }
  TASKWAL_ASSIGN(const auto file, fs.OpenWritable(wal::JoinPath(directory, job.file()), false));
  TASKWAL_TRY(CleanKeptPart(fs, directory, job, *file));
  TASKWAL_TRY(file->Truncate(job.keep_end));
  // A footer on disk before its frames would turn a power cut into damage.
  TASKWAL_TRY(file->Sync());
  // Crash here: an unsealed segment that ends with its last frame.
  const std::vector<std::byte> footer =
      job.builder->Finish({job.facts->header, job.keep_frames, job.keep_to, end_lsn});
  return file->WriteAndSync(job.keep_end, footer);
}

}  // namespace

void FooterBuilder::Add(const wal::Frame& frame) {
  Mark mark{frame.offset, frame.end_offset, {}, stamp(), 0};
  if (frame.header.count > 0) mark.lsns = {frame.header.first_lsn, frame.last_lsn()};
  wal::FrameRecords records(frame.header, frame.raw);
  for (wal::RecordView record; records.Next(&record);) {
    mark.stamp = std::max(mark.stamp, record.header.stamp);
    if (record.header.type < wal::kFirstUserType) continue;
    keys_.clear();
    if (index_keys_ != nullptr) {
      index_keys_(record, &keys_);
    } else {
      keys_.push_back(record.header.key);
    }
    const auto sector = static_cast<std::uint32_t>(frame.offset / wal::kSectorBytes);
    for (const std::uint64_t key : keys_) index_.push_back({key, sector});
  }
  mark.index_end = index_.size();
  marks_.push_back(mark);
}

std::vector<std::byte> FooterBuilder::Finish(const Place& place) const {
  const wal::SegmentHeader& header = place.header;
  wal::FooterSummary summary{};
  summary.first_lsn = header.first_lsn;
  summary.last_lsn = header.first_lsn - 1;
  summary.frames = place.frames;
  summary.stamp = header.stamp;
  std::uint64_t offset = wal::kSegmentHeaderBytes;
  std::vector<wal::FooterEntry> index;
  if (place.frames > 0) {
    const Mark& last = marks_[place.frames - 1];
    summary.last_lsn = std::min(last.lsns.to, place.last_lsn);
    summary.stamp = std::max(summary.stamp, last.stamp);
    offset = last.end_offset;
    index.assign(index_.begin(), index_.begin() + static_cast<std::ptrdiff_t>(last.index_end));
  }
  // A segment that a later one takes over as a whole begins above what is on disk.
  summary.synced_lsn = std::min(summary.last_lsn, place.synced_lsn);
  std::sort(index.begin(), index.end(), ComesBefore);
  const auto end = std::unique(index.begin(), index.end(), IsSame);
  index.erase(end, index.end());
  summary.index_count = static_cast<std::uint32_t>(index.size());
  wal::FrameBuilder::Placement placement;
  placement.seed = wal::FrameSeed(header.wal_id, header.number, header.epoch);
  placement.offset = offset;
  placement.epoch = header.epoch;
  placement.synced_lsn = summary.synced_lsn;
  return wal::MakeFooter(summary, index, placement);
}

bool IsToBeSealed(const SegmentFacts& facts, const SegmentJudgement& judged) {
  return facts.header_state == wal::HeaderState::kValid && !facts.has_footer && !judged.damaged;
}

Status SealTail(FileSystem& fs, const Survey& survey, const FooterBuilders& builders,
                Lsn moved_from) {
  bool sealed_any = false;
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    const SegmentFacts& facts = survey.segments[i];
    const SegmentJudgement& judged = survey.judgement.segments[i];
    const auto builder = builders.find(facts.number);
    if (judged.owns && judged.damaged && !facts.has_footer) {
      TASKWAL_TRY(SyncDamaged(fs, survey.directory, facts));
    }
    if (!IsToBeSealed(facts, judged)) continue;
    static const FooterBuilder no_frames(nullptr);
    const Lsn end_lsn = survey.judgement.end_lsn;
    const Job job = MakeJob(facts, judged, end_lsn, moved_from,
                            builder == builders.end() ? no_frames : builder->second);
    TASKWAL_TRY(Seal(fs, survey.directory, end_lsn, job));
    sealed_any = true;
  }
  return sealed_any ? fs.SyncDirectory(survey.directory) : Status::Ok();
}

}  // namespace taskwal::recovery

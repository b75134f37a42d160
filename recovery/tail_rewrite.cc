#include "recovery/tail_rewrite.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "wal/direct_writer.h"
#include "wal/frame.h"
#include "wal/log_directory.h"
#include "wal/segment_file.h"

namespace taskwal::recovery {

namespace {

using wal::Lsn;

constexpr std::uint64_t kSegmentBytes = 64u << 20;

class TailRewriter {
 public:
  TailRewriter(FileSystem& fs, const Survey& survey, const FooterBuilders& builders, Lsn from,
               std::uint64_t next_number, IndexKeys index_keys)
      : fs_(fs),
        survey_(survey),
        builders_(builders),
        from_(from),
        stamp_(survey.stamp),
        next_number_(next_number),
        next_lsn_(from),
        writer_(fs, survey.directory,
                [this](Lsn first_lsn, std::uint64_t frame_bytes) {
                  return MakeSegment(first_lsn, frame_bytes);
                },
                {.index_keys = index_keys}, next_lsn_) {}

  Result<std::vector<std::unique_ptr<wal::SegmentFile>>> Run() {
    for (const auto& [number, builder] : builders_) stamp_ = std::max(stamp_, builder.stamp());
    TASKWAL_TRY(FindSpares());
    for (std::size_t i = 0; i < survey_.segments.size(); ++i) TASKWAL_TRY(CopySegment(i));
    if (next_lsn_ <= survey_.judgement.end_lsn) {
      return Status::IoError("LSN " + std::to_string(next_lsn_) + " of " + survey_.directory +
                             " cannot be read again: look at the disk, then open it again");
    }
    TASKWAL_TRY(writer_.Finish());
    return writer_.TakeSegments();
  }

 private:
  // Left by the last process. They are taken first, cut to nothing: a disk that is full of them has
  // room for what is in them.
  Status FindSpares() {
    TASKWAL_ASSIGN(const std::vector<DirectoryEntry> entries, fs_.List(survey_.directory));
    for (const DirectoryEntry& entry : entries) {
      const auto number = wal::ParseSpareName(entry.name);
      if (!number) continue;
      spares_.push_back(entry.name);
      next_spare_ = std::max(next_spare_, *number + 1);
    }
    return Status::Ok();
  }

  Result<std::unique_ptr<wal::SegmentFile>> MakeSegment(Lsn first_lsn, std::uint64_t frame_bytes) {
    if (spares_.empty()) spares_.push_back(wal::SpareName(next_spare_++));
    const wal::LogState& state = survey_.identity.state;
    wal::SegmentFile::Plan plan;
    plan.directory = survey_.directory;
    plan.spare = spares_.back();
    spares_.pop_back();
    plan.bytes = std::max(kSegmentBytes, wal::kSegmentHeaderBytes + frame_bytes);
    const std::uint64_t number = next_number_++;
    plan.header =
        wal::SegmentFile::MakeHeader(state.wal_id, number, state.epoch, state.partitions);
    plan.header.first_lsn = first_lsn;
    plan.header.synced_lsn = from_ - 1;
    plan.header.stamp = stamp_;
    {
      TASKWAL_ASSIGN(const auto spare,
                     fs_.OpenWritable(wal::JoinPath(plan.directory, plan.spare), true));
      // An open that crashed may have begun this very segment in it: nothing of that may validate.
      TASKWAL_TRY(spare->Truncate(0));
    }
    return wal::SegmentFile::Create(fs_, plan);
  }

  Status CopySegment(std::size_t i) {
    const SegmentFacts& facts = survey_.segments[i];
    const SegmentJudgement& judged = survey_.judgement.segments[i];
    const Lsn to = std::min(judged.owned_to, survey_.judgement.end_lsn);
    const auto builder = builders_.find(facts.number);
    if (!judged.owns || builder == builders_.end()) return Status::Ok();
    TASKWAL_ASSIGN(const auto file, fs_.OpenReadable(wal::JoinPath(
                                        survey_.directory, wal::SegmentName(facts.number))));
    for (const FooterBuilder::Mark& mark : builder->second.marks()) {
      const bool is_next = mark.lsns.from <= next_lsn_ && next_lsn_ <= std::min(mark.lsns.to, to);
      if (is_next) TASKWAL_TRY(CopyFrame(*file, facts, mark, to));
    }
    return Status::Ok();
  }

  // Where it was found; what is not there any more is missed at the end.
  Status CopyFrame(const ReadableFile& file, const SegmentFacts& facts,
                   const FooterBuilder::Mark& mark, Lsn to) {
    std::vector<std::byte> bytes(mark.end_offset - mark.offset);
    TASKWAL_ASSIGN(const std::size_t count, file.Read(mark.offset, bytes));
    const auto all = std::span<const std::byte>(bytes).first(count);
    wal::FrameHeader header;
    std::vector<std::byte> raw;
    if (!wal::IsFrameHeader(all, mark.offset, facts.wal_id, facts.number, facts.epoch, &header)) {
      return Status::Ok();
    }
    const auto body = all.subspan(
        sizeof header, std::min<std::size_t>(header.body_bytes, all.size() - sizeof header));
    if (!wal::IsFrameBody(header, facts.wal_id, facts.number, body) ||
        !wal::UnpackFrameBody(header, body, &raw)) {
      return Status::Ok();
    }
    wal::FrameRecords records(header, raw);
    for (wal::RecordView record; records.Next(&record);) {
      if (record.lsn != next_lsn_ || record.lsn > to) continue;
      TASKWAL_TRY(writer_.Add(record));
      ++next_lsn_;
    }
    return Status::Ok();
  }

  FileSystem& fs_;
  const Survey& survey_;
  const FooterBuilders& builders_;
  const Lsn from_;
  std::uint64_t stamp_;  // no record of theirs has a higher one
  std::uint64_t next_number_;
  Lsn next_lsn_;
  std::vector<std::string> spares_;
  std::uint64_t next_spare_ = 1;
  wal::DirectWriter writer_;
};

// Of the first frame that counts and is not known to be on disk as a whole: nothing may begin in
// the midst of a frame that counts before it.
Lsn FirstToRewrite(const Survey& survey, const FooterBuilders& builders) {
  Lsn first = survey.judgement.on_disk_lsn + 1;
  for (std::size_t i = 0; i < survey.segments.size(); ++i) {
    const auto builder = builders.find(survey.segments[i].number);
    const SegmentJudgement& judged = survey.judgement.segments[i];
    if (!judged.owns || builder == builders.end()) continue;
    for (const FooterBuilder::Mark& mark : builder->second.marks()) {
      const bool counts = mark.lsns.from >= judged.first_lsn && mark.lsns.from <= judged.owned_to;
      if (counts && mark.lsns.to >= first) first = std::min(first, mark.lsns.from);
    }
  }
  return first;
}

}  // namespace

Result<std::vector<std::unique_ptr<wal::SegmentFile>>> RewriteTail(FileSystem& fs,
                                                                   const Survey& survey,
                                                                   const FooterBuilders& builders,
                                                                   std::uint64_t next_number,
                                                                   IndexKeys index_keys) {
  const Judgement& judgement = survey.judgement;
  const Lsn first = FirstToRewrite(survey, builders);
  // With a loss among them, what is left belongs where salvage looks for it.
  if (first > judgement.end_lsn || !judgement.lost.empty()) {
    return std::vector<std::unique_ptr<wal::SegmentFile>>();
  }
  return TailRewriter(fs, survey, builders, first, next_number, index_keys).Run();
}

}  // namespace taskwal::recovery

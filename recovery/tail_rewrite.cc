#include "recovery/tail_rewrite.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "wal/direct_writer.h"
#include "wal/log_directory.h"
#include "wal/segment_file.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {

namespace {

using wal::Lsn;

constexpr std::uint64_t kSegmentBytes = 64u << 20;

class TailRewriter {
 public:
  TailRewriter(FileSystem& fs, const Survey& survey, Lsn from, std::uint64_t next_number,
               IndexKeys index_keys)
      : fs_(fs),
        survey_(survey),
        from_(from),
        next_number_(next_number),
        next_lsn_(from),
        writer_(fs, survey.directory,
                [this](Lsn first_lsn, std::uint64_t frame_bytes) {
                  return MakeSegment(first_lsn, frame_bytes);
                },
                {.index_keys = index_keys}, next_lsn_) {}

  Result<std::vector<std::uint64_t>> Run() {
    TASKWAL_TRY(FindSpares());
    for (std::size_t i = 0; i < survey_.segments.size(); ++i) TASKWAL_TRY(CopySegment(i));
    if (next_lsn_ <= survey_.judgement.end_lsn) {
      return Status::IoError("LSN " + std::to_string(next_lsn_) + " of " + survey_.directory +
                             " cannot be read again: look at the disk, then open it again");
    }
    TASKWAL_TRY(writer_.Finish());
    return std::move(made_);
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
    plan.header.stamp = survey_.stamp;
    {
      TASKWAL_ASSIGN(const auto spare,
                     fs_.OpenWritable(wal::JoinPath(plan.directory, plan.spare), true));
      TASKWAL_TRY(spare->Truncate(0));
    }
    TASKWAL_ASSIGN(auto segment, wal::SegmentFile::Create(fs_, plan));
    made_.push_back(number);
    return segment;
  }

  Status CopySegment(std::size_t i) {
    const SegmentJudgement& judged = survey_.judgement.segments[i];
    const Lsn to = std::min(judged.owned_to, survey_.judgement.end_lsn);
    if (!judged.owns || judged.lsns.empty() || judged.lsns.to < next_lsn_) return Status::Ok();
    TASKWAL_ASSIGN(const auto reader,
                   wal::SegmentReader::Open(fs_, survey_.directory, survey_.segments[i].number,
                                            survey_.identity.wal_ids()));
    TASKWAL_TRY(reader->SkipBelow(next_lsn_));
    wal::Frame frame;
    while (next_lsn_ <= to) {
      TASKWAL_ASSIGN(const wal::SegmentEvent event, reader->Next(&frame));
      if (event.kind == wal::SegmentEvent::Kind::kEnd) break;
      if (event.kind == wal::SegmentEvent::Kind::kFrame) TASKWAL_TRY(CopyFrame(frame, to));
    }
    return Status::Ok();
  }

  Status CopyFrame(const wal::Frame& frame, Lsn to) {
    wal::FrameRecords records(frame.header, frame.raw);
    for (wal::RecordView record; records.Next(&record);) {
      if (record.lsn != next_lsn_ || record.lsn > to) continue;
      TASKWAL_TRY(writer_.Add(record));
      ++next_lsn_;
    }
    return Status::Ok();
  }

  FileSystem& fs_;
  const Survey& survey_;
  const Lsn from_;
  std::uint64_t next_number_;
  Lsn next_lsn_;
  std::vector<std::string> spares_;
  std::uint64_t next_spare_ = 1;
  std::vector<std::uint64_t> made_;
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

Result<std::vector<std::uint64_t>> RewriteTail(FileSystem& fs, const Survey& survey,
                                               const FooterBuilders& builders,
                                               std::uint64_t next_number, IndexKeys index_keys) {
  const Judgement& judgement = survey.judgement;
  const Lsn first = FirstToRewrite(survey, builders);
  // With a loss among them, what is left belongs where salvage looks for it.
  if (first > judgement.end_lsn || !judgement.lost.empty()) return std::vector<std::uint64_t>();
  return TailRewriter(fs, survey, first, next_number, index_keys).Run();
}

}  // namespace taskwal::recovery

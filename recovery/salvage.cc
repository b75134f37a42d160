#include "recovery/salvage.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/checksum.h"
#include "base/status_macros.h"
#include "recovery/quarantine.h"
#include "recovery/salvage_plan.h"
#include "recovery/survey.h"
#include "recovery/tail_repair.h"
#include "wal/frame.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal::recovery {

namespace {

using wal::Lsn;
using wal::LsnRange;

// Those records of a frame that count, as a frame of their own.
wal::Frame CutFrame(const wal::Frame& frame, LsnRange lsns) {
  wal::Frame cut;
  cut.header = frame.header;
  wal::FrameRecords records(frame.header, frame.raw);
  cut.header.count = 0;
  for (wal::RecordView record; records.Next(&record);) {
    if (record.lsn < lsns.from || record.lsn > lsns.to) continue;
    if (cut.header.count++ == 0) cut.header.first_lsn = record.lsn;
    const std::byte* begin = record.body.data() - sizeof(wal::RecordPrefix);
    cut.raw.insert(cut.raw.end(), begin, record.body.data() + record.body.size());
  }
  return cut;
}

// Writes a new file beside the damaged one: header, the intact frames, footer.
class Rewriter {
 public:
  Rewriter(FileSystem& fs, const Survey& survey, std::size_t index, IndexKeys index_keys)
      : fs_(fs),
        survey_(survey),
        facts_(survey.segments[index]),
        judged_(survey.judgement.segments[index]),
        footer_(index_keys) {}

  static std::string TemporaryName(std::uint64_t number) {
    return wal::SegmentName(number) + ".salvage";
  }

  // Durable on return (but for the name, which a repeated run overwrites). Returns the records
  // kept.
  Result<std::uint64_t> Run() {
    const std::string path = wal::JoinPath(survey_.directory, TemporaryName(facts_.number));
    TASKWAL_ASSIGN(file_, fs_.OpenWritable(path, true));
    TASKWAL_TRY(file_->Truncate(0));
    TASKWAL_TRY(WriteHeader());
    TASKWAL_TRY(CopyFrames());
    const Lsn end_lsn = survey_.judgement.end_lsn;
    const std::size_t frames = footer_.marks().size();
    TASKWAL_TRY(file_->Write(offset_, footer_.Finish({header_, frames, end_lsn, end_lsn})));
    TASKWAL_TRY(file_->Sync());
    return kept_;
  }

 private:
  Status WriteHeader() {
    header_ = facts_.header;
    if (facts_.header_state != wal::HeaderState::kValid) {
      header_ = {};
      std::memcpy(header_.magic, "TWALSEG\1", sizeof header_.magic);
      header_.version = wal::kFormatVersion;
      header_.header_bytes = wal::kSegmentHeaderBytes;
      header_.wal_id = facts_.wal_id;
      header_.number = facts_.number;
      header_.epoch = facts_.epoch;
      header_.first_lsn = judged_.first_lsn;
      header_.partitions = survey_.identity.state.partitions;
      const auto checked = std::as_bytes(std::span(&header_, 1));
      header_.checksum = Checksum(checked.first(offsetof(wal::SegmentHeader, checksum)));
    }
    std::vector<std::byte> block(wal::kSegmentHeaderBytes);
    std::memcpy(block.data(), &header_, sizeof header_);
    return file_->Write(0, block);
  }

  Status CopyFrames() {
    TASKWAL_ASSIGN(const auto reader,
                   wal::SegmentReader::Open(fs_, survey_.directory, facts_.number,
                                            survey_.identity.wal_ids()));
    wal::Frame frame;
    while (true) {
      TASKWAL_ASSIGN(const wal::SegmentEvent event, reader->Next(&frame));
      if (event.kind == wal::SegmentEvent::Kind::kEnd) return Status::Ok();
      if (event.kind == wal::SegmentEvent::Kind::kFrame) TASKWAL_TRY(CopyFrame(frame));
    }
  }

  Status CopyFrame(const wal::Frame& frame) {
    wal::Frame cut =
        CutFrame(frame, {judged_.first_lsn, std::min(judged_.owned_to, survey_.judgement.end_lsn)});
    if (cut.header.count == 0) return Status::Ok();
    builder_.Reset(cut.header.first_lsn);
    wal::FrameRecords records(cut.header, cut.raw);
    for (wal::RecordView record; records.Next(&record);) builder_.Add(record.header, record.body);
    wal::FrameBuilder::Placement placement;
    placement.seed = wal::FrameSeed(header_.wal_id, header_.number, header_.epoch);
    placement.offset = offset_;
    placement.epoch = header_.epoch;
    placement.synced_lsn = cut.header.synced_lsn;
    cut.offset = offset_;
    offset_ += builder_.Pack((frame.header.flags & wal::kFrameZstd) != 0);
    cut.end_offset = offset_;
    TASKWAL_TRY(file_->Write(cut.offset, builder_.Finish(placement)));
    footer_.Add(cut);
    kept_ += cut.header.count;
    return Status::Ok();
  }

  FileSystem& fs_;
  const Survey& survey_;
  const SegmentFacts& facts_;
  const SegmentJudgement& judged_;
  FooterBuilder footer_;
  wal::FrameBuilder builder_;
  wal::SegmentHeader header_{};
  std::unique_ptr<WritableFile> file_;
  std::uint64_t offset_ = wal::kSegmentHeaderBytes;
  std::uint64_t kept_ = 0;
};

// Ascending, without overlaps, neighbours joined.
std::vector<LsnRange> Join(std::vector<LsnRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const LsnRange& a, const LsnRange& b) { return a.from < b.from; });
  std::vector<LsnRange> joined;
  for (const LsnRange& range : ranges) {
    if (!joined.empty() && range.from <= joined.back().to + 1) {
      joined.back().to = std::max(joined.back().to, range.to);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

Status DeclareLost(FileSystem& fs, const Survey& survey, wal::LogState* state) {
  const std::vector<LsnRange>& lost = survey.judgement.lost;
  if (lost.empty()) return Status::Ok();
  state->lost.insert(state->lost.end(), lost.begin(), lost.end());
  state->lost = Join(std::move(state->lost));
  return wal::WriteState(fs, survey.directory, *state);
}

// The original stays in its place until the new file takes it over in one step: no crash in between
// leaves the log without either.
Result<std::string> Replace(FileSystem& fs, const std::string& directory, std::uint64_t number) {
  const std::string file = wal::SegmentName(number);
  TASKWAL_ASSIGN(std::string name, FreeQuarantineName(fs, directory, file));
  TASKWAL_TRY(CopyToQuarantine(fs, directory, {file}, name));
  TASKWAL_TRY(fs.Rename(wal::JoinPath(directory, Rewriter::TemporaryName(number)),
                        wal::JoinPath(directory, file)));
  TASKWAL_TRY(fs.SyncDirectory(directory));
  return name;
}

}  // namespace

Result<SalvageReport> Salvage(FileSystem& fs, const std::string& directory, wal::LogStart* start,
                              IndexKeys index_keys) {
  TASKWAL_ASSIGN(const Survey survey, SurveyLog(fs, directory));
  TASKWAL_ASSIGN(const SalvagePlan plan, PlanSalvage(survey));
  SalvageReport report;
  for (const std::size_t i : plan.to_replace) {
    TASKWAL_ASSIGN(const std::uint64_t kept, Rewriter(fs, survey, i, index_keys).Run());
    report.kept += kept;
  }
  // Crash here: the new files are overwritten next time. The loss is declared before anything
  // moves, or a repeated run would find a gap where it no longer can tell that it was known.
  TASKWAL_TRY(DeclareLost(fs, survey, &start->state));
  report.lost = survey.judgement.lost;
  for (const std::size_t i : plan.to_replace) {
    const std::uint64_t number = survey.segments[i].number;
    TASKWAL_ASSIGN(std::string name, Replace(fs, directory, number));
    report.quarantined.push_back(std::move(name));
    std::erase(start->state.unsealed, number);
  }
  for (const std::uint64_t number : plan.to_move) {
    TASKWAL_ASSIGN(std::string name, MoveToQuarantine(fs, directory, wal::SegmentName(number)));
    report.quarantined.push_back(std::move(name));
  }
  TASKWAL_ASSIGN(start->segments, wal::ListSegments(fs, directory));
  return report;
}

}  // namespace taskwal::recovery

#include "recovery/survey.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "wal/log_directory.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {

namespace {

Result<Survey> Start(FileSystem& fs, const std::string& directory) {
  Survey survey;
  survey.directory = directory;
  TASKWAL_ASSIGN(survey.numbers, wal::ListSegments(fs, directory));
  TASKWAL_ASSIGN(survey.identity, ReadIdentity(fs, directory, survey.numbers));
  return survey;
}

// One segment as a whole. Null where it is gone: retired beside us.
Result<std::unique_ptr<wal::SegmentReader>> OpenSegment(FileSystem& fs, const Survey& survey,
                                                        std::uint64_t number) {
  auto opened = wal::SegmentReader::Open(fs, survey.directory, number, survey.identity.wal_ids());
  if (!opened.ok() && opened.status().code() == StatusCode::kNotFound) {
    return std::unique_ptr<wal::SegmentReader>();
  }
  return opened;
}

Result<SegmentFacts> ReadWhole(wal::SegmentReader& reader, const SurveyOptions& options) {
  FrameVisitor visit;
  if (options.on_frame) {
    visit = [&](const wal::Frame& frame) { options.on_frame(reader.number(), frame); };
  }
  return ReadSegment(reader, visit);
}

void NoteStamp(Survey* survey) {
  for (const SegmentFacts& facts : survey->segments) {
    if (facts.header_state == wal::HeaderState::kValid) {
      survey->stamp = std::max(survey->stamp, facts.header.stamp);
    }
    if (facts.has_footer) survey->stamp = std::max(survey->stamp, facts.footer.stamp);
  }
}

void Conclude(wal::Lsn from, const Ceiling& ceiling, Survey* survey) {
  NoteStamp(survey);
  survey->judgement = JudgeLog({&survey->identity, survey->segments, from, ceiling});
}

// Everything below was retired: by what STATE says now, for segments may have gone while we read.
Result<wal::Lsn> RetiredUpTo(FileSystem& fs, const Survey& survey) {
  const wal::Lsn before = survey.identity.state.first_lsn;
  const auto now = wal::ReadState(fs, survey.directory);
  if (!now.ok() || now->wal_id != survey.identity.state.wal_id) return before;
  return std::max(before, now->first_lsn);
}

}  // namespace

Ceiling CeilingOf(const Survey& survey) {
  Ceiling ceiling{survey.judgement.synced_lsn, 0};
  for (const SegmentFacts& facts : survey.segments) {
    if (facts.has_footer) ceiling.sealed = facts.number;
  }
  return ceiling;
}

Result<Survey> SurveyLog(FileSystem& fs, const std::string& directory,
                         const SurveyOptions& options) {
  TASKWAL_ASSIGN(Survey survey, Start(fs, directory));
  std::uint64_t all = 0;
  for (const std::uint64_t number : survey.numbers) {
    const auto stat = fs.Stat(wal::JoinPath(directory, wal::SegmentName(number)));
    if (stat.ok()) all += stat->size;
  }
  std::uint64_t done = 0;
  for (const std::uint64_t number : survey.numbers) {
    TASKWAL_ASSIGN(const auto reader, OpenSegment(fs, survey, number));
    if (reader == nullptr) continue;
    TASKWAL_ASSIGN(SegmentFacts facts, ReadWhole(*reader, options));
    done += facts.file_bytes;
    survey.segments.push_back(std::move(facts));
    if (options.on_progress) options.on_progress(done, std::max(done, all));
  }
  TASKWAL_ASSIGN(const wal::Lsn from, RetiredUpTo(fs, survey));
  Conclude(from, options.ceiling, &survey);
  return survey;
}

Result<Survey> SurveyTail(FileSystem& fs, const std::string& directory,
                          const SurveyOptions& options) {
  TASKWAL_ASSIGN(Survey survey, Start(fs, directory));
  wal::Lsn from = survey.identity.state.first_lsn;
  for (auto number = survey.numbers.rbegin(); number != survey.numbers.rend(); ++number) {
    TASKWAL_ASSIGN(const auto reader, OpenSegment(fs, survey, *number));
    if (reader == nullptr) continue;
    const Result<wal::SegmentReader::Footer> footer = reader->ReadFooter();
    const bool sealed = footer.ok() && reader->header_state() == wal::HeaderState::kValid;
    if (sealed) {
      TASKWAL_ASSIGN(SegmentFacts facts, FactsOfSealed(*reader, footer->summary));
      from = std::max(from, facts.header.first_lsn);
      survey.segments.push_back(std::move(facts));
      break;
    }
    TASKWAL_ASSIGN(SegmentFacts facts, ReadWhole(*reader, options));
    survey.segments.push_back(std::move(facts));
  }
  std::reverse(survey.segments.begin(), survey.segments.end());
  Conclude(from, options.ceiling, &survey);
  return survey;
}

}  // namespace taskwal::recovery

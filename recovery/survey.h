// Reads a log directory and judges it: all of it (verify, salvage), or only its end (opening,
// dump). Changes nothing and takes no lock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "recovery/identity.h"
#include "recovery/judgement.h"
#include "recovery/segment_facts.h"
#include "taskwal/status.h"

namespace taskwal::recovery {

struct Survey {
  std::string directory;
  LogIdentity identity;
  std::vector<std::uint64_t> numbers;  // of all segments present
  std::vector<SegmentFacts> segments;  // of those read, ascending
  Judgement judgement;
  std::uint64_t stamp = 0;  // highest seen in headers and footers read
};

struct SurveyOptions {
  // Told after each segment: bytes done, bytes in all. May be empty.
  std::function<void(std::uint64_t done, std::uint64_t all)> on_progress;
  // Told each valid frame of a segment that is read as a whole. May be empty.
  std::function<void(std::uint64_t segment, const wal::Frame& frame)> on_frame;
  Ceiling ceiling;
};

// What another reading may hold the files against.
Ceiling CeilingOf(const Survey& survey);

// Every byte of every segment. Errors as ReadIdentity, and kIoError.
Result<Survey> SurveyLog(FileSystem& fs, const std::string& directory,
                         const SurveyOptions& options = {});

// The segments from the last one back to the first that is sealed; that one by its footer alone.
Result<Survey> SurveyTail(FileSystem& fs, const std::string& directory,
                          const SurveyOptions& options = {});

}  // namespace taskwal::recovery

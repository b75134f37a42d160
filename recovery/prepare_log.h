// The first step of opening a log: takes the lock, reads STATE (or makes the directory), judges the
// end of the log, cuts a torn tail (a copy goes to quarantine/), syncs and seals what nobody
// sealed. Reads only the last segments: those that no later header names as synced. Damage in older
// ones is found when they are read.
#pragma once

#include <cstdint>
#include <string>

#include "base/file_system.h"
#include "recovery/report.h"
#include "recovery/survey.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::recovery {

struct PrepareOptions {
  std::string directory;
  std::uint32_t partitions = 16;  // of a new directory; an existing one keeps its own
  bool create = true;             // false: kNotFound when there is no log
  void (*index_keys)(const wal::RecordView& record, std::vector<std::uint64_t>* keys) = nullptr;
};

struct PrepareReport {
  bool created = false;
  std::uint64_t torn_bytes = 0;
  std::vector<Finding> findings;
  std::vector<wal::LsnRange> unknown;
  bool copied = false;  // the directory is a copy of another (LOCK does not match STATE)
};

// Durable on return. kUnavailable: locked, the message names the holder's process id. kCorruption:
// a format version this program does not read, or a STATE that does not validate with no segment to
// rebuild it from. Safe to repeat after a crash at any point.
Result<wal::LogStart> PrepareLog(FileSystem& fs, const PrepareOptions& options,
                                 PrepareReport* report);

// kCorruption where a segment of the survey is of another format version: opening refuses it.
Status CheckVersions(const Survey& survey);
// Whether LOCK is another file than the one that STATE remembers.
bool IsCopy(const wal::LogState& state, const FileStat& lock);

}  // namespace taskwal::recovery

// Walks a log directory, verifies every checksum and applies the verdicts. Changes nothing, takes
// no lock: `verify`, `inspect` and `recover --dry-run` run it beside a live process.
#pragma once

#include <functional>
#include <string>

#include "base/file_system.h"
#include "recovery/report.h"
#include "taskwal/status.h"

namespace taskwal::recovery {

struct ScanOptions {
  // Told after each segment: bytes done, bytes in all (progress bars). May be empty.
  std::function<void(std::uint64_t done, std::uint64_t all)> on_progress;
};

// kNotFound when there is no directory or nothing of a log in it; kIoError when a file cannot be
// read. Damage is part of the report, not an error.
Result<ScanReport> Scan(FileSystem& fs, const std::string& directory,
                        const ScanOptions& options = {});

}  // namespace taskwal::recovery

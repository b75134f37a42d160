// Bare work of the machine: what nobody can be faster than by much.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "bench/workload.h"
#include "taskwal/status.h"

namespace taskwal::bench {

// A file of zeros, on disk to its end.
Status FillFile(const std::string& path, std::uint64_t bytes);

// pwrite and fdatasync of one block after another over a filled file.
class RawOverwrite {
 public:
  static Result<std::unique_ptr<RawOverwrite>> Open(const std::string& path);
  // Until the time is over; microseconds of each into `latencies`.
  Result<Rate> Run(std::chrono::milliseconds time, std::vector<double>* latencies);

 private:
  explicit RawOverwrite(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  const std::unique_ptr<WritableFile> file_;
  std::uint64_t offset_ = 0;
};

// Reads every segment of the directory once and checks the checksum of each frame's body: no record
// is decoded, nothing is judged. Records, by the counts in the frames' headers.
Result<std::uint64_t> PlainScan(const std::string& directory);

// Writes and flushes that the disk below the directory has done since boot; nothing where the
// system does not tell.
std::optional<std::uint64_t> DeviceWrites(const std::string& directory);

// Resident memory of this process, in bytes: now, and at most since ResetPeakMemory.
std::uint64_t MemoryNow();
std::uint64_t PeakMemory();
void ResetPeakMemory();

}  // namespace taskwal::bench

#include "bench/yardsticks.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/checksum.h"
#include "base/status_macros.h"
#include "wal/frame.h"
#include "wal/log_directory.h"

namespace taskwal::bench {
namespace {

constexpr std::uint64_t kRawFileBytes = 64u << 20;
constexpr std::size_t kRawBlockBytes = 4096;
constexpr std::size_t kScanBytes = 512u << 10;

Result<std::uint64_t> ScanFile(const std::string& path, std::vector<std::byte>* buffer) {
  TASKWAL_ASSIGN(const auto file, FileSystem::Real().OpenReadable(path));
  wal::SegmentHeader segment;
  TASKWAL_ASSIGN(std::size_t count, file->Read(0, std::as_writable_bytes(std::span(&segment, 1))));
  if (count < sizeof segment) return std::uint64_t{0};
  const std::uint64_t seed = wal::FrameSeed(segment.wal_id, segment.number, segment.epoch);
  std::uint64_t records = 0;
  std::uint64_t offset = wal::kSegmentHeaderBytes;
  while (true) {
    TASKWAL_ASSIGN(count, file->Read(offset, *buffer));
    std::size_t at = 0;
    wal::FrameHeader header;
    while (at + sizeof header <= count) {
      std::memcpy(&header, buffer->data() + at, sizeof header);
      if (header.magic != wal::kFrameMagic) return records;
      if (at + sizeof header + header.body_bytes > count) break;
      const auto body = std::span(*buffer).subspan(at + sizeof header, header.body_bytes);
      if (Checksum(body, seed) != header.body_checksum) {
        return Status::Corruption(fmt::format("{} at {}: body checksum", path, offset + at));
      }
      records += header.count;
      at += wal::FrameBytesOnDisk(header);
    }
    if (at == 0) return records;
    offset += at;
  }
}

// A line "name:  123 kB" of /proc/self/status.
std::uint64_t StatusBytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, name.size(), name) == 0)
      return std::stoull(line.substr(name.size())) * 1024;
  }
  return 0;
}

}  // namespace

Status FillFile(const std::string& path, std::uint64_t bytes) {
  TASKWAL_ASSIGN(const auto file, FileSystem::Real().OpenWritable(path, true));
  const std::vector<std::byte> zeros(1u << 20);
  for (std::uint64_t at = 0; at < bytes; at += zeros.size()) {
    TASKWAL_TRY(file->Write(at, std::span(zeros).first(std::min(zeros.size(), bytes - at))));
  }
  return file->Sync();
}

Result<std::unique_ptr<RawOverwrite>> RawOverwrite::Open(const std::string& path) {
  TASKWAL_TRY(FillFile(path, kRawFileBytes));
  TASKWAL_ASSIGN(std::unique_ptr<WritableFile> file, FileSystem::Real().OpenWritable(path, false));
  return std::unique_ptr<RawOverwrite>(new RawOverwrite(std::move(file)));
}

Result<Rate> RawOverwrite::Run(std::chrono::milliseconds time, std::vector<double>* latencies) {
  const std::vector<std::byte> block(kRawBlockBytes, std::byte{'x'});
  Rate rate;
  const Stopwatch watch;
  for (double now = 0; now < std::chrono::duration<double>(time).count(); ++rate.records) {
    TASKWAL_TRY(file_->Write(offset_, block));
    TASKWAL_TRY(file_->Sync());
    offset_ = (offset_ + block.size()) % kRawFileBytes;
    const double after = watch.seconds();
    latencies->push_back((after - now) * 1e6);
    now = after;
  }
  rate.seconds = watch.seconds();
  return rate;
}

Result<std::uint64_t> PlainScan(const std::string& directory) {
  TASKWAL_ASSIGN(const auto numbers, wal::ListSegments(FileSystem::Real(), directory));
  std::vector<std::byte> buffer(kScanBytes);
  std::uint64_t records = 0;
  for (const std::uint64_t number : numbers) {
    TASKWAL_ASSIGN(const std::uint64_t found,
                   ScanFile(wal::JoinPath(directory, wal::SegmentName(number)), &buffer));
    records += found;
  }
  return records;
}

std::optional<std::uint64_t> DeviceWrites(const std::string& directory) {
  struct stat found {};
  if (::stat(directory.c_str(), &found) != 0) return std::nullopt;
  std::ifstream file(
      fmt::format("/sys/dev/block/{}:{}/stat", major(found.st_dev), minor(found.st_dev)));
  // Field 5: writes completed; field 16: flushes, where the kernel counts them.
  std::vector<std::uint64_t> fields;
  for (std::uint64_t field = 0; file >> field;) fields.push_back(field);
  if (fields.size() < 5) return std::nullopt;
  return fields[4] + (fields.size() > 15 ? fields[15] : 0);
}

std::uint64_t MemoryNow() { return StatusBytes("VmRSS:"); }

std::uint64_t PeakMemory() { return StatusBytes("VmHWM:"); }

void ResetPeakMemory() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

}  // namespace taskwal::bench

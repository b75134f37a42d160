#include "wal/segment_pool.h"

#include <algorithm>
#include <bit>

#include "base/status_macros.h"
#include "wal/format.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

namespace {

constexpr std::uint64_t kFillBytes = 1u << 20;
constexpr std::uint64_t kReserveBytes = 256u << 10;
constexpr std::size_t kSparesKept = 4;
constexpr char kReserveName[] = "RESERVE";
constexpr std::uint64_t kRingBytesMin = 64u << 10;
constexpr std::uint64_t kSegmentBytesMin = 16u << 10;

bool IsSettled(const ClosedSegment& segment, Lsn flushed) {
  return segment.first_lsn != 0 && segment.last_lsn <= flushed;
}

}  // namespace

LogSizes FitToDisk(const DiskSpace& space, std::uint64_t ring_bytes, std::uint64_t segment_bytes) {
  LogSizes sizes;
  sizes.ring_bytes =
      std::bit_floor(std::max(kRingBytesMin, std::min(std::bit_ceil(ring_bytes), space.total / 8)));
  sizes.segment_bytes = AlignUp(
      std::max(kSegmentBytesMin, std::min(segment_bytes, space.total / 16)), kSegmentHeaderBytes);
  return sizes;
}

SegmentPool::SegmentPool(FileSystem& fs, Clock& clock, PoolOptions options)
    : fs_(fs), clock_(clock), options_(std::move(options)) {}

Status SegmentPool::Open(const std::vector<std::uint64_t>& segments) {
  TASKWAL_ASSIGN(const std::vector<DirectoryEntry> entries, fs_.List(options_.directory));
  std::vector<Spare> spares;
  std::uint64_t next_spare = 1;
  bool has_reserve = false;
  for (const DirectoryEntry& entry : entries) {
    has_reserve = has_reserve || entry.name == kReserveName;
    const auto number = ParseSpareName(entry.name);
    if (!number) continue;
    next_spare = std::max(next_spare, *number + 1);
    TASKWAL_ASSIGN(const FileStat stat, fs_.Stat(JoinPath(options_.directory, entry.name)));
    // Half made, perhaps: then it is filled up when taken. What it holds does not matter, only that
    // its blocks are there: frames validate by their own checksums.
    spares.push_back({entry.name, stat.size});
  }
  MutexLock lock(mutex_);
  spares_ = std::move(spares);
  next_spare_ = next_spare;
  has_reserve_ = has_reserve;
  for (const std::uint64_t number : segments) closed_.push_back({number, 0, 0, 0, Time{}});
  return Status::Ok();
}

std::uint64_t SegmentPool::NextSpareNumber() {
  MutexLock lock(mutex_);
  return next_spare_++;
}

Status SegmentPool::Fill(const std::string& name, std::uint64_t from, std::uint64_t to) {
  static const std::vector<std::byte> zeros(kFillBytes);
  TASKWAL_ASSIGN(const std::unique_ptr<WritableFile> file,
                 fs_.OpenWritable(JoinPath(options_.directory, name), true));
  for (std::uint64_t at = from; at < to; at += kFillBytes) {
    TASKWAL_TRY(file->Write(at, std::span(zeros).first(std::min(kFillBytes, to - at))));
  }
  return file->Sync();
}

Result<SegmentPool::Spare> SegmentPool::Take(std::uint64_t bytes) {
  std::optional<Spare> spare;
  {
    MutexLock lock(mutex_);
    const auto fits = std::find_if(spares_.begin(), spares_.end(),
                                   [&](const Spare& s) { return s.bytes >= bytes; });
    const auto found = fits != spares_.end() ? fits : spares_.begin();
    if (found != spares_.end()) {
      spare = *found;
      spares_.erase(found);
    }
  }
  if (spare && spare->bytes >= bytes) return *spare;
  if (!spare) spare = Spare{SpareName(NextSpareNumber()), 0};
  const Status filled = Fill(spare->name, spare->bytes, bytes);
  if (!filled.ok()) {
    IgnoreStatus(fs_.Remove(JoinPath(options_.directory, spare->name)), "gives back what it took");
    return filled;
  }
  spare->bytes = bytes;
  return *spare;
}

Result<bool> SegmentPool::MakeAhead(std::uint64_t bytes) {
  bool needs_reserve;
  {
    MutexLock lock(mutex_);
    needs_reserve = !has_reserve_;
    const bool ready = std::any_of(spares_.begin(), spares_.end(),
                                   [&](const Spare& s) { return s.bytes >= bytes; });
    if (ready && !needs_reserve) return false;
  }
  if (needs_reserve) TASKWAL_TRY(MakeReserve());
  TASKWAL_ASSIGN(Spare spare, Take(bytes));
  MutexLock lock(mutex_);
  spares_.push_back(std::move(spare));
  return true;
}

Status SegmentPool::MakeReserve() {
  const Status filled = Fill(kReserveName, 0, kReserveBytes);
  if (!filled.ok()) {
    IgnoreStatus(fs_.Remove(JoinPath(options_.directory, kReserveName)), "gives back what it took");
    return filled;
  }
  MutexLock lock(mutex_);
  has_reserve_ = true;
  return Status::Ok();
}

void SegmentPool::GiveUpReserve() {
  {
    MutexLock lock(mutex_);
    if (!has_reserve_) return;
    has_reserve_ = false;
  }
  IgnoreStatus(fs_.Remove(JoinPath(options_.directory, kReserveName)), "made only to be given up");
}

void SegmentPool::RemoveSpares() {
  std::vector<Spare> spares;
  {
    MutexLock lock(mutex_);
    spares.swap(spares_);
  }
  for (const Spare& spare : spares) {
    IgnoreStatus(fs_.Remove(JoinPath(options_.directory, spare.name)),
                 "a spare left over harms nobody");
  }
}

void SegmentPool::AddClosed(const ClosedSegment& segment) {
  MutexLock lock(mutex_);
  closed_.push_back(segment);
}

std::vector<ClosedSegment> SegmentPool::Closed() const {
  MutexLock lock(mutex_);
  return closed_;
}

void SegmentPool::Learn(const ClosedSegment& segment) {
  MutexLock lock(mutex_);
  for (ClosedSegment& known : closed_) {
    if (known.number == segment.number) known = segment;
  }
}

std::uint64_t SegmentPool::closed_count() const {
  MutexLock lock(mutex_);
  return closed_.size();
}

std::uint64_t SegmentPool::closed_bytes() const {
  MutexLock lock(mutex_);
  std::uint64_t sum = 0;
  for (const ClosedSegment& segment : closed_) sum += segment.bytes;
  return sum;
}

std::vector<ClosedSegment> SegmentPool::Retirable(Lsn flushed, bool all) const {
  const Time now = clock_.WallNow();
  MutexLock lock(mutex_);
  std::uint64_t kept = 0;
  for (const ClosedSegment& segment : closed_) {
    if (IsSettled(segment, flushed)) kept += segment.bytes;
  }
  std::vector<ClosedSegment> result;
  for (const ClosedSegment& segment : closed_) {
    if (!IsSettled(segment, flushed)) break;
    const bool old = now - segment.closed_at > options_.retention;
    if (!all && !old && kept <= options_.retention_bytes) break;
    kept -= segment.bytes;
    result.push_back(segment);
  }
  return result;
}

Status SegmentPool::Drop(const ClosedSegment& segment) {
  const std::string path = JoinPath(options_.directory, SegmentName(segment.number));
  bool recycle;
  {
    MutexLock lock(mutex_);
    std::erase_if(closed_, [&](const ClosedSegment& s) { return s.number == segment.number; });
    // A few in reserve are enough: the rest goes back to the file system.
    recycle = spares_.size() < kSparesKept && segment.bytes >= options_.segment_bytes / 2;
  }
  if (!recycle) return fs_.Remove(path);
  const std::string name = SpareName(NextSpareNumber());
  TASKWAL_TRY(fs_.Rename(path, JoinPath(options_.directory, name)));
  MutexLock lock(mutex_);
  spares_.push_back({name, segment.bytes});
  return Status::Ok();
}

std::uint64_t SegmentPool::UnflushedBytes(Lsn flushed) const {
  MutexLock lock(mutex_);
  std::uint64_t sum = 0;
  for (const ClosedSegment& segment : closed_) {
    if (!IsSettled(segment, flushed)) sum += segment.bytes;
  }
  return sum;
}

std::uint64_t SegmentPool::spare_bytes() const {
  MutexLock lock(mutex_);
  std::uint64_t sum = 0;
  for (const Spare& spare : spares_) sum += spare.bytes;
  return sum;
}

SegmentPool::RoomLeft SegmentPool::Room(Lsn flushed, std::uint64_t active_bytes,
                                        std::uint64_t next_bytes) const {
  const auto of_quota = static_cast<std::int64_t>(options_.quota_bytes) -
                        static_cast<std::int64_t>(UnflushedBytes(flushed) + active_bytes);
  const Result<DiskSpace> space = fs_.Space(options_.directory);
  if (!space.ok()) return {of_quota, of_quota};  // the next write tells
  const std::uint64_t quarter = space->total / 4;
  const std::uint64_t keep = std::max({std::min(2 * next_bytes, quarter), space->total / 20,
                                       std::min(std::uint64_t{256u << 20}, quarter)});
  return {of_quota,
          static_cast<std::int64_t>(space->available) - static_cast<std::int64_t>(keep)};
}

}  // namespace taskwal::wal

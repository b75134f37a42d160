#include "wal/segment_pool.h"

#include <algorithm>
#include <bit>

#include "base/status_macros.h"
#include "wal/format.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

namespace {

constexpr std::uint64_t kFillBytes = 1u << 20;
// Of the reserve: for a small segment, and for a STATE of few targets.
constexpr std::uint64_t kReserveGivenUpBytes = 224u << 10;
constexpr std::uint64_t kReserveKeptBytes = 32u << 10;
constexpr std::size_t kSparesKept = 4;
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
    : fs_(fs),
      clock_(clock),
      options_(std::move(options)),
      kept_for_state_(kReserveKeptBytes) {}

Status SegmentPool::Open(const std::vector<std::uint64_t>& segments) {
  TASKWAL_ASSIGN(const std::vector<DirectoryEntry> entries, fs_.List(options_.directory));
  std::vector<Spare> spares;
  std::uint64_t next_spare = 1;
  std::uint64_t reserve_bytes = 0;
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == kReserveFileName) {
      TASKWAL_ASSIGN(const FileStat stat, fs_.Stat(JoinPath(options_.directory, entry.name)));
      reserve_bytes = stat.size;
    }
    const auto number = ParseSpareName(entry.name);
    if (!number) continue;
    next_spare = std::max(next_spare, *number + 1);
    TASKWAL_ASSIGN(const FileStat stat, fs_.Stat(JoinPath(options_.directory, entry.name)));
    // Half made, perhaps: then it is filled up when taken. What it holds does not matter, only that
    // its blocks are there: frames validate by their own checksums.
    spares.push_back({entry.name, stat.size});
  }
  RemoveSurplus(&spares);
  MutexLock lock(mutex_);
  spares_ = std::move(spares);
  next_spare_ = next_spare;
  reserve_bytes_ = reserve_bytes;
  is_reserve_used_ = reserve_bytes > 0 && reserve_bytes < ReserveWanted();
  for (const std::uint64_t number : segments) closed_.push_back({number, 0, 0, 0, Time{}});
  return Status::Ok();
}

// A power cut brings back what was removed and not synced yet: while writes failed, hundreds. They
// would take the room of others until the end, which would be busy removing them.
void SegmentPool::RemoveSurplus(std::vector<Spare>* spares) {
  if (spares->size() <= kSparesKept) return;
  std::stable_sort(spares->begin(), spares->end(),
                   [](const Spare& a, const Spare& b) { return a.bytes > b.bytes; });
  for (auto spare = spares->begin() + kSparesKept; spare != spares->end(); ++spare) {
    IgnoreStatus(fs_.Remove(JoinPath(options_.directory, spare->name)),
                 "a spare left over harms nobody");
  }
  spares->resize(kSparesKept);
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

void SegmentPool::GiveBack(Spare spare) {
  MutexLock lock(mutex_);
  spares_.push_back(std::move(spare));
}

std::uint64_t SegmentPool::Lacking(std::uint64_t bytes) const {
  MutexLock lock(mutex_);
  const bool ready = std::any_of(spares_.begin(), spares_.end(),
                                 [&](const Spare& s) { return s.bytes >= bytes; });
  if (ready) return 0;
  return spares_.empty() ? bytes : bytes - spares_.front().bytes;
}

bool SegmentPool::MayTake(std::uint64_t bytes) const { return CheckSpace(Lacking(bytes)).ok(); }

Status SegmentPool::CheckSpace(std::uint64_t bytes) const {
  if (bytes == 0) return Status::Ok();
  const Result<DiskSpace> space = fs_.Space(options_.directory);
  if (!space.ok() || space->available >= bytes) return Status::Ok();
  return Status::Unavailable("no space left on the disk of " + options_.directory);
}

Result<bool> SegmentPool::MakeAhead(std::uint64_t bytes) {
  if (Lacking(bytes) == 0) return false;
  TASKWAL_ASSIGN(Spare spare, Take(bytes));
  GiveBack(std::move(spare));
  return true;
}

std::uint64_t SegmentPool::ReserveWanted() const { return kept_for_state_ + kReserveGivenUpBytes; }

void SegmentPool::KeepForState(std::uint64_t bytes) {
  MutexLock lock(mutex_);
  kept_for_state_ = std::max(kReserveKeptBytes, bytes);
}

bool SegmentPool::lacks_reserve() const {
  MutexLock lock(mutex_);
  return reserve_bytes_ < ReserveWanted();
}

Status SegmentPool::MakeReserve() {
  std::uint64_t wanted = 0;
  std::uint64_t lacking = 0;
  {
    MutexLock lock(mutex_);
    wanted = ReserveWanted();
    lacking = wanted - std::min(reserve_bytes_, wanted);
  }
  TASKWAL_TRY(CheckSpace(lacking));
  // What it was written over with may have been STATE until a moment ago.
  TASKWAL_TRY(fs_.SyncDirectory(options_.directory));
  const Status filled = Fill(kReserveFileName, 0, wanted);
  if (!filled.ok()) {
    GiveUpReserve();
    return filled;
  }
  MutexLock lock(mutex_);
  reserve_bytes_ = wanted;
  is_reserve_used_ = false;
  return Status::Ok();
}

void SegmentPool::NoteReserveUsed() {
  const auto left = fs_.Stat(JoinPath(options_.directory, kReserveFileName));
  MutexLock lock(mutex_);
  reserve_bytes_ = left.ok() ? left->size : 0;
  is_reserve_used_ = true;
}

void SegmentPool::GiveUpReserve() {
  const std::string path = JoinPath(options_.directory, kReserveFileName);
  const auto stat = fs_.Stat(path);
  if (!stat.ok()) return;
  std::uint64_t kept = 0;
  {
    MutexLock lock(mutex_);
    kept = kept_for_state_;
  }
  if (stat->size > kept) {
    const auto file = fs_.OpenWritable(path, /*create=*/false);
    if (file.ok()) IgnoreStatus((*file)->Truncate(kept), "made only to be given up");
  }
  NoteReserveUsed();
}

void SegmentPool::TurnReserveIntoSpare() {
  const std::string path = JoinPath(options_.directory, kReserveFileName);
  const auto stat = fs_.Stat(path);
  const std::string name = SpareName(NextSpareNumber());
  if (!stat.ok() || !fs_.SyncDirectory(options_.directory).ok()) return;
  if (!fs_.Rename(path, JoinPath(options_.directory, name)).ok()) return;
  NoteReserveUsed();
  MutexLock lock(mutex_);
  spares_.push_back({name, stat->size});
}

// At once, without a moment in which the room of the segment is anybody's: on a disk shared with
// the database every byte that is free is taken.
bool SegmentPool::MakeReserveOf(const ClosedSegment& segment) {
  const std::string path = JoinPath(options_.directory, kReserveFileName);
  if (!fs_.Rename(JoinPath(options_.directory, SegmentName(segment.number)), path).ok()) {
    return false;
  }
  std::uint64_t wanted = 0;
  {
    MutexLock lock(mutex_);
    wanted = ReserveWanted();
  }
  // Crash here: the segment may be back. It must not be cut then, which would pass for damage.
  if (segment.bytes > wanted && fs_.SyncDirectory(options_.directory).ok()) {
    const auto file = fs_.OpenWritable(path, /*create=*/false);
    if (file.ok()) IgnoreStatus((*file)->Truncate(wanted), "a large reserve does as well");
  }
  MutexLock lock(mutex_);
  reserve_bytes_ = std::min(segment.bytes, wanted);
  is_reserve_used_ = reserve_bytes_ < wanted;
  return true;
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
  bool is_reserve;
  {
    MutexLock lock(mutex_);
    std::erase_if(closed_, [&](const ClosedSegment& s) { return s.number == segment.number; });
    // A few in reserve are enough: the rest goes back to the file system.
    is_reserve = is_reserve_used_ && segment.bytes > reserve_bytes_;
    recycle = spares_.size() < kSparesKept && segment.bytes >= options_.segment_bytes / 2;
  }
  if (is_reserve && MakeReserveOf(segment)) return Status::Ok();
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

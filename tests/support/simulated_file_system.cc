#include "tests/support/simulated_file_system.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/byte_codec.h"
#include "base/check.h"
#include "base/posix_file.h"
#include "base/posix_ring.h"
#include "base/status_macros.h"
#include "base/whole_read.h"

namespace taskwal {
namespace {

bool IsRingSize(std::uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes >= static_cast<std::uint64_t>(::getpagesize());
}

Uuid RandomUuid(Random& random) {
  Uuid id;
  const auto bytes = std::as_writable_bytes(std::span(id.bytes));
  StoreLittle(bytes.data(), random.Next());
  StoreLittle(bytes.data() + 8, random.Next());
  return id;
}

std::string AsString(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Result<std::unique_ptr<RingFile>> Map(const SimulatedFile& file, const std::string& path) {
  UniqueFd fd(::dup(file.memory.get()));
  if (fd.get() < 0) return ErrnoStatus("map " + path, errno);
  return MapRing(std::move(fd), path, file.Size() - kRingHeaderBytes, RingAccess::kReadWrite);
}

}  // namespace

class SimulatedFileSystem::Writable final : public WritableFile {
 public:
  Writable(SimulatedFileSystem& fs, File file, std::string path, std::uint64_t process)
      : fs_(fs),
        file_(std::move(file)),
        path_(std::move(path)),
        process_(process),
        errors_seen_(file_->sync_errors) {}

  Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    MutexLock lock(fs_.mutex_);
    return fs_.WriteTo(file_, process_, path_, offset, bytes);
  }

  Status Sync() override {
    MutexLock lock(fs_.mutex_);
    return fs_.SyncOf(file_, process_, path_, &errors_seen_);
  }

  Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
    TASKWAL_TRY(Write(offset, bytes));
    return Sync();
  }

  Status Truncate(std::uint64_t size) override {
    MutexLock lock(fs_.mutex_);
    const Outcome outcome = fs_.BeginOn(process_, SimulatedCall::kTruncate, path_);
    if (fs_.TakesEffect(outcome)) {
      file_->Resize(size);
      file_->modified = fs_.TouchTime();
    }
    return outcome.status;
  }

 private:
  SimulatedFileSystem& fs_;
  const File file_;
  const std::string path_;
  const std::uint64_t process_;
  std::uint64_t errors_seen_;  // guarded by fs_.mutex_
};

class SimulatedFileSystem::Readable final : public ReadableFile {
 public:
  Readable(SimulatedFileSystem& fs, File file, std::string path, std::uint64_t process)
      : fs_(fs), file_(std::move(file)), path_(std::move(path)), process_(process) {}

  Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const override {
    MutexLock lock(fs_.mutex_);
    TASKWAL_TRY(fs_.BeginOn(process_, SimulatedCall::kRead, path_).status);
    return fs_.ReadFrom(*file_, offset, into);
  }

  Result<std::uint64_t> Size() const override {
    MutexLock lock(fs_.mutex_);
    TASKWAL_TRY(fs_.BeginOn(process_, SimulatedCall::kSize, path_).status);
    return file_->Size();
  }

 private:
  SimulatedFileSystem& fs_;
  const File file_;
  const std::string path_;
  const std::uint64_t process_;
};

class SimulatedFileSystem::LockHandle final : public FileLock {
 public:
  LockHandle(SimulatedFileSystem& fs, std::uint64_t inode, std::uint64_t process)
      : fs_(fs), inode_(inode), process_(process) {}
  ~LockHandle() override {
    MutexLock lock(fs_.mutex_);
    const auto held = fs_.locks_.find(inode_);
    if (held != fs_.locks_.end() && held->second == process_) fs_.locks_.erase(held);
  }

 private:
  SimulatedFileSystem& fs_;
  const std::uint64_t inode_;
  const std::uint64_t process_;
};

SimulatedFileSystem::SimulatedFileSystem(std::uint64_t seed, Clock* clock)
    : clock_(clock), random_(seed), for_reads_(~seed), boot_id_(RandomUuid(random_)) {}

SimulatedFileSystem::~SimulatedFileSystem() = default;

SimulatedFileSystem::Outcome SimulatedFileSystem::Begin(SimulatedCall call,
                                                        const std::string& path) {
  return BeginOn(process_, call, path);
}

SimulatedFileSystem::Outcome SimulatedFileSystem::BeginOn(std::uint64_t process,
                                                          SimulatedCall call,
                                                          const std::string& path) {
  if (crashed_ || process != process_) {
    return {Fate::kDead, Status::IoError("crashed: the process that opened " + path + " is dead")};
  }
  ++calls_;
  if (crash_at_ != 0 && calls_ >= crash_at_) {
    crashed_ = true;
    // Threads of the dead process may go on storing into their mapping for a while.
    disk_.DetachRings();
    return {Fate::kDies, Status::IoError("crashed in a call on " + path)};
  }
  Outcome outcome;
  for (ArmedFault& armed : faults_) {
    const SimulatedFault& fault = armed.fault;
    if (fault.call.value_or(call) != call || path.find(fault.path_part) == std::string::npos) {
      continue;
    }
    ++armed.seen;
    if (armed.seen == armed.n || (fault.sticky && armed.seen > armed.n)) {
      outcome = {Fate::kFails, fault.status};
    }
  }
  if (outcome.fate == Fate::kFails) ++failed_[call];
  return outcome;
}

bool SimulatedFileSystem::TakesEffect(const Outcome& outcome) {
  return outcome.fate == Fate::kLives || (outcome.fate == Fate::kDies && random_.OneIn(2));
}

Result<std::size_t> SimulatedFileSystem::ReadFrom(const SimulatedFile& file, std::uint64_t offset,
                                                  std::span<std::byte> into) {
  const std::uint64_t one_in = short_reads_one_in_;
  Random& random = for_reads_;
  DiskFates& fates = fates_;
  const auto read_some = [&](std::uint64_t from,
                             std::span<std::byte> part) -> Result<std::size_t> {
    if (part.size() > 1 && one_in > 0 && random.OneIn(one_in)) {
      ++fates.short_reads;
      part = part.first(1 + random.Below(part.size() - 1));
    }
    return file.ReadAt(from, part);
  };
  return ReadWhole(offset, into, read_some);
}

Status SimulatedFileSystem::WriteTo(const File& file, std::uint64_t process,
                                    const std::string& path, std::uint64_t offset,
                                    std::span<const std::byte> bytes) {
  Outcome outcome = BeginOn(process, SimulatedCall::kWrite, path);
  if (outcome.fate == Fate::kDead) return outcome.status;
  std::uint64_t size = bytes.size();
  if (outcome.fate != Fate::kLives) size = random_.Below(size + 1);

  const std::uint64_t end = offset + size;
  const std::uint64_t growth = end > file->Size() ? end - file->Size() : 0;
  const std::uint64_t missing = growth - std::min(growth, RoomFor(growth));
  if (missing > 0) {
    size -= std::min(size, missing);
    outcome.status = ErrnoStatus(fmt::format("write {} at {}", path, offset), ENOSPC);
  }
  if (size > 0 && size < bytes.size()) ++fates_.short_writes;
  file->WriteAt(offset, bytes.first(size));
  file->modified = TouchTime();
  return outcome.status;
}

Status SimulatedFileSystem::SyncOf(const File& file, std::uint64_t process,
                                   const std::string& path, std::uint64_t* errors_seen) {
  const Outcome outcome = BeginOn(process, SimulatedCall::kSync, path);
  if (outcome.fate == Fate::kFails) {
    file->FailSync(random_);
    *errors_seen = file->sync_errors;
  } else if (TakesEffect(outcome)) {
    file->Sync();
  }
  if (!outcome.status.ok()) return outcome.status;
  // Another description's failed sync is told here too, once, whatever became of this one.
  if (std::exchange(*errors_seen, file->sync_errors) == file->sync_errors) return Status::Ok();
  return ErrnoStatus("sync " + path, EIO);
}

std::uint64_t SimulatedFileSystem::RoomFor(std::uint64_t bytes) const {
  if (bytes == 0) return 0;  // spares the count of what is used
  return capacity_ - std::min(capacity_, disk_.UsedBytes());
}

Time SimulatedFileSystem::TouchTime() { return clock_ == nullptr ? Time{} : clock_->WallNow(); }

Result<SimulatedFileSystem::File> SimulatedFileSystem::FindOrCreate(const std::string& path,
                                                                    bool create) {
  if (disk_.IsDirectory(path)) return ErrnoStatus("open " + path, EISDIR);
  File file = disk_.Find(path);
  if (file) return file;
  if (!create || !disk_.IsDirectory(SimulatedDisk::ParentOf(path))) {
    return ErrnoStatus("open " + path, ENOENT);
  }
  if (lacks_inodes_) return ErrnoStatus("open " + path, ENOSPC);
  file = disk_.Create(path);
  file->modified = TouchTime();
  return file;
}

Result<std::unique_ptr<WritableFile>> SimulatedFileSystem::OpenWritable(const std::string& path,
                                                                        bool create) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kOpenWritable, path);
  if (!TakesEffect(outcome)) return outcome.status;
  TASKWAL_ASSIGN(File file, FindOrCreate(SimulatedDisk::Normal(path), create));
  TASKWAL_TRY(outcome.status);
  return std::unique_ptr<WritableFile>(
      std::make_unique<Writable>(*this, std::move(file), path, process_));
}

Result<std::unique_ptr<ReadableFile>> SimulatedFileSystem::OpenReadable(const std::string& path) {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kOpenReadable, path).status);
  TASKWAL_ASSIGN(File file, FindOrCreate(SimulatedDisk::Normal(path), /*create=*/false));
  return std::unique_ptr<ReadableFile>(
      std::make_unique<Readable>(*this, std::move(file), path, process_));
}

Result<std::unique_ptr<RingFile>> SimulatedFileSystem::CreateRing(const std::string& path,
                                                                  std::uint64_t ring_bytes) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kCreateRing, path);
  if (!TakesEffect(outcome)) return outcome.status;
  if (!IsRingSize(ring_bytes)) {
    return Status::InvalidArgument(fmt::format(
        "cannot create {}: {} bytes are no power of two of whole pages", path, ring_bytes));
  }
  const std::string name = SimulatedDisk::Normal(path);
  if (!disk_.IsDirectory(SimulatedDisk::ParentOf(name))) {
    return ErrnoStatus("create " + path, ENOENT);
  }
  const std::uint64_t size = kRingHeaderBytes + ring_bytes;
  if (RoomFor(size) < size || (lacks_inodes_ && !disk_.Find(name))) {
    return ErrnoStatus(fmt::format("allocate {} bytes for {}", size, path), ENOSPC);
  }
  const File file = disk_.Create(name);
  file->ResizeDurably(size);
  file->BecomeRing();
  file->modified = TouchTime();
  TASKWAL_TRY(outcome.status);
  return Map(*file, path);
}

Result<std::unique_ptr<RingFile>> SimulatedFileSystem::OpenRing(const std::string& path) {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kOpenRing, path).status);
  TASKWAL_ASSIGN(const File file, FindOrCreate(SimulatedDisk::Normal(path), /*create=*/false));
  const std::uint64_t size = file->Size();
  if (size < kRingHeaderBytes || !IsRingSize(size - kRingHeaderBytes)) {
    return Status::Corruption(fmt::format("{} has {} bytes, which no ring has", path, size));
  }
  file->BecomeRing();
  return Map(*file, path);
}

Status SimulatedFileSystem::Rename(const std::string& from, const std::string& to) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kRename, from);
  if (!TakesEffect(outcome)) return outcome.status;
  const std::string source = SimulatedDisk::Normal(from);
  const std::string target = SimulatedDisk::Normal(to);
  if (!disk_.Find(source) || !disk_.IsDirectory(SimulatedDisk::ParentOf(target))) {
    return ErrnoStatus("rename " + from + " to " + to, ENOENT);
  }
  disk_.Rename(source, target);
  return outcome.status;
}

Status SimulatedFileSystem::Exchange(const std::string& a, const std::string& b) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kExchange, a);
  if (!TakesEffect(outcome)) return outcome.status;
  const std::string one = SimulatedDisk::Normal(a);
  const std::string other = SimulatedDisk::Normal(b);
  if (!disk_.Find(one) || !disk_.Find(other)) {
    return ErrnoStatus("exchange " + a + " and " + b, ENOENT);
  }
  disk_.Exchange(one, other);
  return outcome.status;
}

Status SimulatedFileSystem::Remove(const std::string& path) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kRemove, path);
  if (!TakesEffect(outcome)) return outcome.status;
  const std::string name = SimulatedDisk::Normal(path);
  if (!disk_.Find(name)) return ErrnoStatus("remove " + path, ENOENT);
  if (!disk_.List(name).empty()) return ErrnoStatus("remove " + path, ENOTEMPTY);
  disk_.Remove(name);
  return outcome.status;
}

Status SimulatedFileSystem::SyncDirectory(const std::string& path) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kSyncDirectory, path);
  if (!TakesEffect(outcome)) return outcome.status;
  const std::string name = SimulatedDisk::Normal(path);
  if (!disk_.IsDirectory(name)) return ErrnoStatus("open directory " + path, ENOENT);
  disk_.SyncDirectory(name);
  return outcome.status;
}

Status SimulatedFileSystem::MakeDirectories(const std::string& path) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kMakeDirectories, path);
  if (!TakesEffect(outcome)) return outcome.status;
  const std::string name = SimulatedDisk::Normal(path);
  for (std::size_t end = 0; end != std::string::npos;) {
    end = name.find('/', end + 1);
    const std::string part = name.substr(0, end);
    const File there = disk_.Find(part);
    if (there && !there->is_directory) return ErrnoStatus("create directory " + part, EEXIST);
    disk_.MakeDirectory(part);
  }
  return outcome.status;
}

Result<std::vector<DirectoryEntry>> SimulatedFileSystem::List(const std::string& path) {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kList, path).status);
  const std::string name = SimulatedDisk::Normal(path);
  if (!disk_.IsDirectory(name)) {
    return ErrnoStatus("list " + path, disk_.Find(name) ? ENOTDIR : ENOENT);
  }
  return disk_.List(name);
}

Result<FileStat> SimulatedFileSystem::Stat(const std::string& path) {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kStat, path).status);
  const File file = disk_.Find(SimulatedDisk::Normal(path));
  if (!file) return ErrnoStatus("stat " + path, ENOENT);
  return FileStat{file->Size(), file->inode, file->born, file->modified};
}

Result<DiskSpace> SimulatedFileSystem::Space(const std::string& path) {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kSpace, path).status);
  const std::string name = SimulatedDisk::Normal(path);
  if (!disk_.IsDirectory(name) && !disk_.Find(name)) {
    return ErrnoStatus("read space of " + path, ENOENT);
  }
  return DiskSpace{capacity_, capacity_ - std::min(capacity_, disk_.UsedBytes()), lacks_inodes_};
}

Result<std::unique_ptr<FileLock>> SimulatedFileSystem::Lock(const std::string& path) {
  MutexLock lock(mutex_);
  const Outcome outcome = Begin(SimulatedCall::kLock, path);
  if (!TakesEffect(outcome)) return outcome.status;
  TASKWAL_ASSIGN(const File file, FindOrCreate(SimulatedDisk::Normal(path), /*create=*/true));
  TASKWAL_TRY(outcome.status);
  const auto [held, taken] = locks_.try_emplace(file->inode, process_);
  if (!taken) {
    return Status::Unavailable(fmt::format("{} is in use by process {}", path, held->second));
  }
  const std::string pid = fmt::format("{}\n", process_);
  file->WriteAt(0, std::as_bytes(std::span(pid)));
  return std::unique_ptr<FileLock>(std::make_unique<LockHandle>(*this, file->inode, process_));
}

Result<Uuid> SimulatedFileSystem::BootId() {
  MutexLock lock(mutex_);
  TASKWAL_TRY(Begin(SimulatedCall::kBootId, "boot_id").status);
  return boot_id_;
}

void SimulatedFileSystem::FailNth(std::uint64_t n, SimulatedFault fault) {
  TASKWAL_CHECK(n > 0);
  MutexLock lock(mutex_);
  faults_.push_back({std::move(fault), n, 0});
}

void SimulatedFileSystem::ClearFaults() {
  MutexLock lock(mutex_);
  faults_.clear();
  crash_at_ = 0;
}

void SimulatedFileSystem::CrashAfter(std::uint64_t n) {
  TASKWAL_CHECK(n > 0);
  MutexLock lock(mutex_);
  crash_at_ = calls_ + n;
}

std::uint64_t SimulatedFileSystem::failed(SimulatedCall call) const {
  MutexLock lock(mutex_);
  const auto known = failed_.find(call);
  return known == failed_.end() ? 0 : known->second;
}

std::uint64_t SimulatedFileSystem::calls() const {
  MutexLock lock(mutex_);
  return calls_;
}

bool SimulatedFileSystem::crashed() const {
  MutexLock lock(mutex_);
  return crashed_;
}

void SimulatedFileSystem::SetCapacity(std::uint64_t bytes) {
  MutexLock lock(mutex_);
  capacity_ = bytes;
}

void SimulatedFileSystem::SetLacksInodes(bool lacks) {
  MutexLock lock(mutex_);
  lacks_inodes_ = lacks;
}

void SimulatedFileSystem::StartNextProcess() {
  ++process_;
  failed_.clear();
  locks_.clear();
  crashed_ = false;
  crash_at_ = 0;
}

void SimulatedFileSystem::Reseed(std::uint64_t seed) {
  MutexLock lock(mutex_);
  random_ = Random(seed);
  for_reads_ = Random(~seed);
}

void SimulatedFileSystem::SetShortReads(std::uint64_t one_in) {
  MutexLock lock(mutex_);
  short_reads_one_in_ = one_in;
}

DiskFates SimulatedFileSystem::fates() const {
  MutexLock lock(mutex_);
  return fates_;
}

void SimulatedFileSystem::Kill() {
  MutexLock lock(mutex_);
  if (!crashed_) disk_.DetachRings();
  StartNextProcess();
}

void SimulatedFileSystem::PowerLoss(Random& random, const PowerLossOdds& odds) {
  MutexLock lock(mutex_);
  disk_.LosePower(random, odds, &fates_);
  boot_id_ = RandomUuid(random_);
  StartNextProcess();
}

SimulatedFileSystem::File SimulatedFileSystem::Existing(const std::string& path) const {
  File file = disk_.Find(SimulatedDisk::Normal(path));
  TASKWAL_CHECK(file != nullptr);
  return file;
}

void SimulatedFileSystem::Corrupt(const std::string& path, std::uint64_t offset,
                                  std::uint8_t mask) {
  MutexLock lock(mutex_);
  Existing(path)->FlipBits(offset, mask);
}

void SimulatedFileSystem::TruncateFile(const std::string& path, std::uint64_t size) {
  MutexLock lock(mutex_);
  Existing(path)->ResizeDurably(size);
}

bool SimulatedFileSystem::Exists(const std::string& path) const {
  MutexLock lock(mutex_);
  const std::string name = SimulatedDisk::Normal(path);
  return disk_.Find(name) != nullptr || disk_.IsDirectory(name);
}

std::string SimulatedFileSystem::Content(const std::string& path) const {
  MutexLock lock(mutex_);
  return AsString(Existing(path)->Content());
}

std::map<std::string, std::string> SimulatedFileSystem::Dump(const std::string& directory) const {
  MutexLock lock(mutex_);
  std::string prefix = SimulatedDisk::Normal(directory);
  if (prefix != "/") prefix += '/';
  std::map<std::string, std::string> contents;
  for (const auto& [path, file] : disk_.names()) {
    if (path.starts_with(prefix) && !file->is_directory) {
      contents[path] = AsString(file->Content());
    }
  }
  return contents;
}

void SimulatedFileSystem::CopyTree(const std::string& from, const std::string& to) {
  MutexLock lock(mutex_);
  disk_.CopyTree(SimulatedDisk::Normal(from), SimulatedDisk::Normal(to));
}

void SimulatedFileSystem::RemoveTree(const std::string& path) {
  MutexLock lock(mutex_);
  disk_.RemoveTree(SimulatedDisk::Normal(path));
}

}  // namespace taskwal

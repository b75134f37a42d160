#include "tests/simulation/preempting_file_system.h"

#include <utility>

#include "base/status_macros.h"
#include "tests/simulation/guarded_ring.h"

namespace taskwal {
namespace {

constexpr SimulatedThreads::Nanoseconds kMillisecond = 1'000'000;
constexpr std::uint64_t kPutOffOneIn = 64;  // calls: the ring's next store behind one
constexpr std::uint64_t kSoon = 1500;       // points of preemption
constexpr std::uint64_t kReadsFailed = 16;  // more than a rewrite tries

const Status& StatusOf(const Status& status) { return status; }
template <typename T>
const Status& StatusOf(const Result<T>& result) {
  return result.status();
}

}  // namespace

class PreemptingFileSystem::Writable final : public WritableFile {
 public:
  Writable(PreemptingFileSystem& fs, std::unique_ptr<WritableFile> file)
      : fs_(fs), file_(std::move(file)) {}

  Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    return fs_.Do(Seen::kFailedWrite, [&] { return file_->Write(offset, bytes); });
  }
  Status Sync() override {
    return fs_.Do(Seen::kFailedSync, [&] {
      Status synced = file_->Sync();
      fs_.FailReads(synced);
      return synced;
    });
  }
  Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
    TASKWAL_TRY(Write(offset, bytes));
    return Sync();
  }
  Status Truncate(std::uint64_t size) override {
    return fs_.Do(Seen::kFailedOtherCall, [&] { return file_->Truncate(size); });
  }

 private:
  PreemptingFileSystem& fs_;
  const std::unique_ptr<WritableFile> file_;
};

class PreemptingFileSystem::Readable final : public ReadableFile {
 public:
  Readable(PreemptingFileSystem& fs, std::unique_ptr<ReadableFile> file)
      : fs_(fs), file_(std::move(file)) {}

  Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const override {
    return fs_.Do(Seen::kFailedRead, [&] { return file_->Read(offset, into); });
  }
  Result<std::uint64_t> Size() const override {
    return fs_.Do(Seen::kFailedRead, [&] { return file_->Size(); });
  }

 private:
  PreemptingFileSystem& fs_;
  const std::unique_ptr<ReadableFile> file_;
};

void PreemptingFileSystem::TakeTime() {
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) return;
  if (odds_.hung_one_in > 0 && random_.OneIn(odds_.hung_one_in)) {
    coverage_.Note(Seen::kHungCall);
    threads->Sleep(static_cast<SimulatedThreads::Nanoseconds>(1 + random_.Below(20'000)) *
                   kMillisecond);
  } else if (odds_.slow_one_in > 0 && random_.OneIn(odds_.slow_one_in)) {
    coverage_.Note(Seen::kSlowCall);
    threads->Sleep(static_cast<SimulatedThreads::Nanoseconds>(1 + random_.Below(20)) *
                   kMillisecond / 4);
  } else {
    threads->Preempt();
  }
}

void PreemptingFileSystem::Note(Seen failure, const Status& status) {
  if (status.message().starts_with("injected")) coverage_.Note(failure);
  if (status.message().find("errno 28") != std::string::npos) coverage_.Note(Seen::kDiskFull);
}

// What was lost by a failed sync is missed only if others synced the file before its failure was
// known to them, or if the power goes before it was written again.
void PreemptingFileSystem::Follow(Seen failure, const Status& status) {
  SimulatedThreads& threads = *SimulatedThreads::current();
  if (random_.OneIn(kPutOffOneIn)) GuardedRing::Arm();
  if (failure != Seen::kFailedSync || !status.message().starts_with("injected")) return;
  if (random_.OneIn(2)) {
    coverage_.Note(Seen::kKillBehindSync);
    threads.KillWithin(kSoon);
  }
  if (random_.OneIn(2)) threads.StepAside();
}

// A disk that does not take what it is given may not give it back for a while, either: what is in
// the files alone is then gone. Once in a life.
void PreemptingFileSystem::FailReads(const Status& synced) {
  if (has_failed_reads_ || !synced.message().starts_with("injected")) return;
  has_failed_reads_ = true;
  if (!for_reads_.OneIn(3)) return;
  coverage_.Note(Seen::kUnreadable);
  for (std::uint64_t n = 1; n <= kReadsFailed; ++n) {
    disk_.FailNth(n, {.call = SimulatedCall::kRead, .path_part = "/wal-"});
  }
}

template <typename Call>
auto PreemptingFileSystem::Do(Seen failure, Call&& call) -> decltype(call()) {
  TakeTime();
  bool has_died = false;
  auto result = [&] {
    const SimulatedThreads::Alone alone;
    auto answer = call();
    // Nobody else goes on in between: the question takes a lock.
    has_died = disk_.crashed();
    return answer;
  }();
  SimulatedThreads* const threads = SimulatedThreads::current();
  if (threads == nullptr) return result;
  if (has_died) threads->Die();
  Note(failure, StatusOf(result));
  Follow(failure, StatusOf(result));
  threads->Preempt();
  return result;
}

Result<std::unique_ptr<WritableFile>> PreemptingFileSystem::OpenWritable(const std::string& path,
                                                                         bool create) {
  TASKWAL_ASSIGN(auto file,
                 Do(Seen::kFailedOpen, [&] { return disk_.OpenWritable(path, create); }));
  return std::unique_ptr<WritableFile>(std::make_unique<Writable>(*this, std::move(file)));
}

Result<std::unique_ptr<ReadableFile>> PreemptingFileSystem::OpenReadable(const std::string& path) {
  TASKWAL_ASSIGN(auto file, Do(Seen::kFailedOpen, [&] { return disk_.OpenReadable(path); }));
  return std::unique_ptr<ReadableFile>(std::make_unique<Readable>(*this, std::move(file)));
}

Result<std::unique_ptr<RingFile>> PreemptingFileSystem::CreateRing(const std::string& path,
                                                                   std::uint64_t ring_bytes) {
  TASKWAL_ASSIGN(auto ring,
                 Do(Seen::kFailedRing, [&] { return disk_.CreateRing(path, ring_bytes); }));
  return std::unique_ptr<RingFile>(std::make_unique<GuardedRing>(std::move(ring), coverage_));
}

Result<std::unique_ptr<RingFile>> PreemptingFileSystem::OpenRing(const std::string& path) {
  return Do(Seen::kFailedRing, [&] { return disk_.OpenRing(path); });
}

Status PreemptingFileSystem::Rename(const std::string& from, const std::string& to) {
  return Do(Seen::kFailedRename, [&] { return disk_.Rename(from, to); });
}

Status PreemptingFileSystem::Exchange(const std::string& a, const std::string& b) {
  return Do(Seen::kFailedRename, [&] { return disk_.Exchange(a, b); });
}

Status PreemptingFileSystem::Remove(const std::string& path) {
  return Do(Seen::kFailedRemove, [&] { return disk_.Remove(path); });
}

Status PreemptingFileSystem::SyncDirectory(const std::string& path) {
  return Do(Seen::kFailedDirectorySync, [&] { return disk_.SyncDirectory(path); });
}

Status PreemptingFileSystem::MakeDirectories(const std::string& path) {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.MakeDirectories(path); });
}

Result<std::vector<DirectoryEntry>> PreemptingFileSystem::List(const std::string& path) {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.List(path); });
}

Result<FileStat> PreemptingFileSystem::Stat(const std::string& path) {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.Stat(path); });
}

Result<DiskSpace> PreemptingFileSystem::Space(const std::string& path) {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.Space(path); });
}

Result<std::unique_ptr<FileLock>> PreemptingFileSystem::Lock(const std::string& path) {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.Lock(path); });
}

Result<Uuid> PreemptingFileSystem::BootId() {
  return Do(Seen::kFailedOtherCall, [&] { return disk_.BootId(); });
}

}  // namespace taskwal

// As nth_io_test.cc, with several callers at a time, so that several lanes write and sync: the N-th
// call fails, all fail from there on, the process is killed in it, the machine loses power in it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "recovery/prepare_log.h"
#include "tests/fault/log_workload.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

constexpr char kDirectory[] = "/log";
constexpr int kCallers = 8;
constexpr int kRecords = 6;  // of each

// Knows how many syncs were under way at once.
class OverlapWatch final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    auto opened = ForwardingFileSystem::OpenWritable(path, create);
    if (!opened.ok()) return opened.status();
    return std::unique_ptr<WritableFile>(
        std::make_unique<Writer>(*this, std::move(opened).value()));
  }
  [[nodiscard]] int most() const { return most_.load(); }

 private:
  class Writer final : public WritableFile {
   public:
    Writer(OverlapWatch& watch, std::unique_ptr<WritableFile> target)
        : watch_(watch), target_(std::move(target)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      return target_->Write(offset, bytes);
    }
    Status Sync() override { return target_->Sync(); }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      const int now = ++watch_.under_way_;
      int most = watch_.most_.load();
      while (most < now && !watch_.most_.compare_exchange_weak(most, now)) {
      }
      std::this_thread::yield();  // on a disk, it takes a moment
      Status status = target_->WriteAndSync(offset, bytes);
      --watch_.under_way_;
      return status;
    }
    Status Truncate(std::uint64_t size) override { return target_->Truncate(size); }

   private:
    OverlapWatch& watch_;
    const std::unique_ptr<WritableFile> target_;
  };

  std::atomic<int> under_way_{0};
  std::atomic<int> most_{0};
};

class LanesLife {
 public:
  explicit LanesLife(std::uint64_t seed) : fs_(seed) {}

  SimulatedFileSystem& fs() { return fs_; }
  [[nodiscard]] int most_lanes() const { return watch_.most(); }

  void Run() {
    auto log = Open(watch_, 4);
    if (log == nullptr) return;
    std::vector<std::jthread> callers;
    for (int c = 0; c < kCallers; ++c) {
      callers.emplace_back([&, c] {
        for (int i = 0; i < kRecords; ++i) Append(*log, c, i);
      });
    }
    callers.clear();
    if (!fs_.crashed()) fs_.Kill();
  }
  void Check(Durability level) {
    MutexLock lock(mutex_);
    ledger_.Survived(level);
    auto log = Open(fs_, 1);
    ASSERT_NE(log, nullptr);
    ledger_.Check(*log, level);
  }

 private:
  std::unique_ptr<wal::Log> Open(FileSystem& fs, std::uint32_t lanes) {
    recovery::PrepareReport report;
    auto start = recovery::PrepareLog(fs, {.directory = kDirectory}, &report);
    if (!start.ok()) return nullptr;
    wal::LogOptions options;
    options.directory = kDirectory;
    options.ring_bytes = 64u << 10;
    options.segment_bytes = 16u << 10;
    options.frame_bytes = 512;
    options.sync_lanes = lanes;
    options.start_threads = lanes > 1;
    auto log = wal::Log::Open(fs, Clock::Real(), options, std::move(start).value());
    return log.ok() ? std::move(log).value() : nullptr;
  }
  // Without a deadline: only such callers lead the commits.
  void Append(wal::Log& log, int caller, int number) {
    const std::string body = std::to_string(caller) + "-" + std::to_string(number) +
                             std::string(static_cast<std::size_t>(number) * 150, 'x');
    const auto lsn = log.Append({.key = static_cast<std::uint64_t>(caller)}, body.size(),
                                Durability::kDisk, {}, [&](std::span<std::byte> into) {
                                  std::memcpy(into.data(), body.data(), body.size());
                                });
    const wal::Lsn given = lsn.ok() ? *lsn : lsn.status().lsn();
    if (given == 0) return;
    {
      MutexLock lock(mutex_);
      ledger_.Tried(given, body);
      if (!fs_.crashed()) ledger_.Acknowledged(given, Durability::kProcess);
    }
    const bool is_durable = log.WaitDurable(given, {}).ok();
    MutexLock lock(mutex_);
    if (is_durable && !fs_.crashed()) ledger_.Acknowledged(given, Durability::kDisk);
  }

  SimulatedFileSystem fs_;
  OverlapWatch watch_{fs_};
  Mutex mutex_;
  LogLedger ledger_ GUARDED_BY(mutex_);
};

// Also shows that there is more than one lane.
std::uint64_t CallsOfOneLife() {
  int most = 0;
  std::uint64_t calls = 0;
  for (std::uint64_t seed = 1; seed <= 200 && (seed <= 5 || most < 2); ++seed) {
    LanesLife life(seed);
    life.Run();
    calls = std::max(calls, life.fs().calls());
    most = std::max(most, life.most_lanes());
    life.Check(Durability::kProcess);
  }
  EXPECT_GT(most, 1) << "never two lanes at once";
  return calls;
}

TEST(NthLaneCall, FailuresLoseNothingAcknowledged) {
  const std::uint64_t calls = CallsOfOneLife();
  for (const bool is_sticky : {false, true}) {
    for (std::uint64_t n = 1; n <= calls && !::testing::Test::HasFailure(); ++n) {
      SCOPED_TRACE(::testing::Message() << (is_sticky ? "all fail from call " : "fails: ") << n);
      LanesLife life(n);
      life.fs().FailNth(n, {{}, {}, is_sticky});
      life.Run();
      life.fs().ClearFaults();
      life.Check(Durability::kProcess);
    }
  }
}

TEST(NthLaneCall, KillsAndPowerCutsLoseNothingAcknowledged) {
  const std::uint64_t calls = CallsOfOneLife();
  for (const bool is_power_cut : {false, true}) {
    for (std::uint64_t n = 1; n <= calls && !::testing::Test::HasFailure(); ++n) {
      SCOPED_TRACE(::testing::Message() << (is_power_cut ? "power cut in " : "killed in ") << n);
      LanesLife life(n);
      life.fs().CrashAfter(n);
      life.Run();
      Random random(n);
      if (is_power_cut) {
        life.fs().PowerLoss(random);
      } else {
        life.fs().Kill();
      }
      life.Check(is_power_cut ? Durability::kDisk : Durability::kProcess);
    }
  }
}

}  // namespace
}  // namespace taskwal

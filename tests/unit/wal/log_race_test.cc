// What others do to a segment while one call of the disk is under way: they do it inside that call,
// so that it comes at the worst moment each time.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/support/forwarding_file_system.h"
#include "tests/unit/wal/log_fixture.h"
#include "wal/state_file.h"

namespace taskwal::wal {
namespace {

// Calls back at the start of the next write, or of the next open of `path` for reading, once.
class InterruptedFileSystem final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  std::string path;
  std::function<void()> in_write;
  std::function<void()> in_open;
  int files_closed_in_use = 0;

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& name,
                                                     bool create) override {
    auto file = ForwardingFileSystem::OpenWritable(name, create);
    if (!file.ok()) return file;
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file).value()));
  }
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& name) override {
    if (name == path && in_open) std::exchange(in_open, nullptr)();
    return ForwardingFileSystem::OpenReadable(name);
  }

 private:
  class File final : public WritableFile {
   public:
    File(InterruptedFileSystem& fs, std::unique_ptr<WritableFile> file)
        : fs_(fs), file_(std::move(file)) {}
    ~File() override {
      if (is_in_use_) ++fs_.files_closed_in_use;
    }
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      if (fs_.in_write) {
        is_in_use_ = true;
        const int closed = fs_.files_closed_in_use;
        auto& fs = fs_;
        std::exchange(fs.in_write, nullptr)();
        if (fs.files_closed_in_use > closed) return Status::Ok();  // this object is gone
        is_in_use_ = false;
      }
      return file_->Write(offset, bytes);
    }
    Status Sync() override { return file_->Sync(); }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      return file_->WriteAndSync(offset, bytes);
    }
    Status Truncate(std::uint64_t size) override { return file_->Truncate(size); }

   private:
    InterruptedFileSystem& fs_;
    const std::unique_ptr<WritableFile> file_;
    bool is_in_use_ = false;
  };
};

class LogRaceTest : public ::testing::Test {
 protected:
  LogRaceTest() {
    fs_.path = JoinPath(kDirectory, SegmentName(1));
    LogOptions options = SmallLog();
    options.segment_records_max = 2;
    options.retention_bytes = 0;
    options.segment_retention = std::chrono::milliseconds(0);
    auto log = Log::Open(fs_, clock_, options, NewLog(fs_, kDirectory));
    EXPECT_OK(log);
    log_ = std::move(log).value();
  }

  void PutDurable(const std::string& body) {
    const auto lsn = Put(*log_, body, Durability::kDisk);
    ASSERT_OK(lsn);
    ASSERT_OK(log_->WaitDurable(*lsn, {}));
  }
  void FillAndSealTheFirstSegment() {
    for (int i = 0; i < 4; ++i) PutDurable("more");
    while (log_->MaintenanceStep()) {
    }
  }

  FakeClock clock_;
  SimulatedFileSystem disk_;
  InterruptedFileSystem fs_{disk_};
  std::unique_ptr<Log> log_;
};

// What stood behind it could be on disk, and acknowledged, before it: a hole that ends the reading.
TEST_F(LogRaceTest, NothingPassesAnIdleFrameThatIsBeingWritten) {
  PutDurable("one");
  clock_.Advance(std::chrono::seconds(1));
  std::thread other;
  fs_.in_write = [&] {
    other = std::thread([&] { FillAndSealTheFirstSegment(); });
    // It has all the time it needs, and must not use it.
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (log_->written_lsn() == 1 && std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();
    }
    EXPECT_EQ(log_->written_lsn(), 1u);
  };
  log_->WriterStep();
  ASSERT_TRUE(other.joinable());
  other.join();
  EXPECT_EQ(log_->durable_lsn(), 5u);
  EXPECT_EQ(fs_.files_closed_in_use, 0);
}

TEST_F(LogRaceTest, LookupPassesOverASegmentThatIsRetiredMeanwhile) {
  PutDurable("one");
  FillAndSealTheFirstSegment();
  bool was_interrupted = false;
  fs_.in_open = [&] {
    was_interrupted = true;
    ASSERT_OK(log_->Retire(2, {}));
  };
  int found = 0;
  EXPECT_OK(log_->Lookup(1, 1, [&](const RecordView&) {
    ++found;
    return true;
  }));
  EXPECT_TRUE(was_interrupted);
  EXPECT_EQ(found, 3);
}

// A database call that hung comes back while the log closes, and tells what it has flushed.
TEST_F(LogRaceTest, ClosingWaitsForTheRetiringThatIsUnderWay) {
  PutDurable("one");
  FillAndSealTheFirstSegment();
  std::thread other;
  std::atomic<bool> is_closed{false};
  fs_.in_write = [&] {  // of STATE
    other = std::thread([&] {
      EXPECT_OK(log_->Close());
      is_closed = true;
    });
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (!is_closed && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    EXPECT_FALSE(is_closed);
  };
  const Status retired = log_->Retire(2, {});
  ASSERT_TRUE(other.joinable());
  other.join();
  EXPECT_OK(retired);
  EXPECT_THAT(log_->Retire(5, {}), StatusIs(StatusCode::kClosed));
  const auto state = ReadState(disk_, kDirectory);
  ASSERT_OK(state);
  EXPECT_TRUE(state->clean);
  EXPECT_EQ(state->last_lsn, 5u);
}

TEST_F(LogRaceTest, LookupStillTellsOfASegmentThatIsMissing) {
  PutDurable("one");
  FillAndSealTheFirstSegment();
  ASSERT_OK(disk_.Remove(fs_.path));
  EXPECT_THAT(log_->Lookup(1, 1, [](const RecordView&) { return true; }),
              StatusIs(StatusCode::kNotFound));
}

}  // namespace
}  // namespace taskwal::wal

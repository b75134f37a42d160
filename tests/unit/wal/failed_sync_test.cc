// A sync that fails has lost pages, and the kernel tells each file descriptor of it once. What was
// acknowledged, or is later, must not rest on them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "tests/support/thread_state.h"
#include "tests/support/watched_syncs.h"
#include "tests/unit/wal/log_fixture.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {
namespace {

// Waits, within reason, for what another thread is about to do.
bool Await(const std::function<bool()>& is_done) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!is_done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

// Once armed, the first two syncs are in the test's hands: `first` and `second` are called in their
// place, with the file as the disk has it.
class InterruptedSyncs final : public WatchedSyncs {
 public:
  using Sync = std::function<Status(WritableFile& file)>;

  explicit InterruptedSyncs(FileSystem& target) : WatchedSyncs(target) {
    on_sync = [this](WritableFile& file) {
      const int number = syncs_++;
      if (number == 0 && first_) return first_(file);
      if (number == 1 && second_) return second_(file);
      return file.Sync();
    };
  }
  void Arm(Sync first, Sync second) {
    first_ = std::move(first);
    second_ = std::move(second);
    syncs_ = 0;
  }

 private:
  std::atomic<int> syncs_{0};
  Sync first_, second_;
};

class FailedSyncTest : public ::testing::Test {
 protected:
  FailedSyncTest() {
    LogStart start = NewLog(fs_, kDirectory);
    wal_id_ = start.state.wal_id;
    auto log = Log::Open(fs_, Clock::Real(), SmallLog(), std::move(start));
    EXPECT_OK(log);
    log_ = std::move(log).value();
  }

  // Over many sectors, so that a failed sync loses some of them for certain.
  void PutDurable(int count) {
    const std::string body(6000, 'b');
    for (int i = 0; i < count; ++i) ASSERT_OK(Put(*log_, body, Durability::kDisk));
  }

  // One caller is in the sync of LSN 1 when another one commits LSN 2 to 5 and its sync fails.
  void CommitByTwoLanes(InterruptedSyncs::Sync first, InterruptedSyncs::Sync second) {
    std::atomic<bool> is_first_syncing{false};
    fs_.Arm(
        [&](WritableFile& file) {
          is_first_syncing = true;
          return first(file);
        },
        std::move(second));
    PutDurable(1);
    std::thread one([&] { EXPECT_OK(log_->WaitDurable(1, {})); });
    EXPECT_TRUE(Await([&] { return is_first_syncing.load(); }));
    PutDurable(4);
    std::thread other([&] { EXPECT_OK(log_->WaitDurable(5, {})); });
    one.join();
    other.join();
  }

  // LSN 1, of level `process`, is still being written by one lane when `meanwhile` runs.
  void WhileTheFirstIsWritten(const std::function<void()>& meanwhile) {
    ASSERT_OK(Put(*log_, std::string(600, 'a')));
    fs_.on_write = [this] {
      if (is_writing_.exchange(true)) return;
      EXPECT_TRUE(Await([this] { return may_go_on_.load(); }));
    };
    std::thread one([this] { EXPECT_OK(log_->WaitWritten(1, {})); });
    EXPECT_TRUE(Await([this] { return is_writing_.load(); }));
    meanwhile();
    may_go_on_ = true;
    one.join();
  }

  Status FailSync(WritableFile& file) {
    disk_.FailNth(1, {SimulatedCall::kSync, {}, false});
    return file.Sync();
  }

  // What valid frames hold once everything that was not synced is gone.
  std::set<Lsn> LeftByAPowerCut() {
    Random random(1);
    disk_.PowerLoss(random, {.kept = 0, .garbage = 0});
    std::set<Lsn> found;
    const auto numbers = ListSegments(disk_, kDirectory);
    EXPECT_OK(numbers);
    for (const std::uint64_t number : *numbers) {
      auto reader = SegmentReader::Open(disk_, kDirectory, number, {wal_id_});
      EXPECT_OK(reader);
      Frame frame;
      for (;;) {
        const auto event = (*reader)->Next(&frame);
        EXPECT_OK(event);
        if (!event.ok() || event->kind == SegmentEvent::Kind::kEnd) break;
        if (event->kind != SegmentEvent::Kind::kFrame) continue;
        for (std::uint32_t i = 0; i < frame.header.count; ++i) {
          found.insert(frame.header.first_lsn + i);
        }
      }
    }
    return found;
  }

  std::atomic<bool> is_writing_{false}, may_go_on_{false};
  Uuid wal_id_;
  SimulatedFileSystem disk_;
  InterruptedSyncs fs_{disk_};
  std::unique_ptr<Log> log_;
};

// With a descriptor shared by both, the second sync would take the error along, and the first be
// told that all is well.
TEST_F(FailedSyncTest, IsToldToEveryLaneThatWroteToTheFile) {
  std::atomic<bool> has_failed{false}, is_first_back{false};
  Status first_sync;
  CommitByTwoLanes(
      [&](WritableFile& file) {
        EXPECT_TRUE(Await([&] { return has_failed.load(); }));
        first_sync = file.Sync();
        is_first_back = true;
        return first_sync;
      },
      [&](WritableFile& file) {
        Status failed = FailSync(file);
        has_failed = true;
        EXPECT_TRUE(Await([&] { return is_first_back.load(); }));
        // The log hears of this failure only once it has made of the other sync what it wants.
        if (first_sync.ok()) Await([&] { return log_->durable_lsn() >= 1; });
        return failed;
      });
  EXPECT_THAT(first_sync, StatusIs(StatusCode::kIoError));
  EXPECT_EQ(LeftByAPowerCut(), (std::set<Lsn>{1, 2, 3, 4, 5}));
}

TEST_F(FailedSyncTest, CondemnsWhatAnotherLanesSyncConfirmsLater) {
  CommitByTwoLanes(
      [&](WritableFile&) {
        // The other one's failure is known: its commit's time has been taken.
        EXPECT_TRUE(Await([&] { return log_->GetStats().sync_time.count > 0; }));
        return Status::Ok();  // its pages are clean, as the failed sync has left them
      },
      [&](WritableFile& file) { return FailSync(file); });
  EXPECT_EQ(LeftByAPowerCut(), (std::set<Lsn>{1, 2, 3, 4, 5}));
}

TEST_F(FailedSyncTest, LosesNothingOfLevelDiskThoughTheFileCannotBeReadBack) {
  PutDurable(2);
  ASSERT_TRUE(log_->WriterStep());
  ASSERT_EQ(log_->written_lsn(), 2u);
  ASSERT_EQ(log_->durable_lsn(), 0u);
  // The pages that could not be written are dropped, and read as the disk has them.
  disk_.Corrupt(JoinPath(kDirectory, SegmentName(1)), kSegmentHeaderBytes + 100, 0xff);
  disk_.FailNth(1, {SimulatedCall::kSync, {}, false});
  ASSERT_OK(log_->WaitDurable(2, {}));
  EXPECT_EQ(log_->GetStats().lost, 0u);
  EXPECT_EQ(LeftByAPowerCut(), (std::set<Lsn>{1, 2}));
}

// The buffer keeps it until it is durable, not only synced: what stands before it may fail.
TEST_F(FailedSyncTest, LosesNothingOfLevelDiskThatIsSyncedBeforeWhatStandsInFrontOfIt) {
  std::atomic<int> syncs{0};
  fs_.on_sync = [&](WritableFile& file) {
    if (++syncs != 2) return file.Sync();
    // The one of LSN 1; and nothing can be read back.
    disk_.FailNth(1, {SimulatedCall::kRead, {}, true});
    return FailSync(file);
  };
  std::thread other;
  WhileTheFirstIsWritten([&] {
    PutDurable(1);
    other = std::thread([&] { EXPECT_OK(log_->WaitDurable(2, {})); });
    EXPECT_TRUE(Await([&] { return log_->GetStats().sync_time.count > 0; }));
  });
  other.join();
  EXPECT_EQ(log_->GetStats().lost, 1u);
  disk_.ClearFaults();
  EXPECT_TRUE(LeftByAPowerCut().contains(2));
}

// Nothing can be synced for it as long as the other lane writes: it does not ask again and again.
TEST_F(FailedSyncTest, WhoWaitsForAnothersWriteSleeps) {
  std::atomic<pid_t> waits{0};
  std::thread other;
  WhileTheFirstIsWritten([&] {
    PutDurable(1);
    other = std::thread([&] {
      waits = ::gettid();
      EXPECT_OK(log_->WaitDurable(2, {}));
    });
    EXPECT_TRUE(Await([&] { return log_->GetStats().sync_time.count > 0; }));
    EXPECT_TRUE(Await([&] { return IsAsleep(waits); }));
  });
  other.join();
  EXPECT_EQ(log_->durable_lsn(), 2u);
}

// Nobody waits: the next to sync what stands in front of it would be somebody else's call.
TEST_F(FailedSyncTest, LevelDiskIsNotHeldUpByWhatNobodySyncs) {
  WhileTheFirstIsWritten([&] {
    PutDurable(1);
    log_->WriterStep();               // writes LSN 2
    ASSERT_TRUE(log_->WriterStep());  // syncs it
  });
  ASSERT_EQ(log_->durable_lsn(), 0u);
  EXPECT_TRUE(log_->WriterStep());
  EXPECT_EQ(log_->durable_lsn(), 2u);
  EXPECT_EQ(log_->GetStats().ring_utilization, 0);
}

TEST_F(FailedSyncTest, NobodyIsToldThatALostRecordIsOnDisk) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(Put(*log_, std::string(600, 'b')));
    ASSERT_TRUE(log_->WriterStep());
  }
  // The second frame is in no buffer any more, and cannot be read back.
  disk_.Corrupt(JoinPath(kDirectory, SegmentName(1)), kSegmentHeaderBytes + 1024 + 100, 0xff);
  disk_.FailNth(1, {SimulatedCall::kSync, {}, false});
  EXPECT_OK(log_->WaitDurable(3, {}));
  EXPECT_EQ(log_->GetStats().lost, 1u);
  EXPECT_OK(log_->WaitDurable(1, {}));
  EXPECT_THAT(log_->WaitDurable(2, {}), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(log_->CheckKept(2), StatusIs(StatusCode::kIoError));
}

// For N = 1, 2, 3… the N-th read of what the ring holds no more fails, once: it is tried again.
TEST_F(FailedSyncTest, OneFailedReadWhileRewritingLosesNothing) {
  Lsn end = 0;
  for (std::uint64_t n = 1; n <= 6; ++n) {
    ASSERT_OK(Put(*log_, "body"));
    ASSERT_TRUE(log_->WriterStep());
    ASSERT_EQ(log_->written_lsn(), ++end);
    disk_.FailNth(1, {SimulatedCall::kSync, {}, false});
    disk_.FailNth(n, {SimulatedCall::kRead, {}, false});
    ASSERT_OK(log_->WaitDurable(end, {}));
    disk_.ClearFaults();
    EXPECT_EQ(log_->GetStats().lost, 0u) << n;
  }
  EXPECT_EQ(LeftByAPowerCut().size(), end);
}

TEST_F(LogTest, AFailedSyncMovesEverythingToAFreshSegment) {
  auto log = Open();
  ASSERT_OK(Put(*log, "first", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {}));
  fs_.FailNth(1, {SimulatedCall::kSync, {}, false});
  ASSERT_OK(Put(*log, "second", Durability::kDisk));
  ASSERT_OK(Put(*log, "third", Durability::kProcess));
  ASSERT_OK(log->WaitDurable(3, {}));
  EXPECT_EQ(log->GetStats().segments, 2u);
  EXPECT_OK(log->health());
  EXPECT_EQ(log->GetStats().lost, 0u);
  EXPECT_EQ(ReadAll(*log, 3),
            (std::map<Lsn, std::string>{{1, "first"}, {2, "second"}, {3, "third"}}));
  ASSERT_OK(Put(*log, "fourth", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(4, {}));
  EXPECT_EQ(ReadAll(*log, 4).size(), 4u);
  // Nothing of the condemned file is synced again: a power cut later loses nothing of the four.
  ASSERT_OK(log->Close());
}

TEST_F(LogTest, WhatTheRingGaveBackIsReadFromTheCondemnedFile) {
  auto log = Open();
  std::map<Lsn, std::string> expected;
  for (int i = 0; i < 50; ++i) {
    const std::string body = "record " + std::to_string(i);
    expected[*Put(*log, body)] = body;
  }
  ASSERT_TRUE(log->WriterStep());  // written, not synced: level `process` gives its space back
  EXPECT_EQ(log->GetStats().ring_utilization, 0);
  fs_.FailNth(1, {SimulatedCall::kSync, {}, false});
  ASSERT_OK(log->WaitDurable(50, {}));
  EXPECT_EQ(log->GetStats().segments, 2u);
  std::map<Lsn, std::string> found = ReadAll(*log, 50);
  EXPECT_EQ(found.size(), 50u);
  // A lost page cannot be had back; each such record is declared, none silently different.
  std::uint64_t lost = 0;
  for (const auto& [lsn, body] : expected) {
    if (found[lsn].empty()) {
      ++lost;
    } else {
      EXPECT_EQ(found[lsn], body);
    }
  }
  EXPECT_EQ(log->GetStats().lost, lost);
}

TEST_F(LogTest, ReadOnlyWhenTheFreshSegmentFailsToo) {
  auto log = Open();
  ASSERT_OK(Put(*log, "first", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {}));
  fs_.FailNth(1, {SimulatedCall::kSync, {}, true});
  ASSERT_OK(Put(*log, "second", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(2, {}), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(log->health(), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(log->WaitDurable(2, {}), StatusIs(StatusCode::kIoError));
  fs_.ClearFaults();
  EXPECT_EQ(log->durable_lsn(), 1u);
  EXPECT_EQ(ReadAll(*log, 1).size(), 1u);  // reads go on
}

}  // namespace
}  // namespace taskwal::wal

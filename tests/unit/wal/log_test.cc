#include "wal/log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/temp_dir.h"
#include "tests/support/watched_syncs.h"
#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

TEST_F(LogTest, ReadsBackWhatIsDurable) {
  auto log = Open();
  EXPECT_EQ(*Put(*log, "a"), 1u);
  EXPECT_EQ(*Put(*log, ""), 2u);
  EXPECT_EQ(log->durable_lsn(), 0u);
  ASSERT_OK(log->WaitDurable(2, {}));
  EXPECT_EQ(log->durable_lsn(), 2u);
  EXPECT_EQ(ReadAll(*log, 2), (std::map<Lsn, std::string>{{1, "a"}, {2, ""}}));
}

TEST_F(LogTest, OneSyncServesAllThatArrivedMeanwhile) {
  auto log = Open();
  for (int i = 0; i < 100; ++i) ASSERT_OK(Put(*log, "record", Durability::kDisk));
  const std::uint64_t before = log->GetStats().syncs;
  ASSERT_OK(log->WaitDurable(100, {}));
  ASSERT_OK(log->WaitDurable(50, {}));
  EXPECT_EQ(log->GetStats().syncs, before + 1);
}

TEST_F(LogTest, CompressedFramesReadBack) {
  auto log = Open([](LogOptions* o) { o->compression = true; });
  std::map<Lsn, std::string> expected;
  for (int i = 0; i < 500; ++i) {
    const std::string body(200, static_cast<char>('a' + i % 3));
    expected[*Put(*log, body)] = body;
  }
  ASSERT_OK(log->WaitDurable(500, {}));
  EXPECT_LT(log->GetStats().bytes_written, 500u * 100);
  EXPECT_EQ(ReadAll(*log, 500), expected);
}

TEST_F(LogTest, RecordsLargerThanTheRingAndTheSegment) {
  auto log = Open();
  const std::string large(300u << 10, 'L');
  ASSERT_OK(Put(*log, "before"));
  ASSERT_OK(Put(*log, large));
  EXPECT_GE(log->written_lsn(), 2u);  // the OS has it before it is acknowledged
  ASSERT_OK(Put(*log, "after"));
  ASSERT_OK(log->WaitDurable(3, {}));
  EXPECT_EQ(ReadAll(*log, 3),
            (std::map<Lsn, std::string>{{1, "before"}, {2, large}, {3, "after"}}));
}

TEST_F(LogTest, RefusesARecordAboveTheLimit) {
  auto log = Open();
  EXPECT_THAT(log->Reserve({}, kRecordBodyBytesMax + 1, Durability::kProcess, {}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(log->end_lsn(), 0u);
}

TEST_F(LogTest, IdleForAWhileNamesWhatIsSynced) {
  auto log = Open();
  ASSERT_OK(Put(*log, "a", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {}));
  EXPECT_FALSE(log->WriterStep());
  clock_.Advance(std::chrono::milliseconds(20));
  EXPECT_TRUE(log->WriterStep());
  EXPECT_FALSE(log->WriterStep());  // once is enough
}

TEST_F(LogTest, TheSyncIntervalBoundsHowLongAProcessRecordStaysUnsynced) {
  auto log = Open([](LogOptions* o) { o->sync_interval = std::chrono::milliseconds(100); });
  ASSERT_OK(Put(*log, "a"));
  EXPECT_TRUE(log->WriterStep());
  EXPECT_EQ(log->durable_lsn(), 0u);
  clock_.Advance(std::chrono::milliseconds(101));
  EXPECT_TRUE(log->WriterStep());
  EXPECT_EQ(log->durable_lsn(), 1u);
}

TEST_F(LogTest, ClosedIsSealedAndEndsTheRing) {
  auto log = Open();
  ASSERT_OK(Put(*log, "a"));
  ASSERT_OK(log->Close());
  ASSERT_OK(log->Close());
  EXPECT_THAT(Put(*log, "b"), StatusIs(StatusCode::kClosed));
  const auto state = ReadState(fs_, kDirectory);
  ASSERT_OK(state);
  EXPECT_TRUE(state->clean);
  EXPECT_EQ(state->last_lsn, 1u);
  EXPECT_FALSE(fs_.Exists("/wal/RING"));
  auto reader = SegmentReader::Open(fs_, kDirectory, 1, {state->wal_id});
  ASSERT_OK(reader);
  const auto footer = (*reader)->ReadFooter();
  ASSERT_OK(footer);
  EXPECT_EQ(footer->summary.last_lsn, 1u);
}

TEST_F(LogTest, RescuesTheRingOfAKilledProcess) {
  LogStart start = NewLog(fs_, kDirectory);
  const Uuid wal_id = start.state.wal_id;
  const LogOptions options = SmallLog();
  auto log = Log::Open(fs_, clock_, options, std::move(start));
  ASSERT_OK(log);
  ASSERT_OK(Put(**log, "kept"));
  ASSERT_OK(Put(**log, "too"));
  fs_.Kill();
  log->reset();
  LogStart again = NewLog(fs_, kDirectory);
  again.state.wal_id = wal_id;
  again.state.epoch = 1;
  again.next_segment = 2;
  log = Log::Open(fs_, clock_, options, std::move(again));
  ASSERT_OK(log);
  EXPECT_EQ((*log)->GetStats().rescued, 2u);
  EXPECT_EQ((*log)->durable_lsn(), 2u);
  EXPECT_EQ((*log)->epoch(), 2u);
  EXPECT_EQ(ReadAll(**log, 2), (std::map<Lsn, std::string>{{1, "kept"}, {2, "too"}}));
}

TEST_F(LogTest, StampsNeverGoBackBelowWhatWasSeen) {
  auto log = Open();
  const Time now = clock_.WallNow();
  const auto micros = static_cast<std::uint64_t>(now.time_since_epoch().count());
  EXPECT_EQ(log->NextStamp(now), micros);
  log->RaiseStamp(micros + 500);
  EXPECT_EQ(log->NextStamp(now), micros + 500);
  log->RaiseStamp(micros + 86'400'000'000ull);  // a day ahead: bounded
  EXPECT_LT(log->NextStamp(now), micros + 7200'000'000ull);
}

TEST(LogClose, TakesAsLongAsRecordsReachTheDisk) {
  FakeClock clock;
  SimulatedFileSystem memory;
  WatchedSyncs disk(memory);
  LogOptions options = SmallLog();
  options.frame_bytes = 1024;
  ASSERT_OK_AND_ASSIGN(auto log, Log::Open(disk, clock, options, NewLog(disk, kDirectory)));
  for (int i = 0; i < 20; ++i) ASSERT_OK(Put(*log, std::string(900, 'x')));
  disk.on_sync = [&](WritableFile& file) {
    clock.Advance(std::chrono::seconds(4));
    return file.Sync();
  };
  EXPECT_OK(log->Close());
  const auto state = ReadState(memory, kDirectory);
  ASSERT_OK(state);
  EXPECT_TRUE(state->clean);
  EXPECT_EQ(state->last_lsn, 20u);
}

TEST(LogThreads, ConcurrentDurableAppendsAreAllThereInOrder) {
  TempDir directory;
  LogOptions options;
  options.directory = directory.File("wal");
  options.ring_bytes = 256u << 10;
  options.segment_bytes = 256u << 10;
  FileSystem& fs = FileSystem::Real();
  auto log = Log::Open(fs, Clock::Real(), options, NewLog(fs, options.directory));
  ASSERT_OK(log);
  constexpr int kProducers = 8;
  constexpr int kEach = 100;
  std::vector<std::thread> producers;
  std::atomic<int> failures{0};
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&, p] {
      Lsn last = 0;
      for (int i = 0; i < kEach; ++i) {
        const bool is_durable = i % 2 == 0;
        const auto lsn = Put(**log, std::to_string(p) + ":" + std::to_string(i),
                             is_durable ? Durability::kDisk : Durability::kProcess);
        if (!lsn.ok() || *lsn <= last) ++failures;
        if (is_durable && lsn.ok()) {
          if (!(*log)->WaitDurable(*lsn, {}).ok() || (*log)->durable_lsn() < *lsn) ++failures;
        }
        if (lsn.ok()) last = *lsn;
      }
    });
  }
  for (std::thread& producer : producers) producer.join();
  EXPECT_EQ(failures, 0);
  ASSERT_OK((*log)->WaitDurable((*log)->end_lsn(), {}));
  const auto all = ReadAll(**log, kProducers * kEach);
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kProducers * kEach));
  std::vector<int> next(kProducers, 0);
  for (const auto& [lsn, body] : all) {
    const int p = std::stoi(body);
    EXPECT_EQ(body, std::to_string(p) + ":" + std::to_string(next[static_cast<std::size_t>(p)]++));
  }
  ASSERT_OK((*log)->Close());
}

}  // namespace
}  // namespace taskwal::wal

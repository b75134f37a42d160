#include "wal/log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include "base/status_macros.h"
#include "tests/support/fake_clock.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"

namespace taskwal::wal {
namespace {

constexpr char kDirectory[] = "/wal";

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

LogStart NewLog(FileSystem& fs, const std::string& directory) {
  LogStart start;
  EXPECT_OK(fs.MakeDirectories(directory));
  auto lock = fs.Lock(JoinPath(directory, "LOCK"));
  EXPECT_OK(lock);
  start.lock = std::move(lock).value();
  start.state.wal_id = Uuid::Make();
  return start;
}

Result<Lsn> Put(Log& log, std::string_view body, Durability level = Durability::kProcess,
                std::uint64_t key = 1, const Deadline& deadline = {}) {
  return log.Append({20, 0, key, 7}, body.size(), level, deadline, [&](std::span<std::byte> into) {
    std::memcpy(into.data(), body.data(), body.size());
  });
}

// Every record up to `limit`, by LSN.
std::map<Lsn, std::string> ReadAll(Log& log, Lsn limit) {
  std::map<Lsn, std::string> all;
  TailReader tail = log.Tail(1);
  Frame frame;
  for (;;) {
    const auto event = tail.Next(limit, &frame);
    EXPECT_OK(event);
    if (!event.ok() || event->kind == TailEvent::Kind::kEnd) return all;
    if (event->kind == TailEvent::Kind::kLoss) {
      ADD_FAILURE() << "loss of " << event->loss.from << " to " << event->loss.to << ": "
                    << event->detail;
      return all;
    }
    FrameRecords records(frame.header, frame.raw);
    for (RecordView record; records.Next(&record);) {
      if (record.lsn < event->from || record.lsn > event->to) continue;
      EXPECT_TRUE(all.emplace(record.lsn, Text(record.body)).second) << record.lsn;
    }
  }
}

class LogTest : public ::testing::Test {
 protected:
  std::unique_ptr<Log> Open(const std::function<void(LogOptions*)>& change = {}) {
    LogOptions options;
    options.directory = kDirectory;
    options.ring_bytes = 64u << 10;
    options.segment_bytes = 64u << 10;
    options.start_threads = false;
    if (change) change(&options);
    auto log = Log::Open(fs_, clock_, options, NewLog(fs_, kDirectory));
    EXPECT_OK(log);
    return std::move(log).value();
  }
  void FailSync(std::uint64_t n, bool sticky) {
    SimulatedFault fault;
    fault.call = SimulatedCall::kSync;
    fault.sticky = sticky;
    fs_.FailNth(n, fault);
  }

  SimulatedFileSystem fs_;
  FakeClock clock_;
};

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

TEST_F(LogTest, RollsThroughManySegments) {
  auto log = Open();
  std::map<Lsn, std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    const std::string body(static_cast<std::size_t>(i % 400), static_cast<char>('a' + i % 26));
    const auto lsn = Put(*log, body);
    ASSERT_OK(lsn);
    expected[*lsn] = body;
  }
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  while (log->MaintenanceStep()) {
  }
  EXPECT_GT(log->GetStats().segments, 5u);
  EXPECT_EQ(ReadAll(*log, log->durable_lsn()), expected);
}

TEST_F(LogTest, RollsByRecords) {
  auto log = Open([](LogOptions* o) { o->segment_records_max = 10; });
  for (int i = 0; i < 40; ++i) {
    ASSERT_OK(Put(*log, "x"));
    ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  }
  EXPECT_GE(log->GetStats().segments, 4u);
  EXPECT_EQ(ReadAll(*log, 40).size(), 40u);
}

TEST_F(LogTest, NoSegmentHoldsMoreRecordsThanAllowed) {
  auto log = Open([](LogOptions* o) { o->segment_records_max = 10; });
  for (int i = 0; i < 95; ++i) ASSERT_OK(Put(*log, "x"));
  ASSERT_OK(log->WaitDurable(95, {}));
  EXPECT_GE(log->GetStats().segments, 10u);
  EXPECT_EQ(ReadAll(*log, 95).size(), 95u);
}

TEST_F(LogTest, SparesAreGivenUpOnADiskThatRunsFullAndTheReserveStays) {
  const auto count = [&](const std::string& prefix) {
    const auto entries = fs_.List(kDirectory);
    EXPECT_OK(entries);
    return std::count_if(entries->begin(), entries->end(), [&](const DirectoryEntry& entry) {
      return entry.name.starts_with(prefix);
    });
  };
  fs_.SetCapacity(64u << 20);
  auto log = Open();
  while (log->MaintenanceStep()) {
  }
  EXPECT_GE(count("spare-"), 1);
  fs_.SetCapacity(400u << 10);
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(std::chrono::seconds(1));
    log->MaintenanceStep();
  }
  EXPECT_EQ(count("spare-"), 0);
  ASSERT_OK(log->Close());
  EXPECT_EQ(count("RESERVE"), 1);
}

// A device whose syncs of segments do not come back until it is let go.
class StuckDisk final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    TASKWAL_ASSIGN(auto file, ForwardingFileSystem::OpenWritable(path, create));
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file)));
  }
  void Stick() { is_stuck_ = true; }
  void LetGo() {
    is_stuck_ = false;
    is_stuck_.notify_all();
  }

 private:
  class File final : public WritableFile {
   public:
    File(StuckDisk& disk, std::unique_ptr<WritableFile> file)
        : disk_(disk), file_(std::move(file)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      return file_->Write(offset, bytes);
    }
    Status Sync() override {
      disk_.is_stuck_.wait(true);
      return file_->Sync();
    }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      TASKWAL_TRY(Write(offset, bytes));
      return Sync();
    }
    Status Truncate(std::uint64_t size) override { return file_->Truncate(size); }

   private:
    StuckDisk& disk_;
    const std::unique_ptr<WritableFile> file_;
  };

  std::atomic<bool> is_stuck_{false};
};

TEST(LogDeadlines, HoldThoughTheDeviceDoesNotAnswer) {
  SimulatedFileSystem memory;
  StuckDisk disk(memory);
  LogOptions options;
  options.directory = kDirectory;
  options.ring_bytes = 64u << 10;
  options.segment_bytes = 64u << 10;
  ASSERT_OK_AND_ASSIGN(auto log,
                       Log::Open(disk, Clock::Real(), options, NewLog(disk, kDirectory)));
  const auto soon = [] { return Clock::Real().Now() + std::chrono::milliseconds(20); };
  ASSERT_OK(Put(*log, "a", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {Clock::Real().Now() + std::chrono::milliseconds(900), {}}));
  disk.Stick();
  // Each of these would lead the sync itself if it had the time.
  ASSERT_OK(Put(*log, "b", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(2, {soon(), {}}), StatusIs(StatusCode::kUnavailable));
  ASSERT_OK(Put(*log, "c", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(3, {soon(), {}}), StatusIs(StatusCode::kUnavailable));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(log->WaitDurable(3, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  disk.LetGo();
  EXPECT_OK(log->WaitDurable(3, {}));
  EXPECT_OK(log->Close());
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

TEST_F(LogTest, LookupYieldsAKeysRecordsNewestFirst) {
  auto log = Open();
  std::map<std::uint64_t, std::vector<Lsn>> expected;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::uint64_t key = i % 7;
    expected[key].insert(expected[key].begin(),
                         *Put(*log, std::string(100, 'x'), Durability::kProcess, key));
    if (i % 300 == 0) {
      ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
      log->MaintenanceStep();
    }
  }
  for (const auto& [key, lsns] : expected) {
    std::vector<Lsn> found;
    ASSERT_OK(log->Lookup(key, 1, [&](const RecordView& record) {
      found.push_back(record.lsn);
      return true;
    }));
    EXPECT_EQ(found, lsns) << key;
  }
}

TEST_F(LogTest, LookupStopsAtFromAndWhenToldTo) {
  auto log = Open();
  for (int i = 0; i < 10; ++i) ASSERT_OK(Put(*log, "x", Durability::kProcess, 5));
  std::vector<Lsn> found;
  ASSERT_OK(log->Lookup(5, 4, [&](const RecordView& record) {
    found.push_back(record.lsn);
    return found.size() < 3;
  }));
  EXPECT_EQ(found, (std::vector<Lsn>{10, 9, 8}));
  found.clear();
  ASSERT_OK(log->Lookup(5, 9, [&](const RecordView& record) {
    found.push_back(record.lsn);
    return true;
  }));
  EXPECT_EQ(found, (std::vector<Lsn>{10, 9}));
}

TEST_F(LogTest, AFailedSyncMovesEverythingToAFreshSegment) {
  auto log = Open();
  ASSERT_OK(Put(*log, "first", Durability::kDisk));
  ASSERT_OK(log->WaitDurable(1, {}));
  FailSync(1, false);
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
  FailSync(1, false);
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
  SimulatedFault fault;
  fault.call = SimulatedCall::kSync;
  fault.sticky = true;
  fs_.FailNth(1, fault);
  ASSERT_OK(Put(*log, "second", Durability::kDisk));
  EXPECT_THAT(log->WaitDurable(2, {}), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(log->health(), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(log->WaitDurable(2, {}), StatusIs(StatusCode::kIoError));
  fs_.ClearFaults();
  EXPECT_EQ(log->durable_lsn(), 1u);
  EXPECT_EQ(ReadAll(*log, 1).size(), 1u);  // reads go on
}

TEST_F(LogTest, AFullRingWithoutRoomIsOverloadedAndKeepsNothing) {
  auto log = Open();
  const Deadline now{clock_.Now(), {}};
  Status full;
  Lsn accepted = 0;
  for (int i = 0; i < 10000 && full.ok(); ++i) {
    const auto lsn = Put(*log, std::string(1000, 'x'), Durability::kProcess, 1, now);
    full = lsn.status();
    if (lsn.ok()) accepted = *lsn;
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  EXPECT_EQ(log->end_lsn(), accepted);
  ASSERT_OK(log->WaitDurable(accepted, {}));
  EXPECT_OK(Put(*log, "room again", Durability::kProcess, 1, now));
}

TEST_F(LogTest, WaitsForRoomByWritingItself) {
  auto log = Open();
  for (int i = 0; i < 1000; ++i) ASSERT_OK(Put(*log, std::string(1000, 'x'), Durability::kDisk));
  EXPECT_EQ(log->end_lsn(), 1000u);
}

TEST_F(LogTest, BeyondTheQuotaAppendsAreRefusedUntilFlushed) {
  auto log = Open([](LogOptions* o) {
    o->quota_bytes = 256u << 10;
    o->retention_bytes = 0;
    o->segment_retention = std::chrono::milliseconds(0);
  });
  const auto append_until_full = [&] {
    for (int i = 0; i < 500; ++i) {
      const auto lsn =
          Put(*log, std::string(4000, 'x'), Durability::kProcess, 1, {clock_.Now(), {}});
      if (!lsn.ok()) {
        if (log->GetStats().full) return true;
        EXPECT_OK(log->WaitDurable(log->end_lsn(), {}));
      }
      clock_.Advance(std::chrono::milliseconds(200));
      log->MaintenanceStep();
    }
    return false;
  };
  ASSERT_TRUE(append_until_full());
  EXPECT_LT(log->GetStats().log_bytes, 600u << 10);
  ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
  while (log->MaintenanceStep()) {
  }
  ASSERT_OK(log->Retire(log->durable_lsn(), {}));
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  EXPECT_FALSE(log->GetStats().full);
  EXPECT_OK(Put(*log, "goes on", Durability::kProcess, 1, {clock_.Now(), {}}));
}

TEST_F(LogTest, TheQuotaIsLookedAtBeforeEachSegment) {
  auto log = Open([](LogOptions* o) { o->quota_bytes = 256u << 10; });
  // Neither time nor maintenance: only the writer works.
  Status full;
  for (int i = 0; i < 2000 && full.ok(); ++i) {
    full = Put(*log, std::string(4000, 'x'), Durability::kProcess, 1, {clock_.Now(), {}}).status();
    log->WriterStep();
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  EXPECT_TRUE(log->GetStats().full);
}

TEST_F(LogTest, RetiresOnlyWhatIsSettledAndSaysSoInState) {
  auto log = Open([](LogOptions* o) {
    o->retention_bytes = 0;
    o->segment_retention = std::chrono::milliseconds(0);
  });
  for (int i = 0; i < 2000; ++i) ASSERT_OK(Put(*log, std::string(200, 'x')));
  ASSERT_OK(log->WaitDurable(2000, {}));
  while (log->MaintenanceStep()) {
  }
  const std::uint64_t before = log->GetStats().segments;
  ASSERT_OK(log->Retire(0, {}));
  EXPECT_EQ(log->GetStats().segments, before);
  clock_.Advance(std::chrono::seconds(1));
  ASSERT_OK(log->Retire(1000, {5, 6}));
  EXPECT_LT(log->GetStats().segments, before);
  EXPECT_GT(log->first_lsn(), 1u);
  EXPECT_LE(log->first_lsn(), 1001u);
  const auto state = ReadState(fs_, kDirectory);
  ASSERT_OK(state);
  EXPECT_EQ(state->first_lsn, log->first_lsn());
  EXPECT_EQ(state->watermarks, (std::vector<Lsn>{5, 6}));
  TailReader tail = log->Tail(log->first_lsn());
  Frame frame;
  const auto event = tail.Next(2000, &frame);
  ASSERT_OK(event);
  EXPECT_EQ(event->kind, TailEvent::Kind::kFrame);
}

TEST_F(LogTest, NoSpaceForASegmentRefusesAppendsAndResumesByItself) {
  auto log = Open();
  ASSERT_OK(Put(*log, "a"));
  ASSERT_OK(log->WaitDurable(1, {}));
  fs_.SetCapacity(0);
  Status full;
  Lsn accepted = 1;
  for (int i = 0; i < 3000 && full.ok(); ++i) {
    clock_.Advance(std::chrono::milliseconds(50));
    const auto lsn = Put(*log, std::string(500, 'x'), Durability::kProcess, 1, {clock_.Now(), {}});
    full = lsn.status();
    if (lsn.ok()) accepted = *lsn;
  }
  EXPECT_THAT(full, StatusIs(StatusCode::kOverloaded));
  fs_.SetCapacity(1ull << 40);
  clock_.Advance(std::chrono::seconds(1));
  log->MaintenanceStep();
  ASSERT_OK(log->WaitDurable(accepted, {}));
  EXPECT_OK(Put(*log, "resumed", Durability::kProcess, 1, {clock_.Now(), {}}));
  EXPECT_EQ(ReadAll(*log, accepted).size(), accepted);
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
  LogOptions options;
  options.directory = kDirectory;
  options.ring_bytes = 64u << 10;
  options.start_threads = false;
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

TEST(LogThreads, AStoppedWaitEndsWhileTheLogIsStuck) {
  TempDir directory;
  LogOptions options;
  options.directory = directory.File("wal");
  FileSystem& fs = FileSystem::Real();
  auto log = Log::Open(fs, Clock::Real(), options, NewLog(fs, options.directory));
  ASSERT_OK(log);
  // A claim that is never published holds up everything behind it.
  auto stuck = (*log)->Reserve({20, 0, 0, 0}, 8, Durability::kProcess, {});
  ASSERT_OK(stuck);
  const auto lsn = Put(**log, "behind", Durability::kDisk);
  ASSERT_OK(lsn);
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  EXPECT_THAT((*log)->WaitDurable(*lsn, {Monotonic::max(), stop.get_token()}),
              StatusIs(StatusCode::kUnavailable));
  stopper.join();
  ASSERT_OK((*log)->Publish(std::move(stuck).value()));
  EXPECT_OK((*log)->WaitDurable(*lsn, {}));
}

}  // namespace
}  // namespace taskwal::wal

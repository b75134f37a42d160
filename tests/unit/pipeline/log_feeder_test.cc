#include "pipeline/flush/log_feeder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stop_token>
#include <thread>

#include "base/byte_codec.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LogFeederTest : public ::testing::Test {
 protected:
  LogFeederTest() {
    options_.flush_linger = milliseconds(20);
    options_.max_buffer_size = 5;
    auto letters = DeadLetters::Open(fs_, "/wal", false);
    EXPECT_OK(letters);
    letters_ = std::move(letters).value();
    Make();
  }
  void Make(std::size_t partition_bytes = 1u << 20) {
    PartitionQueues::Limits limits;
    limits.partitions = OperationLog::kPartitions;
    limits.partition_bytes = partition_bytes;
    queues_ = std::make_unique<PartitionQueues>(limits);
    Restart();
  }
  void Restart(wal::Lsn start = 0) {
    const std::vector<wal::Lsn> all(OperationLog::kPartitions, start);
    queues_->Reset(all, all);
    identity_.wal_id = log_.log().state().wal_id;
    feeder_ =
        std::make_unique<LogFeeder>(log_.log(), *queues_, *letters_, counters_, clock_, options_);
    feeder_->Start(identity_);
  }
  void Read() {
    for (int i = 0; i < 1000 && feeder_->Step(); ++i) {
    }
  }
  std::vector<wal::Lsn> Taken() {
    std::vector<wal::Lsn> lsns;
    for (const QueuedRecord* record : queues_->Take(0)) lsns.push_back(record->lsn);
    return lsns;
  }
  void SettleAll() {
    std::vector<storage::WatermarkMove> moves;
    for (const QueuedRecord* record : queues_->Take(0)) {
      moves.push_back({record->partition, 0, record->lsn});
    }
    queues_->Settle(0, moves, clock_.Now());
  }
  void WriteOnly() {
    while (log_.log().written_lsn() < log_.log().end_lsn()) {
      ASSERT_OK(log_.log().WaitWritten(log_.log().end_lsn(), {clock_.Now(), {}}));
    }
  }

  FakeClock clock_;
  SimulatedFileSystem fs_;
  OperationLog log_{fs_, clock_};
  Options options_;
  LogIdentity identity_;
  std::unique_ptr<DeadLetters> letters_;
  FlushCounters counters_;
  std::unique_ptr<PartitionQueues> queues_;
  std::unique_ptr<LogFeeder> feeder_;
};

TEST_F(LogFeederTest, OffersWhatIsDurable) {
  log_.Save("a");
  log_.Save("b");
  log_.Sync();
  Read();
  EXPECT_THAT(Taken(), ElementsAre(1, 2));
  EXPECT_EQ(queues_->next_lsn(), 3u);
}

TEST_F(LogFeederTest, PassesOverWhatIsOtherTargets) {
  for (const std::uint16_t target : {0, 1, 2, 0}) {
    log_.set_target(target);
    log_.Save("a");
  }
  log_.set_target(wal::kEveryTarget);
  log_.Save("b");
  log_.Sync();
  Restart();
  Read();
  EXPECT_THAT(Taken(), ElementsAre(1, 4, 5));
  EXPECT_EQ(counters_.Snapshot().read, 3u);
  SettleAll();
  EXPECT_EQ(queues_->settled_lsn(), 5u);
}

TEST_F(LogFeederTest, IsSettledWhereNothingIsItsOwn) {
  log_.set_target(3);
  for (int i = 0; i < 4; ++i) log_.Save("a");
  log_.Sync();
  Read();
  EXPECT_THAT(Taken(), IsEmpty());
  EXPECT_EQ(queues_->settled_lsn(), 4u);
}

TEST_F(LogFeederTest, NeverPassesTheDurablePosition) {
  log_.Save("a");
  WriteOnly();
  Read();  // asks for the sync
  ASSERT_EQ(queues_->next_lsn(), 2u);
  log_.Save("b");
  WriteOnly();
  ASSERT_EQ(log_.log().written_lsn(), 2u);
  Read();  // asked lately
  EXPECT_EQ(log_.log().durable_lsn(), 1u);
  EXPECT_EQ(queues_->next_lsn(), 2u);
  EXPECT_EQ(queues_->settled_lsn(), 0u);
}

TEST_F(LogFeederTest, AsksForTheSyncAfterTheLinger) {
  log_.Save("a");
  WriteOnly();
  Read();
  log_.Save("b");
  WriteOnly();
  Read();
  ASSERT_EQ(queues_->next_lsn(), 2u);
  clock_.Advance(milliseconds(20));
  Read();
  EXPECT_EQ(queues_->next_lsn(), 3u);
}

TEST_F(LogFeederTest, LingersNoLongerThanTheFlushInterval) {
  options_.flush_linger = std::chrono::hours(1);
  options_.flush_interval = milliseconds(20);
  Restart();
  log_.Save("a");
  WriteOnly();
  Read();
  log_.Save("b");
  WriteOnly();
  Read();
  ASSERT_EQ(queues_->next_lsn(), 2u);
  clock_.Advance(milliseconds(20));
  Read();
  EXPECT_EQ(queues_->next_lsn(), 3u);
}

TEST_F(LogFeederTest, AsksForTheSyncAtOnceForManyRecords) {
  log_.Save("a");
  WriteOnly();
  Read();
  for (int i = 0; i < 5; ++i) log_.Save("b");
  WriteOnly();
  Read();
  EXPECT_EQ(queues_->next_lsn(), 7u);
}

TEST_F(LogFeederTest, AsksForTheSyncAtOnceWhileSomebodyWaits) {
  log_.Save("a");
  WriteOnly();
  Read();
  SettleAll();
  log_.Save("b");
  std::thread waiter([&] { EXPECT_TRUE(queues_->WaitSettled(2, {}, clock_)); });
  while (queues_->awaited_lsn() == 0) std::this_thread::yield();
  Read();  // not even written before
  EXPECT_EQ(queues_->next_lsn(), 3u);
  SettleAll();
  waiter.join();
}

TEST_F(LogFeederTest, FindsWhatWasSettledBefore) {
  log_.Save("a");
  log_.Save("b");
  log_.Sync();
  const auto wal_id = log_.log().state().wal_id;
  DeadLetter letter;
  letter.wal_id = wal_id;
  letter.lsns = {2, 2};
  ASSERT_OK(letters_->Add(letter));
  std::vector<wal::Lsn> start(OperationLog::kPartitions, 0);
  for (const char* id : {"a", "b"}) start[OperationLog::PartitionOf(id)] = 2;
  queues_->Reset(start, start);
  feeder_->Start(identity_);
  Read();
  EXPECT_THAT(Taken(), IsEmpty());
  EXPECT_EQ(counters_.Snapshot().applied, 1u);
  EXPECT_EQ(counters_.Snapshot().already_there, 1u);
  EXPECT_EQ(counters_.Snapshot().dead_lettered, 1u);
}

TEST_F(LogFeederTest, ServesThoseLeftBehind) {
  Make(3000);
  const std::string slow = OperationLog::IdIn(0);
  const std::string quick = OperationLog::IdIn(1);
  for (int i = 0; i < 10; ++i) {
    log_.Save(slow, {}, 900);
    log_.Save(quick);
    log_.Sync();
  }
  Read();
  EXPECT_EQ(queues_->next_lsn(), 21u);
  EXPECT_TRUE(queues_->has_left_behind());
  std::vector<wal::Lsn> seen;
  while (true) {
    const std::vector<wal::Lsn> lsns = Taken();
    if (lsns.empty()) break;
    seen.insert(seen.end(), lsns.begin(), lsns.end());
    SettleAll();
    Read();
  }
  std::sort(seen.begin(), seen.end());
  std::vector<wal::Lsn> all;
  for (wal::Lsn lsn = 1; lsn <= 20; ++lsn) all.push_back(lsn);
  EXPECT_EQ(seen, all);
  EXPECT_FALSE(queues_->has_left_behind());
  EXPECT_EQ(queues_->settled_lsn(), 20u);
}

// A frame holds records of several partitions: some have taken theirs, others were left behind.
TEST_F(LogFeederTest, CountsWhatWasDamagedBeforeThoseLeftBehindCouldTakeIt) {
  Make(3000);
  const std::string slow = OperationLog::IdIn(0);
  const std::string quick = OperationLog::IdIn(1);
  for (int i = 0; i < 10; ++i) {
    log_.Save(slow, {}, 900);
    log_.Save(quick);
    log_.Sync();
  }
  Read();
  ASSERT_TRUE(queues_->has_left_behind());
  const std::string path = "/wal/wal-00000001.log";
  fs_.Corrupt(path, fs_.Content(path).rfind("xxx"), 0xff);  // LSN 19, and with it 20
  std::size_t taken = 0;
  for (std::size_t more = 1; more > 0; taken += more) {
    more = Taken().size();
    SettleAll();
    Read();
  }
  EXPECT_EQ(taken, 19u);
  EXPECT_EQ(counters_.Snapshot().lost, 1u);
  EXPECT_THAT(counters_.Snapshot().losses, ElementsAre(wal::LsnRange{19, 20}));
  EXPECT_EQ(queues_->settled_lsn(), 20u);
}

TEST_F(LogFeederTest, CountsWhatWasDamagedBeforeItWasReadAgain) {
  log_.Save("a", {}, 900);
  log_.Sync();
  log_.Save("b", {}, 900);
  log_.Sync();
  Read();
  ASSERT_THAT(Taken(), ElementsAre(1, 2));
  const std::string path = "/wal/wal-00000001.log";
  fs_.Corrupt(path, fs_.Content(path).rfind("xxx"), 0xff);
  for (int again = 0; again < 2; ++again) {
    const std::vector<wal::Lsn> nothing(OperationLog::kPartitions, 0);
    queues_->Reset(nothing, nothing);
    feeder_->Start(identity_);
    Read();
    EXPECT_THAT(Taken(), ElementsAre(1));
    EXPECT_EQ(counters_.Snapshot().lost, 1u);
  }
}

class DamagedLogTest : public LogFeederTest {
 protected:
  // Three synced frames of one record each, the second one's body damaged.
  DamagedLogTest() {
    for (const char* id : {"a", "b", "c"}) {
      log_.Save(id, {}, 600);
      log_.Sync();
    }
    const std::string path = "/wal/wal-00000001.log";
    const std::string content = fs_.Content(path);
    const std::size_t second = content.find("xxx", content.find("xxx") + 1200);
    fs_.Corrupt(path, second + 300, 0xff);
    Restart();
  }
};

TEST_F(DamagedLogTest, DeclaresTheLossAndGoesOn) {
  Read();
  EXPECT_THAT(Taken(), ElementsAre(1, 3));
  EXPECT_EQ(letters_->lost(), 1u);
  EXPECT_THAT(counters_.Snapshot().losses, ElementsAre(wal::LsnRange{2, 2}));
  EXPECT_EQ(counters_.Snapshot().lost, 1u);
}

TEST_F(DamagedLogTest, PassesNoLossThatIsNotDeclaredDurably) {
  fs_.FailNth(1, {.call = SimulatedCall::kWrite, .path_part = "dead-letters"});
  Read();
  EXPECT_EQ(queues_->next_lsn(), 2u);
  EXPECT_NE(counters_.Snapshot().alarm, "");
  Read();
  EXPECT_EQ(queues_->next_lsn(), 4u);
  EXPECT_EQ(counters_.Snapshot().alarm, "");
  EXPECT_EQ(counters_.Snapshot().lost, 1u);
}

TEST_F(DamagedLogTest, DeclaresALossOnceOverRestarts) {
  Read();
  Restart();
  Read();
  EXPECT_EQ(letters_->lost(), 1u);
}

// A batch noted that "b" is saved behind a letter, and was cut off by the crash that damaged it.
TEST_F(DamagedLogTest, WhatALostSaveHadClearedFollowsItsLetterAgain) {
  DeadLetter letter;
  letter.wal_id = identity_.wal_id;
  letter.lsns = {1, 1};
  letter.type = storage::OperationType::kTaskUpdate;
  letter.task_id = "b";
  ASSERT_OK(letters_->Add(letter));
  ASSERT_OK(letters_->ClearTask("b", 2));
  // Another partition is behind; that of "b" had it in the database.
  std::vector<wal::Lsn> stored(OperationLog::kPartitions, 0);
  stored[wal::PartitionOf(storage::KeyOf("b"), OperationLog::kPartitions)] = 2;
  queues_->Reset(stored, stored);
  feeder_->Start(identity_);
  Read();
  EXPECT_FALSE(letters_->HoldsSaveOf("b"));
  Restart();
  Read();
  EXPECT_TRUE(letters_->HoldsSaveOf("b"));
}

// At home in another database, which has its own damage to tell.
TEST_F(DamagedLogTest, WhatALostSaveHadClearedElsewhereStaysCleared) {
  DeadLetter letter;
  letter.wal_id = identity_.wal_id;
  letter.lsns = {1, 1};
  letter.type = storage::OperationType::kTaskUpdate;
  letter.task_id = "b";
  ASSERT_OK(letters_->Add(letter));
  ASSERT_OK(letters_->ClearTask("b", 2));
  FlushTarget target;
  target.is_home = [](std::uint64_t) { return false; };
  feeder_ = std::make_unique<LogFeeder>(log_.log(), *queues_, *letters_, counters_, clock_,
                                        options_, target);
  feeder_->Start(identity_);
  Read();
  EXPECT_EQ(letters_->lost(), 1u);
  EXPECT_FALSE(letters_->HoldsSaveOf("b"));
}

TEST_F(LogFeederTest, ReadsOnAfterAReadError) {
  log_.Save("a");
  log_.Sync();
  fs_.FailNth(1, {.call = SimulatedCall::kRead});
  EXPECT_FALSE(feeder_->Step());
  EXPECT_NE(counters_.Snapshot().alarm, "");
  Read();
  EXPECT_THAT(Taken(), ElementsAre(1));
}

TEST_F(LogFeederTest, ReturnsFromWaitingWhenThereIsSomethingToRead) {
  log_.Save("a");
  log_.Sync();
  feeder_->Step();
  log_.Save("b");
  log_.Sync();
  feeder_->WaitForMore(std::chrono::hours(1));
  EXPECT_TRUE(feeder_->Step());
}

TEST_F(LogFeederTest, ReturnsFromWaitingWhenItIsToStop) {
  log_.Save("a");
  log_.Sync();
  Read();
  std::stop_source stopping;
  stopping.request_stop();
  queues_->Wake();
  // Nothing more comes, and the clock stands still.
  feeder_->WaitForMore(std::chrono::hours(1), stopping.get_token());
  EXPECT_FALSE(feeder_->Step());
}

wal::RecordHeader RecordOf(std::uint8_t type) {
  wal::RecordHeader header;
  header.type = type;
  return header;
}

TEST(LostIn, FindsRunsOfRecordsThatASyncTookAway) {
  wal::FrameBuilder builder;
  builder.Reset(10);
  for (const std::uint8_t type : {16, 1, 1, 0, 1, 16}) {
    builder.Add(RecordOf(type), {});
  }
  wal::Frame frame;
  const auto bytes = builder.Finish({});
  frame.header = LoadLittle<wal::FrameHeader>(bytes.data());
  const auto body = bytes.subspan(sizeof(wal::FrameHeader), frame.header.body_bytes);
  frame.raw.assign(body.begin(), body.end());
  wal::TailEvent event;
  event.from = 10;
  event.to = 15;
  EXPECT_THAT(LostIn(frame, event), ElementsAre(wal::LsnRange{11, 12}, wal::LsnRange{14, 14}));
  event.from = 12;
  event.to = 13;
  EXPECT_THAT(LostIn(frame, event), ElementsAre(wal::LsnRange{12, 12}));
}

TEST(LostIn, CountsWhatIsNoRecordAsLost) {
  wal::FrameBuilder builder;
  builder.Reset(1);
  for (int i = 0; i < 3; ++i) builder.Add(RecordOf(16), {});
  wal::Frame frame;
  const auto bytes = builder.Finish({});
  frame.header = LoadLittle<wal::FrameHeader>(bytes.data());
  const auto body = bytes.subspan(sizeof(wal::FrameHeader), frame.header.body_bytes - 5);
  frame.raw.assign(body.begin(), body.end());
  wal::TailEvent event;
  event.from = 1;
  event.to = 3;
  EXPECT_THAT(LostIn(frame, event), ElementsAre(wal::LsnRange{3, 3}));
}

}  // namespace
}  // namespace taskwal::pipeline

#include "wal/state_file.h"

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "tests/support/segment_builder.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::wal {
namespace {

constexpr char kPath[] = "/log/STATE";

LogState FullState() {
  LogState state;
  state.wal_id = kTestWalId;
  state.former = {{Uuid{{9, 9}}, 41}, {Uuid{{8, 8}}, 97}};
  state.partitions = 7;
  state.epoch = 12;
  state.first_lsn = 30;
  state.last_lsn = UINT64_MAX;
  state.clean = true;
  state.db_id = Uuid{{5}};
  state.watermarks = {3, 0, 88};
  state.flushed_lsn = 77;
  state.lost = {{4, 5}, {9, 9}};
  state.unsealed = {3, 12};
  state.lock_inode = 123;
  state.lock_born = 456;
  state.copied = true;
  state.copied_at = 66;
  return state;
}

LogState StateOfTargets() {
  LogState state = FullState();
  static_cast<FedDatabase&>(state) = {};
  state.flushed_lsn = 60;
  TargetState one;
  one.number = 0;
  one.name = "default";
  one.weight = 3;
  one.next_weight = 4;
  one.db_id = Uuid{{6}};
  one.registered_epoch = 12;
  one.watermarks = {61, 62};
  one.flushed_lsn = 60;
  TargetState other;
  other.number = 7;
  other.name = "b-2";
  other.joined_lsn = 40;
  other.flushed_lsn = 70;
  other.removed = true;
  state.targets = {one, other};
  state.rebalancing = true;
  state.turns = 17;
  state.turns_lsn = 50;
  return state;
}

void ExpectSame(const LogState& a, const LogState& b) {
  EXPECT_EQ(a.wal_id, b.wal_id);
  ASSERT_EQ(a.former.size(), b.former.size());
  for (std::size_t i = 0; i < a.former.size(); ++i) {
    EXPECT_EQ(a.former[i].wal_id, b.former[i].wal_id);
    EXPECT_EQ(a.former[i].last_lsn, b.former[i].last_lsn);
  }
  EXPECT_EQ(a.partitions, b.partitions);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.first_lsn, b.first_lsn);
  EXPECT_EQ(a.last_lsn, b.last_lsn);
  EXPECT_EQ(a.clean, b.clean);
  EXPECT_EQ(a.db_id, b.db_id);
  EXPECT_EQ(a.watermarks, b.watermarks);
  EXPECT_EQ(a.flushed_lsn, b.flushed_lsn);
  EXPECT_EQ(a.lost, b.lost);
  EXPECT_EQ(a.unsealed, b.unsealed);
  EXPECT_EQ(a.lock_inode, b.lock_inode);
  EXPECT_EQ(a.lock_born, b.lock_born);
  EXPECT_EQ(a.copied, b.copied);
  EXPECT_EQ(a.copied_at, b.copied_at);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.rebalancing, b.rebalancing);
  EXPECT_EQ(a.turns, b.turns);
  EXPECT_EQ(a.turns_lsn, b.turns_lsn);
}

class StateFile : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(fs_.MakeDirectories("/log")); }

  // A STATE with this text and the checksum that belongs to it.
  void WriteText(std::string text) {
    text += "checksum=";
    char digits[17];
    const auto sum = Checksum(std::as_bytes(std::span(text)));
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(sum));
    text += std::string(digits) + "\n";
    WriteFile(fs_, kPath, std::as_bytes(std::span(text)));
  }

  SimulatedFileSystem fs_;
};

TEST_F(StateFile, IsReadBackAsWritten) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  ASSERT_OK_AND_ASSIGN(const LogState full, ReadState(fs_, "/log"));
  ExpectSame(full, FullState());

  LogState fresh;
  fresh.wal_id = kTestWalId;
  ASSERT_OK(WriteState(fs_, "/log", fresh));
  ASSERT_OK_AND_ASSIGN(const LogState read, ReadState(fs_, "/log"));
  ExpectSame(read, fresh);

  ASSERT_OK(WriteState(fs_, "/log", StateOfTargets()));
  ASSERT_OK_AND_ASSIGN(const LogState several, ReadState(fs_, "/log"));
  ExpectSame(several, StateOfTargets());
}

TEST_F(StateFile, OnlySeveralTargetsNeedTheSecondVersion) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  ASSERT_OK_AND_ASSIGN(const std::string single, ReadFile(fs_, kPath));
  EXPECT_TRUE(single.starts_with("taskwal-state=1\n"));
  EXPECT_EQ(single.find("target"), std::string::npos);
  ASSERT_OK(WriteState(fs_, "/log", StateOfTargets()));
  ASSERT_OK_AND_ASSIGN(const std::string several, ReadFile(fs_, kPath));
  EXPECT_TRUE(several.starts_with("taskwal-state=2\n"));
}

// A program that did not count them yet left STATE without.
TEST_F(StateFile, TurnsMayBeMissing) {
  LogState uncounted = StateOfTargets();
  uncounted.turns = uncounted.turns_lsn = 0;
  ASSERT_OK(WriteState(fs_, "/log", uncounted));
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(fs_, kPath));
  EXPECT_EQ(text.find("turns"), std::string::npos);
  ASSERT_OK_AND_ASSIGN(const LogState read, ReadState(fs_, "/log"));
  ExpectSame(read, uncounted);
}

TEST(LogStateTest, ATargetsStateLooksLikeThatOfAnOnlyOne) {
  const LogState state = StateOfTargets();
  const LogState one = StateOfTarget(state, 0);
  EXPECT_EQ(one.db_id, Uuid{{6}});
  EXPECT_EQ(one.watermarks, (std::vector<Lsn>{61, 62}));
  EXPECT_EQ(one.flushed_lsn, 60u);
  EXPECT_EQ(one.first_lsn, 30u);
  EXPECT_TRUE(one.targets.empty());
  EXPECT_EQ(StateOfTarget(state, 7).first_lsn, 41u);
  EXPECT_EQ(StateOfTarget(FullState(), 0).watermarks, FullState().watermarks);
}

TEST(LogStateTest, TheLowestTargetThatIsFedDecidesWhatIsFlushed) {
  LogState state = StateOfTargets();
  NoteFlushed(0, 90, {91, 92}, &state);
  EXPECT_EQ(state.flushed_lsn, 90u);
  EXPECT_EQ(state.targets[0].watermarks, (std::vector<Lsn>{91, 92}));
  state.targets[1].removed = false;
  NoteFlushed(0, 95, {}, &state);
  EXPECT_EQ(state.flushed_lsn, 70u);
  EXPECT_EQ(state.targets[0].watermarks, (std::vector<Lsn>{91, 92}));
  LogState single = FullState();
  NoteFlushed(0, 80, {}, &single);
  EXPECT_EQ(single.flushed_lsn, 80u);
}

TEST_F(StateFile, IsNotFoundWhereThereIsNone) {
  EXPECT_THAT(ReadState(fs_, "/log"), StatusIs(StatusCode::kNotFound));
}

TEST_F(StateFile, EveryChangedByteIsSeen) {
  ASSERT_OK(WriteState(fs_, "/log", StateOfTargets()));
  const std::size_t size = fs_.Content(kPath).size();
  for (std::size_t at = 0; at < size; ++at) {
    for (const std::uint8_t mask : {0x01, 0x20, 0x80}) {
      fs_.Corrupt(kPath, at, mask);
      EXPECT_THAT(ReadState(fs_, "/log"), StatusIs(StatusCode::kCorruption)) << at;
      fs_.Corrupt(kPath, at, mask);
    }
  }
  EXPECT_OK(ReadState(fs_, "/log"));
}

TEST_F(StateFile, EveryOtherLengthIsSeen) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  for (std::size_t size = fs_.Content(kPath).size() + 1; size-- > 0;) {
    if (size == fs_.Content(kPath).size()) continue;
    fs_.TruncateFile(kPath, size);
    EXPECT_THAT(ReadState(fs_, "/log"), StatusIs(StatusCode::kCorruption)) << size;
  }
}

TEST_F(StateFile, WhatAChecksumCannotExcuseIsRefused) {
  const std::string id = "wal_id=" + kTestWalId.ToString() + "\n";
  WriteText("taskwal-state=1\n" + id);
  EXPECT_OK(ReadState(fs_, "/log"));
  for (const std::string& text :
       {std::string("taskwal-state=1\n"), "taskwal-state=2\n" + id,
        "taskwal-state=1\n" + id + "unknown=1\n", "taskwal-state=1\n" + id + "epoch=x\n",
        "taskwal-state=1\n" + id + "epoch=\n", "taskwal-state=1\n" + id + "clean=2\n",
        "taskwal-state=1\n" + id + "copied=2\n", "taskwal-state=1\n" + id + "partitions=0\n",
        "taskwal-state=1\n" + id + "lost=3\n", "taskwal-state=1\n" + id + "lost=3:x\n",
        "taskwal-state=1\n" + id + "former=1:2\n", "taskwal-state=1\n" + id + "watermark=-1\n",
        "taskwal-state=1\n" + id + "no equals sign\n",
        "taskwal-state=1\n" + id + "target=1:a\n", "taskwal-state=2\n" + id + "target=1\n",
        "taskwal-state=2\n" + id + "target=65535:a\n", "taskwal-state=2\n" + id + "target=1:\n",
        "taskwal-state=2\n" + id + "target_weight=1\n",
        "taskwal-state=2\n" + id + "target=1:a\ntarget_unknown=1\n",
        "taskwal-state=2\n" + id + "target=1:a\ntarget_removed=2\n",
        "taskwal-state=2\n" + id + "target=1:a\nrebalancing=2\n",
        "taskwal-state=1\n" + id + "turns=1\n", "taskwal-state=1\n" + id + "turns_lsn=1\n",
        "taskwal-state=2\n" + id + "target=1:a\nturns=x\n",
        std::string("taskwal-state=1\nwal_id=1\n")}) {
    WriteText(text);
    EXPECT_THAT(ReadState(fs_, "/log"), StatusIs(StatusCode::kCorruption)) << text;
  }
}

TEST_F(StateFile, IsOldOrNewAfterAPowerCutInEveryCallOfAWrite) {
  LogState before;
  before.wal_id = kTestWalId;
  before.epoch = 1;
  LogState after = before;
  after.epoch = 2;
  bool finished = false;
  for (std::uint64_t n = 1; !finished; ++n) {
    SimulatedFileSystem fs(n);
    Random random(n);
    ASSERT_OK(fs.MakeDirectories("/log"));
    ASSERT_OK(WriteState(fs, "/log", before));
    fs.CrashAfter(n);
    finished = WriteState(fs, "/log", after).ok();
    fs.PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const LogState found, ReadState(fs, "/log"));
    if (finished) {
      EXPECT_EQ(found.epoch, 2u);
    } else {
      EXPECT_TRUE(found.epoch == 1 || found.epoch == 2);
    }
  }
}

TEST_F(StateFile, AReadThatFailsIsNoDamage) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  fs_.FailNth(1, {.call = SimulatedCall::kRead});
  EXPECT_THAT(ReadState(fs_, "/log"), StatusIs(StatusCode::kIoError));
}

// STATE is another text each time it is read, as beside a process that writes it over and over.
class ChangingFileSystem final : public ForwardingFileSystem {
 public:
  ChangingFileSystem(SimulatedFileSystem& fs, int changes)
      : ForwardingFileSystem(fs), fs_(fs), good_(fs.Content(kPath)), changes_(changes) {}
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    ++readings;
    const std::string text =
        readings > changes_ ? good_ : "half of another: " + std::to_string(readings);
    WriteFile(fs_, path, std::as_bytes(std::span(text)));
    fs_.TruncateFile(path, text.size());
    return fs_.OpenReadable(path);
  }

  int readings = 0;

 private:
  SimulatedFileSystem& fs_;
  const std::string good_;
  const int changes_;
};

TEST_F(StateFile, WhatChangesWhileItIsReadIsReadAgain) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  ChangingFileSystem changing(fs_, 7);
  ASSERT_OK_AND_ASSIGN(const LogState read, ReadState(changing, "/log"));
  ExpectSame(read, FullState());
  EXPECT_EQ(changing.readings, 8);
}

TEST_F(StateFile, ReadingOneThatChangesForeverEnds) {
  ASSERT_OK(WriteState(fs_, "/log", FullState()));
  ChangingFileSystem changing(fs_, 1'000'000);
  EXPECT_THAT(ReadState(changing, "/log"), StatusIs(StatusCode::kCorruption));
}

// With the most targets and partitions there may be, and their longest names.
TEST_F(StateFile, TheRoomToRewriteIsThatOfTheLargestNumbers) {
  LogState state = StateOfTargets();
  state.partitions = 1024;
  state.targets.resize(64, state.targets.front());
  for (std::size_t i = 0; i < state.targets.size(); ++i) {
    state.targets[i].number = static_cast<std::uint16_t>(65'000 + i);
    state.targets[i].name = std::string(62, 'n') + std::to_string(10 + i);
  }
  const std::uint64_t room = RoomToRewrite(state);
  for (TargetState& target : state.targets) {
    target.weight = target.next_weight = UINT32_MAX;
    target.joined_lsn = target.flushed_lsn = target.registered_epoch = UINT64_MAX;
    target.watermarks.assign(state.partitions, UINT64_MAX);
  }
  state.flushed_lsn = state.epoch = state.first_lsn = state.copied_at = UINT64_MAX;
  state.lock_inode = state.lock_born = state.turns = state.turns_lsn = UINT64_MAX;
  std::string written;
  ASSERT_OK(WriteState(fs_, "/log", state));
  ASSERT_OK(KeepTargetList(fs_, "/log", state, &written));
  const std::uint64_t bytes = 2 * fs_.Content(kPath).size() + fs_.Content("/log/TARGETS").size();
  EXPECT_LE(bytes, room);
  EXPECT_GT(bytes + 16'384, room);
  EXPECT_EQ(RoomToRewrite(state), room);
}

// --- TARGETS
// -----------------------------------------------------------------------------------------------

TEST(TargetList, KeepsWhatNothingElseTells) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/log"));
  const LogState state = StateOfTargets();
  std::string written;
  ASSERT_OK(KeepTargetList(fs, "/log", state, &written));
  ASSERT_OK_AND_ASSIGN(const LogState list, ReadTargetList(fs, "/log"));
  EXPECT_EQ(list.wal_id, state.wal_id);
  EXPECT_EQ(list.former.size(), state.former.size());
  EXPECT_EQ(list.partitions, state.partitions);
  EXPECT_EQ(list.epoch, state.epoch);
  EXPECT_TRUE(list.rebalancing);
  ASSERT_EQ(list.targets.size(), 2u);
  TargetState joined = state.targets[1];
  joined.flushed_lsn = joined.joined_lsn;  // how far it is nobody knows
  EXPECT_EQ(list.targets[1], joined);
  EXPECT_EQ(list.targets[0].weight, 3u);
  EXPECT_EQ(list.targets[0].next_weight, 4u);
  EXPECT_EQ(list.targets[0].db_id, state.targets[0].db_id);
  EXPECT_EQ(list.targets[0].flushed_lsn, 0u);
  EXPECT_EQ(list.flushed_lsn, 0u);
}

TEST(TargetList, IsWrittenWhereItChangesAlone) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/log"));
  LogState state = StateOfTargets();
  std::string written;
  ASSERT_OK(KeepTargetList(fs, "/log", state, &written));
  const auto first = fs.Content("/log/TARGETS");
  ++state.epoch;
  state.targets[0].flushed_lsn = 99;
  state.targets[0].watermarks = {99, 99};
  std::string nothing;
  for (std::string* known : {&written, &nothing}) {
    ASSERT_OK(KeepTargetList(fs, "/log", state, known));
    EXPECT_EQ(fs.Content("/log/TARGETS"), first);
  }
  ++state.targets[1].weight;
  ASSERT_OK(KeepTargetList(fs, "/log", state, &written));
  EXPECT_EQ(ReadTargetList(fs, "/log")->epoch, state.epoch);
  EXPECT_EQ(ReadTargetList(fs, "/log")->targets[1].weight, 1u);
}

TEST(TargetList, IsThereWithSeveralTargetsOnly) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/log"));
  std::string written;
  ASSERT_OK(KeepTargetList(fs, "/log", FullState(), &written));
  EXPECT_FALSE(fs.Exists("/log/TARGETS"));
}

}  // namespace
}  // namespace taskwal::wal

#include "tests/support/simulated_file_system.h"

#include <cstring>
#include <set>
#include <thread>

#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

constexpr PowerLossOdds kAllLost{.kept = 0, .garbage = 0};
constexpr PowerLossOdds kAllKept{.kept = 1, .garbage = 0};

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class SimulatedFs : public ::testing::Test {
 protected:
  // A file that is on disk, its name included.
  void Store(const std::string& path, std::string_view content) {
    ASSERT_OK(WriteFileAtomically(fs_, path, content));
  }
  std::unique_ptr<WritableFile> Open(const std::string& path) {
    auto file = fs_.OpenWritable(path, true);
    EXPECT_OK(file);
    return std::move(file).value();
  }

  SimulatedFileSystem fs_{1};
  Random random_{1};
};

TEST_F(SimulatedFs, ReadsBackWhatWasWritten) {
  const auto file = Open("/file");
  ASSERT_OK(file->Write(3, Bytes("abc")));
  ASSERT_OK(file->Truncate(5));
  EXPECT_EQ(ReadFile(fs_, "/file").value(), std::string("\0\0\0ab", 5));
  ASSERT_OK_AND_ASSIGN(const auto readable, fs_.OpenReadable("//file"));
  std::byte two[2];
  EXPECT_EQ(readable->Read(4, two).value(), 1u);
  EXPECT_EQ(readable->Read(9, two).value(), 0u);
  EXPECT_EQ(readable->Size().value(), 5u);
}

TEST_F(SimulatedFs, NamesTreesLikeTheRealOne) {
  ASSERT_OK(fs_.MakeDirectories("/a/b/"));
  ASSERT_OK(fs_.MakeDirectories("/a/b"));
  Store("/a/two", "2");
  Store("/a/one", "1");
  ASSERT_OK_AND_ASSIGN(const auto entries, fs_.List("/a"));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "b");
  EXPECT_TRUE(entries[0].is_directory);
  EXPECT_EQ(entries[1].name, "one");
  EXPECT_EQ(entries[2].name, "two");

  EXPECT_THAT(fs_.Remove("/a"), StatusIs(StatusCode::kIoError));
  ASSERT_OK(fs_.Remove("/a/b"));
  ASSERT_OK(fs_.Rename("/a/one", "/a/two"));
  EXPECT_EQ(fs_.Dump("/a"), (std::map<std::string, std::string>{{"/a/two", "1"}}));
  ASSERT_OK(fs_.Rename("/a", "/moved"));
  EXPECT_EQ(fs_.Content("/moved/two"), "1");
  EXPECT_THAT(fs_.MakeDirectories("/moved/two/x"), StatusIs(StatusCode::kIoError));
}

TEST_F(SimulatedFs, WhatIsAbsentIsNotFound) {
  const auto absent = StatusIs(StatusCode::kNotFound, HasSubstr("No such file"));
  EXPECT_THAT(fs_.OpenWritable("/none", false), absent);
  EXPECT_THAT(fs_.OpenWritable("/none/file", true), absent);
  EXPECT_THAT(fs_.OpenReadable("/none"), absent);
  EXPECT_THAT(fs_.OpenRing("/none"), absent);
  EXPECT_THAT(fs_.CreateRing("/none/ring", 4096), absent);
  EXPECT_THAT(fs_.Rename("/none", "/other"), absent);
  EXPECT_THAT(fs_.Remove("/none"), absent);
  EXPECT_THAT(fs_.SyncDirectory("/none"), absent);
  EXPECT_THAT(fs_.List("/none"), absent);
  EXPECT_THAT(fs_.Stat("/none"), absent);
  EXPECT_THAT(fs_.Space("/none"), absent);
  EXPECT_THAT(fs_.Lock("/none/LOCK"), absent);
}

TEST_F(SimulatedFs, PowerLossTakesUnsyncedBytes) {
  Store("/file", std::string(2048, 'o'));
  const auto file = Open("/file");
  ASSERT_OK(file->WriteAndSync(512, Bytes("synced")));
  ASSERT_OK(file->Write(1024, Bytes("lost")));
  ASSERT_OK(file->Write(4096, Bytes("lost")));
  fs_.PowerLoss(random_, kAllLost);
  std::string expected(2048, 'o');
  expected.replace(512, 6, "synced");
  EXPECT_EQ(fs_.Content("/file"), expected);
}

TEST_F(SimulatedFs, TellsWhatBecameOfWhatWasNotSynced) {
  Store("/file", std::string(4 * 512, 'o'));
  ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(2 * 512, 'n'))));
  ASSERT_OK(Open("/new")->Write(0, Bytes(std::string(3 * 512, 'n'))));
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.fates().sectors_stale, 2u);
  EXPECT_EQ(fs_.fates().names_lost, 1u);
  EXPECT_EQ(fs_.fates().sectors_kept + fs_.fates().sectors_garbage, 0u);

  ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(2 * 512, 'n'))));
  fs_.PowerLoss(random_, kAllKept);
  EXPECT_EQ(fs_.fates().sectors_kept, 2u);
  ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(2 * 512, 'n'))));
  fs_.PowerLoss(random_, kAllKept);
  EXPECT_EQ(fs_.fates().sectors_kept, 2u) << "they held the same before";
}

TEST_F(SimulatedFs, TellsOfASizeAheadOfTheDataAndOfAWriteThatCameShort) {
  for (int round = 0; round < 50; ++round) {
    Store("/file", "");
    ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(1024, 'n'))));
    fs_.PowerLoss(random_);
  }
  EXPECT_GT(fs_.fates().sizes_ahead, 0u);
  EXPECT_LT(fs_.fates().sizes_ahead, 50u);
  EXPECT_GT(fs_.fates().sectors_lost, 0u);
  EXPECT_GT(fs_.fates().sectors_garbage, 0u);
  EXPECT_EQ(fs_.fates().short_writes, 0u);
  Store("/file", "");
  fs_.SetCapacity(1024);
  EXPECT_FALSE(Open("/file")->Write(0, Bytes(std::string(2048, 'n'))).ok());
  EXPECT_EQ(fs_.fates().short_writes, 1u);
}

TEST_F(SimulatedFs, AReadThatComesShortIsGoneOnWith) {
  const std::string content = "what is asked for is read as a whole";
  Store("/file", content);
  fs_.SetShortReads(2);
  const auto file = fs_.OpenReadable("/file");
  ASSERT_OK(file.status());
  for (int round = 0; round < 20; ++round) {
    std::string found(content.size() + 7, '-');
    const auto count = (*file)->Read(0, std::as_writable_bytes(std::span(found)));
    ASSERT_OK(count.status());
    EXPECT_EQ(*count, content.size());
    EXPECT_EQ(found, content + "-------");
  }
  EXPECT_GT(fs_.fates().short_reads, 0u);
}

TEST_F(SimulatedFs, PowerLossMayKeepUnsyncedBytes) {
  Store("/file", "old");
  ASSERT_OK(Open("/file")->Write(0, Bytes("newer")));
  fs_.PowerLoss(random_, kAllKept);
  EXPECT_EQ(fs_.Content("/file"), "newer");
}

TEST_F(SimulatedFs, PowerLossDecidesForEachSectorAlone) {
  std::set<char> seen;
  bool old_after_new = false;
  for (int round = 0; round < 20; ++round) {
    Store("/file", std::string(8 * 512, 'o'));
    ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(8 * 512, 'n'))));
    fs_.PowerLoss(random_, {.kept = 0.5, .garbage = 0.1});
    const std::string content = fs_.Content("/file");
    for (std::size_t at = 0; at < content.size(); at += 512) {
      seen.insert(content[at]);
      if (at > 0 && content[at] == 'o' && content[at - 512] == 'n') old_after_new = true;
    }
  }
  EXPECT_GT(seen.size(), 2u);  // old, new and garbage
  EXPECT_TRUE(seen.contains('o') && seen.contains('n'));
  EXPECT_TRUE(old_after_new);
}

TEST_F(SimulatedFs, PowerLossMayLeaveASizeAheadOfTheData) {
  bool seen = false;
  for (int round = 0; round < 50 && !seen; ++round) {
    Store("/file", "");
    ASSERT_OK(Open("/file")->Write(0, Bytes(std::string(1024, 'n'))));
    fs_.PowerLoss(random_);
    const std::string content = fs_.Content("/file");
    seen = content.size() == 1024 && content.find(std::string(512, '\0')) != std::string::npos;
  }
  EXPECT_TRUE(seen);
}

TEST_F(SimulatedFs, WhatWasCutOffDoesNotComeBackOnceSynced) {
  Store("/file", std::string(1000, 'o'));
  const auto file = Open("/file");
  ASSERT_OK(file->Truncate(100));
  ASSERT_OK(file->Truncate(1000));
  ASSERT_OK(file->Sync());
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Content("/file"), std::string(100, 'o') + std::string(900, '\0'));
}

TEST_F(SimulatedFs, PowerLossTakesUnsyncedNames) {
  Store("/removed", "r");
  Store("/from", "f");
  ASSERT_OK(Open("/new")->WriteAndSync(0, Bytes("x")));
  ASSERT_OK(fs_.Remove("/removed"));
  ASSERT_OK(fs_.Rename("/from", "/to"));
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Dump("/"),
            (std::map<std::string, std::string>{{"/from", "f"}, {"/removed", "r"}}));
}

TEST_F(SimulatedFs, SyncedNamesStay) {
  ASSERT_OK(Open("/new")->WriteAndSync(0, Bytes("x")));
  Store("/removed", "r");
  ASSERT_OK(fs_.Remove("/removed"));
  ASSERT_OK(fs_.SyncDirectory("/"));
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Content("/new"), "x");
  EXPECT_FALSE(fs_.Exists("/removed"));
}

TEST_F(SimulatedFs, SyncingOneDirectoryLeavesOthersUnsynced) {
  ASSERT_OK(fs_.MakeDirectories("/a"));
  ASSERT_OK(fs_.MakeDirectories("/b"));
  ASSERT_OK(Open("/a/file")->WriteAndSync(0, Bytes("x")));
  ASSERT_OK(Open("/b/file")->WriteAndSync(0, Bytes("x")));
  ASSERT_OK(fs_.SyncDirectory("/b"));
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_FALSE(fs_.Exists("/a/file"));
  EXPECT_TRUE(fs_.Exists("/b/file"));
  EXPECT_TRUE(fs_.Exists("/a"));
}

// A file that is renamed is under one of its names, never under none or both.
TEST_F(SimulatedFs, ARenameIsAtomicWhenThePowerGoes) {
  ASSERT_OK(fs_.MakeDirectories("/a"));
  ASSERT_OK(fs_.MakeDirectories("/b"));
  std::set<std::string> places;
  for (int round = 0; round < 40; ++round) {
    Store("/a/file", "x");
    ASSERT_OK(fs_.Rename("/a/file", "/a/file2"));
    ASSERT_OK(fs_.Rename("/a/file2", "/b/file"));
    if (round % 2 == 0) {
      ASSERT_OK(fs_.SyncDirectory("/b"));
    }
    fs_.PowerLoss(random_);
    std::string place;
    for (const char* path : {"/a/file", "/a/file2", "/b/file"}) {
      if (!fs_.Exists(path)) continue;
      EXPECT_EQ(place, "");
      place = path;
    }
    ASSERT_NE(place, "");
    EXPECT_TRUE(round % 2 != 0 || place == "/b/file") << place;
    places.insert(place);
    ASSERT_OK(fs_.Remove(place));
    ASSERT_OK(fs_.SyncDirectory(SimulatedDisk::ParentOf(place)));
  }
  EXPECT_EQ(places.size(), 3u);
}

TEST_F(SimulatedFs, KillKeepsThePageCacheAndEndsTheHandles) {
  ASSERT_OK_AND_ASSIGN(const Uuid boot, fs_.BootId());
  const auto file = Open("/file");
  ASSERT_OK(file->Write(0, Bytes("unsynced")));
  ASSERT_OK_AND_ASSIGN(const auto readable, fs_.OpenReadable("/file"));
  fs_.Kill();
  EXPECT_EQ(ReadFile(fs_, "/file").value(), "unsynced");
  std::byte one[1];
  EXPECT_THAT(file->Write(0, Bytes("x")), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(file->Sync(), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(file->WriteAndSync(0, Bytes("x")), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(file->Truncate(0), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(readable->Read(0, one), StatusIs(StatusCode::kIoError));
  EXPECT_THAT(readable->Size(), StatusIs(StatusCode::kIoError));
  EXPECT_EQ(fs_.Content("/file"), "unsynced");
  EXPECT_EQ(fs_.BootId().value(), boot);
}

TEST_F(SimulatedFs, PowerLossChangesTheBootId) {
  const Uuid boot = fs_.BootId().value();
  fs_.PowerLoss(random_);
  EXPECT_NE(fs_.BootId().value(), boot);
}

TEST_F(SimulatedFs, TheNthCallFailsOnce) {
  const auto file = Open("/file");
  const std::uint64_t before = fs_.calls();
  fs_.FailNth(2, {});
  EXPECT_OK(file->Write(0, Bytes("a")));
  EXPECT_THAT(fs_.Stat("/file"), StatusIs(StatusCode::kIoError, HasSubstr("injected")));
  EXPECT_OK(fs_.Stat("/file"));
  EXPECT_EQ(fs_.calls() - before, 3u);
}

TEST_F(SimulatedFs, AStickyFaultStaysUntilCleared) {
  fs_.FailNth(2, {.sticky = true, .status = Status::Unavailable("x")});
  EXPECT_OK(fs_.List("/"));
  EXPECT_THAT(fs_.List("/"), StatusIs(StatusCode::kUnavailable));
  EXPECT_THAT(fs_.BootId(), StatusIs(StatusCode::kUnavailable));
  fs_.ClearFaults();
  EXPECT_OK(fs_.List("/"));
}

TEST_F(SimulatedFs, AFaultMayAskForOneKindOfCallAndPath) {
  fs_.FailNth(2, {.call = SimulatedCall::kOpenWritable, .path_part = "wal-"});
  EXPECT_OK(fs_.OpenWritable("/wal-1", true));
  EXPECT_OK(fs_.OpenReadable("/wal-1"));
  EXPECT_OK(fs_.OpenWritable("/other", true));
  EXPECT_THAT(fs_.OpenWritable("/wal-2", true), StatusIs(StatusCode::kIoError));
  EXPECT_FALSE(fs_.Exists("/wal-2"));
}

// Each call that the interface names can fail, and has no effect then.
TEST_F(SimulatedFs, EveryCallCanFail) {
  Store("/file", "x");
  const auto file = Open("/file");
  ASSERT_OK_AND_ASSIGN(const auto readable, fs_.OpenReadable("/file"));
  ASSERT_OK(fs_.CreateRing("/ring", 4096));
  ASSERT_OK(fs_.SyncDirectory("/"));
  std::byte one[1];
  const std::vector<std::pair<SimulatedCall, std::function<Status()>>> calls = {
      {SimulatedCall::kOpenWritable, [&] { return fs_.OpenWritable("/n", true).status(); }},
      {SimulatedCall::kOpenReadable, [&] { return fs_.OpenReadable("/file").status(); }},
      {SimulatedCall::kCreateRing, [&] { return fs_.CreateRing("/n", 4096).status(); }},
      {SimulatedCall::kOpenRing, [&] { return fs_.OpenRing("/ring").status(); }},
      {SimulatedCall::kRead, [&] { return readable->Read(0, one).status(); }},
      {SimulatedCall::kSize, [&] { return readable->Size().status(); }},
      {SimulatedCall::kWrite, [&] { return file->WriteAndSync(0, {}); }},
      {SimulatedCall::kSync, [&] { return file->WriteAndSync(0, {}); }},
      {SimulatedCall::kTruncate, [&] { return file->Truncate(0); }},
      {SimulatedCall::kRename, [&] { return fs_.Rename("/file", "/n"); }},
      {SimulatedCall::kRemove, [&] { return fs_.Remove("/file"); }},
      {SimulatedCall::kSyncDirectory, [&] { return fs_.SyncDirectory("/"); }},
      {SimulatedCall::kMakeDirectories, [&] { return fs_.MakeDirectories("/n"); }},
      {SimulatedCall::kList, [&] { return fs_.List("/").status(); }},
      {SimulatedCall::kStat, [&] { return fs_.Stat("/file").status(); }},
      {SimulatedCall::kSpace, [&] { return fs_.Space("/").status(); }},
      {SimulatedCall::kLock, [&] { return fs_.Lock("/n").status(); }},
      {SimulatedCall::kBootId, [&] { return fs_.BootId().status(); }},
  };
  for (const auto& [kind, call] : calls) {
    fs_.FailNth(1, {.call = kind});
    EXPECT_THAT(call(), StatusIs(StatusCode::kIoError, HasSubstr("injected")))
        << static_cast<int>(kind);
  }
  EXPECT_EQ(fs_.Content("/file"), "x");
  EXPECT_FALSE(fs_.Exists("/n"));
}

TEST_F(SimulatedFs, AFailedWriteLeavesAPrefix) {
  std::set<std::size_t> sizes;
  for (int round = 0; round < 50; ++round) {
    Store("/file", "");
    fs_.FailNth(1, {.call = SimulatedCall::kWrite});
    EXPECT_THAT(Open("/file")->Write(0, Bytes("0123456789")), StatusIs(StatusCode::kIoError));
    const std::string content = fs_.Content("/file");
    EXPECT_EQ(content, std::string("0123456789").substr(0, content.size()));
    sizes.insert(content.size());
  }
  EXPECT_TRUE(sizes.contains(0) && sizes.contains(10) && sizes.size() > 3);
}

// Linux marks the pages clean: a later sync says OK and writes nothing.
TEST_F(SimulatedFs, AFailedSyncLosesSectorsForGood) {
  bool lost = false;
  bool kept = false;
  for (int round = 0; round < 20; ++round) {
    Store("/file", "o");
    const auto file = Open("/file");
    ASSERT_OK(file->Write(0, Bytes("n")));
    fs_.FailNth(1, {.call = SimulatedCall::kSync});
    EXPECT_THAT(file->Sync(), StatusIs(StatusCode::kIoError));
    EXPECT_OK(file->Sync());
    EXPECT_EQ(fs_.Content("/file"), "n");  // the page cache still has it
    fs_.PowerLoss(random_, kAllKept);
    (fs_.Content("/file") == "o" ? lost : kept) = true;
  }
  EXPECT_TRUE(lost);
  EXPECT_TRUE(kept);
}

TEST_F(SimulatedFs, ASyncFailureIsToldOncePerOpenDescription) {
  Store("/file", "x");
  const auto one = Open("/file");
  const auto two = Open("/file");
  fs_.FailNth(1, {.call = SimulatedCall::kSync});
  EXPECT_THAT(one->Sync(), StatusIs(StatusCode::kIoError));
  const auto later = Open("/file");
  EXPECT_OK(one->Sync());
  EXPECT_THAT(two->Sync(), StatusIs(StatusCode::kIoError));
  EXPECT_OK(two->Sync());
  EXPECT_OK(later->Sync());
}

TEST_F(SimulatedFs, EveryCallFailsFromTheCrashOn) {
  Store("/file", "x");
  const auto file = Open("/file");
  fs_.CrashAfter(2);
  EXPECT_OK(fs_.Stat("/file"));
  EXPECT_THAT(file->Sync(), StatusIs(StatusCode::kIoError, HasSubstr("crashed")));
  EXPECT_TRUE(fs_.crashed());
  EXPECT_THAT(fs_.Stat("/file"), StatusIs(StatusCode::kIoError, HasSubstr("crashed")));
  EXPECT_THAT(fs_.OpenWritable("/new", true), StatusIs(StatusCode::kIoError));
  fs_.Kill();
  EXPECT_FALSE(fs_.crashed());
  EXPECT_OK(fs_.Stat("/file"));
}

TEST_F(SimulatedFs, TheCallThatCrashesMayHaveHadItsEffect) {
  std::set<bool> removed;
  for (int round = 0; round < 40; ++round) {
    Store("/file", "x");
    fs_.CrashAfter(1);
    EXPECT_FALSE(fs_.Remove("/file").ok());
    fs_.Kill();
    removed.insert(!fs_.Exists("/file"));
  }
  EXPECT_EQ(removed.size(), 2u);
}

TEST_F(SimulatedFs, AFullDiskTakesWhatFits) {
  fs_.SetCapacity(10);
  const auto file = Open("/file");
  ASSERT_OK(file->Write(0, Bytes("0123456")));
  EXPECT_THAT(file->Write(7, Bytes("789abc")),
              StatusIs(StatusCode::kUnavailable, HasSubstr("No space left on device (errno 28)")));
  EXPECT_EQ(fs_.Content("/file"), "0123456789");
  EXPECT_OK(file->Write(0, Bytes("overwrites")));
  EXPECT_THAT(fs_.CreateRing("/ring", 4096), StatusIs(StatusCode::kUnavailable));
  EXPECT_FALSE(fs_.Exists("/ring"));
  ASSERT_OK_AND_ASSIGN(const DiskSpace space, fs_.Space("/"));
  EXPECT_EQ(space.total, 10u);
  EXPECT_EQ(space.available, 0u);
  ASSERT_OK(fs_.Remove("/file"));
  EXPECT_EQ(fs_.Space("/").value().available, 10u);
}

TEST_F(SimulatedFs, ALockIsHeldByOneAndEndsWithItsProcess) {
  auto lock = fs_.Lock("/LOCK");
  ASSERT_OK(lock);
  EXPECT_THAT(fs_.Lock("/LOCK"),
              StatusIs(StatusCode::kUnavailable, HasSubstr("is in use by process")));
  *lock = nullptr;
  auto second = fs_.Lock("/LOCK");
  ASSERT_OK(second);
  const std::uint64_t inode = fs_.Stat("/LOCK").value().inode;
  fs_.Kill();
  auto third = fs_.Lock("/LOCK");
  ASSERT_OK(third);
  *second = nullptr;  // of a dead process: gives nothing back
  EXPECT_THAT(fs_.Lock("/LOCK"), StatusIs(StatusCode::kUnavailable));
  EXPECT_EQ(fs_.Stat("/LOCK").value().inode, inode);
}

// A page that is being written back when the power goes is torn; one that is as it was stays so.
TEST_F(SimulatedFs, APowerCutTearsAPageOfARingByTheSector) {
  constexpr std::size_t kSector = 512;
  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.CreateRing("/RING", 8192));
  ASSERT_OK(fs_.SyncDirectory("/"));
  std::memset(ring->ring(), 1, 4096);
  Random random(1);
  fs_.PowerLoss(random, {.kept = 0.4, .garbage = 0.3});
  ASSERT_OK_AND_ASSIGN(const auto again, fs_.OpenRing("/RING"));
  int kept = 0, lost = 0, garbage = 0;
  for (std::size_t from = 0; from < 4096; from += kSector) {
    const std::vector<std::byte> sector(again->ring() + from, again->ring() + from + kSector);
    const bool is_kept = sector == std::vector<std::byte>(kSector, std::byte{1});
    const bool is_lost = sector == std::vector<std::byte>(kSector, std::byte{0});
    ++(is_kept ? kept : is_lost ? lost : garbage);
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(lost, 0);
  EXPECT_GT(garbage, 0);
  const std::vector<std::byte> rest(again->ring() + 4096, again->ring() + 8192);
  EXPECT_EQ(rest, std::vector<std::byte>(4096, std::byte{0}));
}

TEST_F(SimulatedFs, ARingSurvivesAKillButNotItsDeadMapping) {
  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.CreateRing("/RING", 8192));
  EXPECT_EQ(ring->ring_bytes(), 8192u);
  ring->header()[0] = std::byte{1};
  ring->ring()[8192 + 5] = std::byte{2};
  EXPECT_EQ(ring->ring()[5], std::byte{2});
  fs_.Kill();
  ring->ring()[5] = std::byte{9};
  ASSERT_OK_AND_ASSIGN(const auto again, fs_.OpenRing("/RING"));
  EXPECT_EQ(again->header()[0], std::byte{1});
  EXPECT_EQ(again->ring()[5], std::byte{2});
}

TEST_F(SimulatedFs, StoresAfterTheCrashDoNotReachTheRing) {
  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.CreateRing("/RING", 4096));
  ring->ring()[0] = std::byte{1};
  fs_.CrashAfter(1);
  EXPECT_FALSE(fs_.BootId().ok());
  ring->ring()[1] = std::byte{1};
  fs_.Kill();
  ASSERT_OK_AND_ASSIGN(const auto again, fs_.OpenRing("/RING"));
  EXPECT_EQ(again->ring()[0], std::byte{1});
  EXPECT_EQ(again->ring()[1], std::byte{0});
}

TEST_F(SimulatedFs, PowerLossKeepsOrLosesEachRingPage) {
  constexpr std::uint64_t kPages = 16;
  std::unique_ptr<RingFile> ring = fs_.CreateRing("/RING", kPages * 4096).value();
  ASSERT_OK(fs_.SyncDirectory("/"));
  for (std::uint64_t page = 0; page < kPages; ++page) ring->ring()[page * 4096] = std::byte{1};
  fs_.PowerLoss(random_);
  ring = fs_.OpenRing("/RING").value();
  std::uint64_t kept = 0;
  for (std::uint64_t page = 0; page < kPages; ++page) {
    if (ring->ring()[page * 4096] == std::byte{1}) ++kept;
  }
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, kPages);
  // What the disk holds now it holds for good.
  fs_.PowerLoss(random_, kAllLost);
  ring = fs_.OpenRing("/RING").value();
  for (std::uint64_t page = 0; page < kPages; ++page) {
    if (ring->ring()[page * 4096] == std::byte{1}) --kept;
  }
  EXPECT_EQ(kept, 0u);
}

TEST_F(SimulatedFs, ARingOfAWrongSizeIsCorrupt) {
  Store("/RING", std::string(5000, 'x'));
  EXPECT_THAT(fs_.OpenRing("/RING"), StatusIs(StatusCode::kCorruption));
  Store("/RING", std::string(8192, 'x'));
  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.OpenRing("/RING"));
  EXPECT_EQ(ring->ring()[0], std::byte{'x'});
  fs_.TruncateFile("/RING", 100);
  EXPECT_THAT(fs_.OpenRing("/RING"), StatusIs(StatusCode::kCorruption));
  EXPECT_THAT(fs_.CreateRing("/RING", 5000), StatusIs(StatusCode::kInvalidArgument));
}

TEST_F(SimulatedFs, CorruptsFilesAndRings) {
  Store("/file", "abc");
  fs_.Corrupt("/file", 1, 0x01);
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Content("/file"), "acc");
  fs_.TruncateFile("/file", 1);
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Content("/file"), "a");

  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.CreateRing("/RING", 4096));
  fs_.Corrupt("/RING", 4096, 0x80);
  EXPECT_EQ(ring->ring()[0], std::byte{0x80});
}

TEST_F(SimulatedFs, ACopiedTreeHasOtherInodes) {
  ASSERT_OK(fs_.MakeDirectories("/a/sub"));
  Store("/a/sub/file", "x");
  ASSERT_OK_AND_ASSIGN(const auto ring, fs_.CreateRing("/a/RING", 4096));
  ring->ring()[7] = std::byte{7};
  fs_.CopyTree("/a", "/b");
  fs_.PowerLoss(random_, kAllLost);
  EXPECT_EQ(fs_.Content("/b/sub/file"), "x");
  EXPECT_EQ(fs_.OpenRing("/b/RING").value()->ring()[7], std::byte{7});
  ASSERT_OK_AND_ASSIGN(const FileStat original, fs_.Stat("/a/sub/file"));
  ASSERT_OK_AND_ASSIGN(const FileStat copy, fs_.Stat("/b/sub/file"));
  EXPECT_NE(copy.inode, original.inode);
  EXPECT_NE(copy.born, original.born);
}

TEST_F(SimulatedFs, StatKeepsInodeAndBirthOverRenames) {
  Store("/file", "abc");
  const FileStat before = fs_.Stat("/file").value();
  EXPECT_EQ(before.size, 3u);
  EXPECT_NE(before.born, 0u);
  ASSERT_OK(fs_.Rename("/file", "/other"));
  const FileStat after = fs_.Stat("/other").value();
  EXPECT_EQ(after.inode, before.inode);
  EXPECT_EQ(after.born, before.born);
}

TEST(SimulatedFsWithClock, StampsWhatIsModified) {
  FakeClock clock;
  SimulatedFileSystem fs(1, &clock);
  ASSERT_OK_AND_ASSIGN(const auto file, fs.OpenWritable("/file", true));
  EXPECT_EQ(fs.Stat("/file").value().modified, clock.WallNow());
  clock.Advance(std::chrono::hours(5));
  ASSERT_OK(file->Write(0, Bytes("x")));
  EXPECT_EQ(fs.Stat("/file").value().modified, clock.WallNow());
}

TEST(SimulatedFsSeed, TheSameSeedIsTheSameCourse) {
  const auto run = [](std::uint64_t seed) {
    SimulatedFileSystem fs(seed);
    Random random(seed);
    EXPECT_OK(WriteFileAtomically(fs, "/file", std::string(20000, 'o')));
    EXPECT_OK(fs.OpenWritable("/file", false).value()->Write(0, Bytes(std::string(20000, 'n'))));
    fs.PowerLoss(random);
    return fs.Content("/file");
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5), run(6));
}

TEST(SimulatedFsThreads, TakesCallsFromAll) {
  SimulatedFileSystem fs;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&fs, t] {
        const std::string path = "/file" + std::to_string(t % 2);
        for (int i = 0; i < 50; ++i) {
          EXPECT_OK(fs.OpenWritable(path, true).value()->WriteAndSync(0, Bytes("text")));
          EXPECT_OK(fs.List("/"));
        }
      });
    }
  }
  EXPECT_EQ(fs.Content("/file0"), "text");
  EXPECT_EQ(fs.Content("/file1"), "text");
}

}  // namespace
}  // namespace taskwal

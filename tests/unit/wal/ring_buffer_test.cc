#include "wal/ring_buffer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::wal {
namespace {

constexpr char kPath[] = "/wal/RING";
constexpr std::uint64_t kRingBytes = 64u << 10;

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class RingBufferTest : public ::testing::Test {
 protected:
  RingBufferTest() { IgnoreError(fs_.MakeDirectories("/wal")); }
  static void IgnoreError(const Status& status) { ASSERT_OK(status); }

  std::unique_ptr<RingBuffer> Make(Lsn next_lsn = 1) {
    auto ring = RingBuffer::Create(fs_, kPath, kRingBytes, wal_id_, 1, next_lsn);
    EXPECT_OK(ring);
    return std::move(ring).value();
  }
  // Every page of the ring was written back in time.
  void LosePowerKeepingAll() {
    Random random(7);
    PowerLossOdds keep_all;
    keep_all.kept = 1;
    keep_all.garbage = 0;
    fs_.PowerLoss(random, keep_all);
  }
  static Lsn Put(RingBuffer& ring, std::string_view body) {
    const RingBuffer::Claim claim = ring.TryClaim({20, 3, 77, 5}, body.size(), 0);
    if (claim.slot == nullptr) return 0;
    std::memcpy(RingBuffer::BodyOf(claim.slot, body.size()).data(), body.data(), body.size());
    ring.Publish(claim.slot, claim.lsn, body.size());
    return claim.lsn;
  }
  // Claims and gives back, with nothing in between, until so many bytes are left of the positions
  // that the claim word can tell apart.
  static RingPosition LeaveOfPositions(std::uint64_t bytes, RingBuffer& ring) {
    constexpr std::size_t kBody = kRingBytes / 2 - sizeof(RingSlot);
    RingPosition at;
    while (at.bytes < kPositions - bytes) {
      const std::size_t body = at.bytes < kPositions - 2 * kRingBytes ? kBody : 0;
      at = {at.bytes + RingBuffer::SlotBytes(body), ring.TryClaim({}, body, 0).lsn + 1};
      ring.Release(at);
    }
    return at;
  }
  static constexpr std::uint64_t kPositions = std::uint64_t{1} << 34;

  Rescue RescueFrom(Lsn next_lsn) {
    auto rescue = RescueRing(fs_, kPath, {wal_id_}, next_lsn);
    EXPECT_OK(rescue);
    return std::move(rescue).value();
  }

  SimulatedFileSystem fs_;
  Uuid wal_id_ = Uuid::Make();
};

TEST_F(RingBufferTest, YieldsWhatWasPublishedInOrder) {
  auto ring = Make(42);
  EXPECT_EQ(Put(*ring, "one"), 42u);
  EXPECT_EQ(Put(*ring, ""), 43u);
  EXPECT_EQ(ring->end_lsn(), 43u);
  RingPosition at{0, 42};
  RecordView record;
  std::uint8_t flags;
  ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
  EXPECT_EQ(record.lsn, 42u);
  EXPECT_EQ(record.header.type, 20);
  EXPECT_EQ(record.header.target, 3);
  EXPECT_EQ(record.header.key, 77u);
  EXPECT_EQ(Text(record.body), "one");
  ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
  EXPECT_TRUE(record.body.empty());
  EXPECT_FALSE(ring->Read(at, &record, &flags, &at));
}

// The claim word has the low half alone.
TEST_F(RingBufferTest, TheLowHalfOfTheLsnRunsOver) {
  constexpr Lsn kFirst = (Lsn{1} << 32) - 3;
  auto ring = Make(kFirst);
  RingPosition at{0, kFirst};
  RecordView record;
  std::uint8_t flags;
  for (Lsn lsn = kFirst; lsn < kFirst + 3000; ++lsn) {
    ASSERT_EQ(Put(*ring, "body"), lsn);
    ASSERT_EQ(ring->end_lsn(), lsn);
    ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
    ASSERT_EQ(record.lsn, lsn);
    if (lsn % 2 == 0) ring->Release(at);
  }
  for (Lsn lsn = kFirst + 3000; lsn < kFirst + 3005; ++lsn) ASSERT_EQ(Put(*ring, "body"), lsn);
  ring.reset();
  const Lsn released = at.next_lsn - (at.next_lsn % 2 == 0 ? 1 : 0);
  const Rescue rescue = RescueFrom(released);
  ASSERT_FALSE(rescue.records.empty());
  EXPECT_EQ(rescue.records.front().lsn, released);
  EXPECT_EQ(rescue.records.back().lsn, kFirst + 3004);
}

TEST_F(RingBufferTest, RescuesAcrossTheLowHalfsEnd) {
  constexpr Lsn kFirst = (Lsn{1} << 32) - 3;
  auto ring = Make(kFirst);
  for (int i = 0; i < 6; ++i) Put(*ring, "body");
  ring.reset();
  for (const bool is_same_boot : {true, false}) {
    if (!is_same_boot) LosePowerKeepingAll();
    const Rescue rescue = RescueFrom(kFirst);
    ASSERT_EQ(rescue.records.size(), 6u) << is_same_boot;
    EXPECT_EQ(rescue.records.front().lsn, kFirst);
    EXPECT_EQ(rescue.records.back().lsn, kFirst + 5);
  }
}

TEST_F(RingBufferTest, ThePositionRunsOver) {
  auto ring = Make();
  RingPosition at = LeaveOfPositions(kRingBytes, *ring);
  RecordView record;
  std::uint8_t flags;
  const Lsn first = at.next_lsn;
  for (Lsn lsn = first; lsn < first + 3000; ++lsn) {
    ASSERT_EQ(Put(*ring, "body"), lsn);
    ASSERT_EQ(ring->used_bytes(), (1 + (lsn - first) % 2) * RingBuffer::SlotBytes(4));
    ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
    ASSERT_EQ(record.lsn, lsn);
    ASSERT_FALSE(ring->Read(at, &record, &flags, &at));
    if ((lsn - first) % 2 == 1) ring->Release(at);
  }
  EXPECT_GT(at.bytes, kPositions);
}

TEST_F(RingBufferTest, IsFullAndRescuedAcrossTheEndOfPositions) {
  auto ring = Make();
  const RingPosition at = LeaveOfPositions(200, *ring);
  Lsn last = 0;
  while (const Lsn lsn = Put(*ring, "body")) last = lsn;
  const std::uint64_t fitting = kRingBytes / RingBuffer::SlotBytes(4);
  EXPECT_EQ(last, at.next_lsn + fitting - 1);
  ring.reset();
  for (const bool is_same_boot : {true, false}) {
    if (!is_same_boot) LosePowerKeepingAll();
    const Rescue rescue = RescueFrom(at.next_lsn);
    ASSERT_EQ(rescue.records.size(), fitting) << is_same_boot;
    EXPECT_EQ(rescue.records.front().lsn, at.next_lsn);
    EXPECT_EQ(rescue.records.back().lsn, last);
  }
}

TEST_F(RingBufferTest, ClaimedButUnpublishedHidesNothingBeforeIt) {
  auto ring = Make();
  Put(*ring, "a");
  const RingBuffer::Claim open = ring->TryClaim({}, 10, 0);
  Put(*ring, "c");
  RingPosition at{0, 1};
  RecordView record;
  std::uint8_t flags;
  ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
  EXPECT_FALSE(ring->Read(at, &record, &flags, &at));
  ring->Publish(open.slot, open.lsn, 10);
  ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
  ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
  EXPECT_EQ(Text(record.body), "c");
}

TEST_F(RingBufferTest, FullUntilReleasedAndReleasedSpaceIsZero) {
  auto ring = Make();
  const std::string body(1000, 'x');
  std::uint64_t count = 0;
  while (Put(*ring, body) != 0) ++count;
  EXPECT_EQ(count, kRingBytes / RingBuffer::SlotBytes(body.size()));
  RingPosition at{0, 1};
  RecordView record;
  std::uint8_t flags;
  while (ring->Read(at, &record, &flags, &at)) {
  }
  EXPECT_EQ(at.next_lsn, count + 1);
  ring->Release(at);
  EXPECT_EQ(ring->used_bytes(), 0u);
  ASSERT_OK_AND_ASSIGN(const auto file, fs_.OpenRing(kPath));
  for (std::uint64_t i = 0; i < kRingBytes; ++i) ASSERT_EQ(file->ring()[i], std::byte{0}) << i;
}

TEST_F(RingBufferTest, RecordsWrapWithoutSplitting) {
  auto ring = Make();
  RingPosition at{0, 1};
  RecordView record;
  std::uint8_t flags;
  for (int i = 0; i < 5000; ++i) {
    const std::string body(static_cast<std::size_t>(i * 37 % 900), static_cast<char>('a' + i % 26));
    ASSERT_NE(Put(*ring, body), 0u);
    ASSERT_TRUE(ring->Read(at, &record, &flags, &at));
    ASSERT_EQ(Text(record.body), body);
    ring->Release(at);
  }
}

TEST_F(RingBufferTest, NothingIsClaimedOnceClosed) {
  auto ring = Make();
  Put(*ring, "a");
  ring->CloseForClaims();
  EXPECT_EQ(Put(*ring, "b"), 0u);
  EXPECT_EQ(ring->end_lsn(), 1u);
}

TEST_F(RingBufferTest, RescuesWhatAKilledProcessPublished) {
  auto ring = Make(10);
  Put(*ring, "ten");
  Put(*ring, "eleven");
  fs_.Kill();
  const Rescue rescue = RescueFrom(10);
  EXPECT_TRUE(rescue.same_boot);
  ASSERT_EQ(rescue.records.size(), 2u);
  EXPECT_EQ(rescue.records[1].lsn, 11u);
  EXPECT_EQ(Text(rescue.records[1].body), "eleven");
}

TEST_F(RingBufferTest, RescueSkipsWhatTheLogHasAlready) {
  auto ring = Make(10);
  Put(*ring, "ten");
  Put(*ring, "eleven");
  fs_.Kill();
  const Rescue rescue = RescueFrom(11);
  ASSERT_EQ(rescue.records.size(), 1u);
  EXPECT_EQ(rescue.records[0].lsn, 11u);
  EXPECT_TRUE(RescueFrom(12).records.empty());
}

TEST_F(RingBufferTest, RescueStepsOverAClaimedSlot) {
  auto ring = Make();
  Put(*ring, "a");
  ring->TryClaim({20, 0, 0, 0}, 100, 0);  // killed while it copied
  Put(*ring, "c");
  fs_.Kill();
  const Rescue rescue = RescueFrom(1);
  ASSERT_EQ(rescue.records.size(), 3u);
  EXPECT_EQ(rescue.records[1].header.type, kVoidRecord);
  EXPECT_EQ(rescue.records[1].lsn, 2u);
  EXPECT_EQ(Text(rescue.records[2].body), "c");
}

TEST_F(RingBufferTest, RescueStepsOverSlotsKilledBeforeTheirHeader) {
  auto ring = Make();
  Put(*ring, "a");
  const RingBuffer::Claim first = ring->TryClaim({20, 0, 0, 0}, 64, 0);
  const RingBuffer::Claim second = ring->TryClaim({20, 0, 0, 0}, 8, 0);
  Put(*ring, "d");
  // As if both producers had been killed between the claim and their first store.
  std::memset(static_cast<void*>(first.slot), 0, sizeof(RingSlot));
  std::memset(static_cast<void*>(second.slot), 0, sizeof(RingSlot));
  fs_.Kill();
  const Rescue rescue = RescueFrom(1);
  ASSERT_EQ(rescue.records.size(), 4u);
  EXPECT_EQ(rescue.records[1].header.type, kVoidRecord);
  EXPECT_EQ(rescue.records[2].header.type, kVoidRecord);
  EXPECT_EQ(rescue.records[3].lsn, 4u);
  EXPECT_EQ(Text(rescue.records[3].body), "d");
}

// The body of a released record looks like the header of the next one, claimed with a length that
// would hide it; the kill came after the record's own header was zeroed and before its body was.
TEST_F(RingBufferTest, AKillInTheMiddleOfZeroingHidesNothing) {
  auto ring = Make();
  struct {
    std::uint64_t lsn = 2;
    std::int32_t state = -73;  // up to the end of what is claimed
    std::byte rest[52]{};
  } likeness;
  static_assert(sizeof likeness == 64);
  const RingBuffer::Claim first = ring->TryClaim({20, 0, 0, 0}, sizeof likeness, 0);
  std::byte* body = RingBuffer::BodyOf(first.slot, sizeof likeness).data();
  ring->Publish(first.slot, first.lsn, sizeof likeness);
  Put(*ring, "b");
  ring->Release({RingBuffer::SlotBytes(sizeof likeness), 2});
  std::memcpy(body, &likeness, sizeof likeness);
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<RingFile> file, fs_.OpenRing(kPath));
  auto& header = *reinterpret_cast<RingHeader*>(file->header().data());
  header.released.store(std::uint64_t{1} << 32);
  header.released_lsn.store(1);
  fs_.Kill();
  const Rescue rescue = RescueFrom(2);
  ASSERT_EQ(rescue.records.size(), 1u);
  EXPECT_EQ(rescue.records[0].lsn, 2u);
  EXPECT_EQ(Text(rescue.records[0].body), "b");
}

TEST_F(RingBufferTest, UnpublishedSlotsAtTheEndLeaveNothing) {
  auto ring = Make();
  Put(*ring, "a");
  ring->TryClaim({20, 0, 0, 0}, 64, 0);
  fs_.Kill();
  EXPECT_EQ(RescueFrom(1).records.size(), 1u);
}

TEST_F(RingBufferTest, ALargeRecordsSlotIsVoid) {
  auto ring = Make();
  const RingBuffer::Claim claim = ring->TryClaim({20, 0, 0, 0}, 0, kSlotLarge);
  ring->Publish(claim.slot, claim.lsn, 0);
  Put(*ring, "b");
  fs_.Kill();
  const Rescue rescue = RescueFrom(1);
  ASSERT_EQ(rescue.records.size(), 2u);
  EXPECT_EQ(rescue.records[0].header.type, kVoidRecord);
}

TEST_F(RingBufferTest, AnotherBootStopsAtTheFirstSlotThatDoesNotValidate) {
  auto ring = Make();
  Put(*ring, "a");
  ring->TryClaim({20, 0, 0, 0}, 64, 0);
  Put(*ring, "c");
  LosePowerKeepingAll();
  const Rescue rescue = RescueFrom(1);
  EXPECT_FALSE(rescue.same_boot);
  EXPECT_LE(rescue.records.size(), 1u);
}

// The header is of a newer ring than the pages behind it, whose LSNs were given out once more.
TEST_F(RingBufferTest, AnotherBootTakesNothingOfAnEarlierRing) {
  auto ring = Make(10);
  Put(*ring, "ten");
  Put(*ring, "eleven");
  LosePowerKeepingAll();
  EXPECT_EQ(RescueFrom(10).records.size(), 2u);
  {
    ASSERT_OK_AND_ASSIGN(const auto file, fs_.OpenRing(kPath));
    ++reinterpret_cast<RingHeader*>(file->header().data())->epoch;
  }
  EXPECT_TRUE(RescueFrom(10).records.empty());
}

// Its body went with the power: what follows must not outlive it. One that the log has is no end.
TEST_F(RingBufferTest, AnotherBootStopsAtALargeRecord) {
  auto ring = Make();
  const auto put_large = [&] {
    const RingBuffer::Claim claim = ring->TryClaim({20, 0, 0, 0}, 0, kSlotLarge);
    ring->Publish(claim.slot, claim.lsn, 0);
  };
  put_large();
  Put(*ring, "b");
  put_large();
  Put(*ring, "d");
  LosePowerKeepingAll();
  EXPECT_TRUE(RescueFrom(1).records.empty());
  const Rescue rescue = RescueFrom(2);
  ASSERT_EQ(rescue.records.size(), 1u);
  EXPECT_EQ(Text(rescue.records.front().body), "b");
}

TEST_F(RingBufferTest, RefusesARingThatStartsBehindTheLog) {
  auto ring = Make(50);
  Put(*ring, "fifty");
  fs_.Kill();
  const Rescue rescue = RescueFrom(40);
  EXPECT_TRUE(rescue.records.empty());
  EXPECT_FALSE(rescue.refused.empty());
}

TEST_F(RingBufferTest, RefusesAnotherLogsRing) {
  auto ring = Make();
  Put(*ring, "a");
  fs_.Kill();
  auto rescue = RescueRing(fs_, kPath, {Uuid::Make()}, 1);
  ASSERT_OK(rescue);
  EXPECT_FALSE(rescue->refused.empty());
}

TEST_F(RingBufferTest, EveryFlippedByteOfASlotVoidsItAndNoOther) {
  auto ring = Make();
  Put(*ring, "aaaa");
  Put(*ring, "bbbb");
  Put(*ring, "cccc");
  fs_.Kill();
  const std::uint64_t slot = RingBuffer::SlotBytes(4);
  for (std::uint64_t i = slot; i < slot + sizeof(RingSlot) + 4; ++i) {
    fs_.Corrupt(kPath, kSegmentHeaderBytes + i, 0x40);
    const Rescue rescue = RescueFrom(1);
    fs_.Corrupt(kPath, kSegmentHeaderBytes + i, 0x40);
    ASSERT_GE(rescue.records.size(), 1u) << i;
    EXPECT_EQ(Text(rescue.records[0].body), "aaaa");
    for (const RecordView& record : rescue.records) {
      if (record.header.type == kVoidRecord) continue;
      EXPECT_NE(record.lsn, 2u) << i;
      EXPECT_EQ(Text(record.body), record.lsn == 1 ? "aaaa" : "cccc");
    }
  }
}

TEST_F(RingBufferTest, ManyProducersLoseAndReorderNothing) {
  constexpr int kProducers = 4;
  constexpr std::uint64_t kEach = 20000;
  auto ring = Make();
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&, p] {
      for (std::uint64_t i = 0; i < kEach;) {
        std::uint64_t body[2] = {static_cast<std::uint64_t>(p), i};
        const RingBuffer::Claim claim = ring->TryClaim({20, 0, 0, 0}, sizeof body, 0);
        if (claim.slot == nullptr) {
          std::this_thread::yield();
          continue;
        }
        std::memcpy(RingBuffer::BodyOf(claim.slot, sizeof body).data(), body, sizeof body);
        ring->Publish(claim.slot, claim.lsn, sizeof body);
        ++i;
      }
    });
  }
  std::uint64_t next[kProducers] = {};
  RingPosition at{0, 1};
  RecordView record;
  std::uint8_t flags;
  for (std::uint64_t seen = 0; seen < kProducers * kEach;) {
    if (!ring->Read(at, &record, &flags, &at)) {
      std::this_thread::yield();
      continue;
    }
    std::uint64_t body[2];
    ASSERT_EQ(record.body.size(), sizeof body);
    std::memcpy(body, record.body.data(), sizeof body);
    ASSERT_LT(body[0], static_cast<std::uint64_t>(kProducers));
    ASSERT_EQ(body[1], next[body[0]]++);
    ASSERT_EQ(record.lsn, ++seen);
    ring->Release(at);
  }
  for (std::thread& producer : producers) producer.join();
}

}  // namespace
}  // namespace taskwal::wal

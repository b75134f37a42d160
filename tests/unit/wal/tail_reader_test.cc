#include "wal/tail_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/status_macros.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/log_directory.h"

namespace taskwal::wal {
namespace {

using Kind = TailEvent::Kind;
using ::testing::HasSubstr;

std::string PathOf(std::uint64_t number) { return JoinPath("/log", SegmentName(number)); }

class TailReaderTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(fs_.MakeDirectories("/log")); }

  static TailSource Source() { return {"/log", {kTestWalId}, 1, {}}; }

  // Segments 1, 2 and 3 with LSNs 1-6, 7-12, 13-18, three frames of two records each; sealed.
  void PutThree(Lsn synced_at_most = 100) {
    for (std::uint64_t n = 0; n < 3; ++n) {
      const Lsn first = n * 6 + 1;
      SegmentBuilder segment(
          {.number = n + 1, .first_lsn = first, .synced_lsn = std::min(first - 1, synced_at_most)});
      for (int i = 0; i < 3; ++i) segment.AddFrame(2);
      frames_.push_back(segment.frames());
      WriteFile(fs_, PathOf(n + 1), segment.Sealed());
    }
  }
  // Changes a byte of the frame's header (0) or body (64).
  void Damage(std::uint64_t number, std::size_t frame, std::uint64_t at) {
    fs_.Corrupt(PathOf(number), frames_[number - 1][frame].offset + at, 1);
  }

  // "1-2 3-4 L5-6 …": frames and losses up to the limit; checks that every record is the right one.
  std::string Read(TailReader& reader, Lsn limit) {
    std::string all;
    Frame frame;
    for (int events = 0; events < 1000; ++events) {
      const Lsn before = reader.position();
      const auto event = reader.Next(limit, &frame);
      if (!event.ok()) return all + event.status().ToString();
      if (event->kind == Kind::kEnd) return all;
      const LsnRange range =
          event->kind == Kind::kFrame ? LsnRange{event->from, event->to} : event->loss;
      EXPECT_EQ(range.from, before);
      EXPECT_FALSE(range.empty());
      EXPECT_LE(range.to, limit);
      EXPECT_EQ(reader.position(), range.to + 1);
      if (event->kind == Kind::kLoss) all += event->declared ? "D" : "L";
      all += std::to_string(range.from) + "-" + std::to_string(range.to) + " ";
      if (event->kind == Kind::kFrame) CheckRecords(*event, frame);
      detail_ = event->detail;
    }
    return all + "endless";
  }
  std::string Read(Lsn from, Lsn limit) {
    TailReader reader(fs_, Source(), from);
    return Read(reader, limit);
  }
  static void CheckRecords(const TailEvent& event, const Frame& frame) {
    FrameRecords records(frame.header, frame.raw);
    for (RecordView record; records.Next(&record);) {
      if (record.lsn < event.from || record.lsn > event.to) continue;
      const std::string body(reinterpret_cast<const char*>(record.body.data()), record.body.size());
      EXPECT_EQ(body, TestRecordBody(record.lsn));
    }
  }

  SimulatedFileSystem fs_;
  std::vector<std::vector<FramePlace>> frames_;
  std::string detail_;
};

TEST_F(TailReaderTest, YieldsEveryRecordAcrossSegments) {
  PutThree();
  EXPECT_EQ(Read(1, 18), "1-2 3-4 5-6 7-8 9-10 11-12 13-14 15-16 17-18 ");
}

TEST_F(TailReaderTest, StartsAnywhere) {
  PutThree();
  EXPECT_EQ(Read(4, 7), "4-4 5-6 7-7 ");
  EXPECT_EQ(Read(12, 13), "12-12 13-13 ");
  EXPECT_EQ(Read(13, 14), "13-14 ");
  EXPECT_EQ(Read(19, 18), "");
}

TEST_F(TailReaderTest, GoesOnInsideAFrameWhenTheLimitRises) {
  PutThree();
  TailReader reader(fs_, Source(), 1);
  EXPECT_EQ(Read(reader, 3), "1-2 3-3 ");
  EXPECT_EQ(Read(reader, 3), "");
  EXPECT_EQ(Read(reader, 8), "4-4 5-6 7-8 ");
}

TEST_F(TailReaderTest, NeverStartsBelowWhatWasRetired) {
  PutThree();
  ASSERT_OK(fs_.Remove(PathOf(1)));
  TailSource source = Source();
  source.first_lsn = 7;
  TailReader reader(fs_, source, 1);
  EXPECT_EQ(reader.position(), 7u);
  EXPECT_EQ(Read(reader, 8), "7-8 ");
  reader.SeekTo(2);
  EXPECT_EQ(reader.position(), 7u);
}

TEST_F(TailReaderTest, SeeksBackAndForth) {
  PutThree();
  TailReader reader(fs_, Source(), 15);
  EXPECT_EQ(Read(reader, 16), "15-16 ");
  reader.SeekTo(2);
  EXPECT_EQ(Read(reader, 4), "2-2 3-4 ");
}

TEST_F(TailReaderTest, ADamagedBodyCostsItsRecordsAlone) {
  PutThree();
  Damage(2, 1, 64);
  EXPECT_EQ(Read(1, 18), "1-2 3-4 5-6 7-8 L9-10 11-12 13-14 15-16 17-18 ");
}

TEST_F(TailReaderTest, ADamagedFrameHeaderCostsUpToTheNextFrame) {
  PutThree();
  Damage(2, 0, 3);
  Damage(2, 1, 3);
  EXPECT_EQ(Read(6, 12), "6-6 L7-10 11-12 ");
}

TEST_F(TailReaderTest, DamageAtTheEndOfASegmentCostsUpToTheNextSegment) {
  PutThree();
  Damage(2, 2, 3);
  TailReader reader(fs_, Source(), 9);
  EXPECT_EQ(Read(reader, 12), "9-10 L11-12 ");
  EXPECT_THAT(detail_, HasSubstr("wal-00000002.log offset "));
  EXPECT_EQ(Read(reader, 14), "13-14 ");
}

TEST_F(TailReaderTest, ALossEndsAtTheLimitAndGoesOnBehindIt) {
  PutThree();
  Damage(2, 0, 3);
  Damage(2, 1, 3);
  TailReader reader(fs_, Source(), 7);
  EXPECT_EQ(Read(reader, 8), "L7-8 ");
  EXPECT_EQ(Read(reader, 11), "L9-10 11-11 ");
}

TEST_F(TailReaderTest, MissingSegmentsAreLosses) {
  PutThree();
  ASSERT_OK(fs_.Remove(PathOf(2)));
  EXPECT_EQ(Read(1, 18), "1-2 3-4 5-6 L7-12 13-14 15-16 17-18 ");
  ASSERT_OK(fs_.Remove(PathOf(1)));
  EXPECT_EQ(Read(1, 18), "L1-12 13-14 15-16 17-18 ");
  ASSERT_OK(fs_.Remove(PathOf(3)));
  EXPECT_EQ(Read(1, 18), "L1-18 ");
}

TEST_F(TailReaderTest, UselessFilesInBetweenAreLosses) {
  PutThree();
  for (const bool foreign : {false, true}) {
    if (foreign) WriteFile(fs_, PathOf(2), SegmentBuilder({.wal_id = Uuid{{9}}}).Sealed());
    if (!foreign) WriteFile(fs_, PathOf(2), std::vector<std::byte>(10000, std::byte{0x3c}));
    EXPECT_EQ(Read(5, 14), "5-6 L7-12 13-14 ");
  }
}

TEST_F(TailReaderTest, ASegmentWithADamagedHeaderIsReadByItsFrames) {
  PutThree();
  for (std::uint64_t number = 1; number <= 3; ++number) fs_.Corrupt(PathOf(number), 50, 1);
  EXPECT_EQ(Read(1, 18), "1-2 3-4 5-6 7-8 9-10 11-12 13-14 15-16 17-18 ");
  Damage(2, 0, 3);
  EXPECT_EQ(Read(5, 12), "5-6 L7-8 9-10 11-12 ");
}

TEST_F(TailReaderTest, DeclaredLossesAreMarked) {
  PutThree();
  Damage(2, 0, 3);
  TailSource source = Source();
  source.declared = {{3, 3}, {8, 9}};
  TailReader reader(fs_, source, 1);
  EXPECT_EQ(Read(reader, 12), "1-2 D3-3 4-4 5-6 L7-7 D8-9 10-10 11-12 ");
}

// Segments 2 and 3 were given up after a failed sync when LSN 8 was durable; 4 starts over there.
class SupersededTailTest : public TailReaderTest {
 protected:
  void SetUp() override {
    TailReaderTest::SetUp();
    PutThree(8);
    SegmentBuilder again({.number = 4, .first_lsn = 9, .synced_lsn = 8});
    again.AddFrame(20);
    WriteFile(fs_, PathOf(4), again.Sealed());
  }
};

TEST_F(SupersededTailTest, TheLastSegmentThatClaimsAnLsnHoldsIt) {
  EXPECT_EQ(Read(1, 28), "1-2 3-4 5-6 7-8 9-28 ");
  for (Lsn from = 9; from <= 28; ++from) {
    EXPECT_EQ(Read(from, 28), std::to_string(from) + "-28 ");
  }
}

TEST_F(SupersededTailTest, WhatIsVoidMayBeDamaged) {
  Damage(2, 1, 64);
  Damage(2, 2, 3);
  Damage(3, 0, 3);
  fs_.Corrupt(PathOf(3), 40, 1);
  EXPECT_EQ(Read(1, 28), "1-2 3-4 5-6 7-8 9-28 ");
}

TEST_F(SupersededTailTest, AFrameIsCutWhereTheNextSegmentStartsOver) {
  SegmentBuilder again({.number = 5, .first_lsn = 16, .synced_lsn = 15});
  again.AddFrame(2);
  WriteFile(fs_, PathOf(5), again.Sealed());
  EXPECT_EQ(Read(8, 17), "8-8 9-15 16-17 ");
}

TEST_F(TailReaderTest, FollowsALiveLogIntoSegmentsMadeLater) {
  SegmentBuilder first({});
  first.AddFrame(2);
  WriteFile(fs_, PathOf(1), first.Unsealed());
  TailReader reader(fs_, Source(), 1);
  EXPECT_EQ(Read(reader, 2), "1-2 ");
  first.AddFrame(0);
  first.AddFrame(2);
  WriteFile(fs_, PathOf(1), first.Unsealed());
  EXPECT_EQ(Read(reader, 4), "3-4 ");
  // The next segment is there while this one still ends with zeros.
  SegmentBuilder second({.number = 2, .first_lsn = 5, .synced_lsn = 2});
  second.AddFrame(3);
  WriteFile(fs_, PathOf(2), second.Unsealed());
  EXPECT_EQ(Read(reader, 7), "5-7 ");
  WriteFile(fs_, PathOf(1), first.Sealed());
  second.AddFrame(1);
  WriteFile(fs_, PathOf(2), second.Unsealed());
  EXPECT_EQ(Read(reader, 8), "8-8 ");
}

TEST_F(TailReaderTest, FollowsALiveLogPastAFailedSync) {
  SegmentBuilder first({});
  first.AddFrame(2);
  first.AddFrame(2);
  WriteFile(fs_, PathOf(1), first.Unsealed());
  TailReader reader(fs_, Source(), 1);
  EXPECT_EQ(Read(reader, 2), "1-2 ");
  // LSNs 3 and 4 could not be synced there: they are written again, and what was read ahead is
  // void.
  SegmentBuilder second({.number = 2, .first_lsn = 3, .synced_lsn = 2});
  second.AddFrame(5);
  WriteFile(fs_, PathOf(2), second.Unsealed());
  EXPECT_EQ(Read(reader, 7), "3-7 ");
}

TEST_F(TailReaderTest, OpeningCostsTheSameForAnyNumberOfSegments) {
  const auto calls_with = [](std::uint64_t segments) {
    SimulatedFileSystem fs;
    IgnoreStatus(fs.MakeDirectories("/log"), "just made");
    for (std::uint64_t n = 1; n <= segments; ++n) {
      SegmentBuilder segment({.number = n, .first_lsn = n, .synced_lsn = n - 1});
      segment.AddFrame(1);
      WriteFile(fs, PathOf(n), segment.Sealed());
    }
    TailReader reader(fs, Source(), segments / 2);
    const std::uint64_t before = fs.calls();
    Frame frame;
    EXPECT_OK(reader.Next(segments, &frame));
    return fs.calls() - before;
  };
  EXPECT_LE(calls_with(1024), 4 * calls_with(8));
}

TEST_F(TailReaderTest, EveryCallThatFailsIsToldAndNothingIsSkipped) {
  PutThree();
  Damage(2, 1, 3);
  const std::string whole = "1-2 3-4 5-6 7-8 L9-10 11-12 13-14 15-16 17-18 ";
  for (std::uint64_t n = 1;; ++n) {
    fs_.ClearFaults();
    fs_.FailNth(n, {});
    TailReader reader(fs_, Source(), 1);
    const std::string first = Read(reader, 18);
    if (first == whole) break;
    const std::size_t error = first.find("kIoError");
    ASSERT_NE(error, std::string::npos) << first;
    EXPECT_EQ(first.substr(0, error) + Read(reader, 18), whole);
  }
}

}  // namespace
}  // namespace taskwal::wal

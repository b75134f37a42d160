#include "wal/segment_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/byte_codec.h"
#include "base/checksum.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::wal {
namespace {

using Kind = SegmentEvent::Kind;
using ::testing::HasSubstr;

constexpr char kPath[] = "/log/wal-00000001.log";

class SegmentReaderTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(fs_.MakeDirectories("/log")); }

  void Put(std::span<const std::byte> bytes) { WriteFile(fs_, kPath, bytes); }

  std::unique_ptr<SegmentReader> Open(std::uint64_t number = 1) {
    auto reader = SegmentReader::Open(fs_, "/log", number, {kTestWalId});
    EXPECT_OK(reader);
    return std::move(reader).value();
  }

  // Everything Next yields, as "F1-3" (frame), "i" (empty frame), "S" (footer), "B512:detail"
  // (bad bytes), "P" (padding), "E" (end).
  std::string Walk(SegmentReader& reader) {
    std::string walk;
    Frame frame;
    while (true) {
      const auto event = reader.Next(&frame);
      if (!event.ok()) return walk + "!" + event.status().ToString();
      if (event->kind == Kind::kFrame && frame.header.count == 0) walk += "i ";
      if (event->kind == Kind::kFrame && frame.header.count > 0) {
        walk += "F" + std::to_string(frame.header.first_lsn) + "-" +
                std::to_string(frame.last_lsn()) + " ";
      }
      if (event->kind == Kind::kFooter) walk += "S ";
      if (event->kind == Kind::kBadBytes && event->is_padding) walk += "P ";
      if (event->kind == Kind::kBadBytes && !event->is_padding) {
        walk += "B" + std::to_string(event->end_offset - event->offset) + ":" + event->detail + " ";
      }
      if (event->kind == Kind::kEnd) return walk + (event->only_zeros ? "E" : "E*");
    }
  }
  std::string Walk() { return Walk(*Open()); }
  // The checksums of the first frame, whatever it holds: only a bug writes some of it.
  static void MakeValid(std::vector<std::byte>* frame) {
    auto header = LoadLittle<FrameHeader>(frame->data());
    const std::uint64_t seed = FrameSeed(kTestWalId, 1, 1);
    const auto behind = std::span<const std::byte>(*frame).subspan(sizeof header);
    header.body_checksum =
        Checksum(behind.first(std::min<std::size_t>(header.body_bytes, behind.size())), seed);
    header.header_checksum =
        Checksum(std::as_bytes(std::span(&header, 1)).first(56), seed + kSegmentHeaderBytes);
    StoreLittle(frame->data(), header);
  }

  SimulatedFileSystem fs_;
};

TEST_F(SegmentReaderTest, ReadsASealedSegmentToItsFooter) {
  SegmentBuilder segment({.first_lsn = 5, .synced_lsn = 4});
  segment.AddFrame(3);
  segment.AddFrame(0);
  segment.AddFrame(40, 7, true);
  Put(segment.Sealed());
  const auto reader = Open();
  EXPECT_EQ(reader->header_state(), HeaderState::kValid);
  EXPECT_TRUE(reader->header_padding_clean());
  EXPECT_EQ(reader->header().first_lsn, 5u);
  EXPECT_EQ(reader->header().synced_lsn, 4u);
  EXPECT_EQ(Walk(*reader), "F5-7 i F8-47 S E");
  ASSERT_OK_AND_ASSIGN(const auto footer, reader->ReadFooter());
  EXPECT_EQ(footer.summary.last_lsn, 47u);
  EXPECT_EQ(footer.index.size(), 43u);
}

TEST_F(SegmentReaderTest, HeadersAreToldApart) {
  const SegmentBuilder segment({});
  auto bytes = segment.Unsealed();
  Put({});
  EXPECT_EQ(Open()->header_state(), HeaderState::kEmpty);
  Put(std::span(bytes).first(100));
  EXPECT_EQ(Open()->header_state(), HeaderState::kEmpty);
  Put(std::vector<std::byte>(8192));
  EXPECT_EQ(Open()->header_state(), HeaderState::kEmpty);
  Put(std::vector<std::byte>(8192, std::byte{0xa5}));
  EXPECT_EQ(Open()->header_state(), HeaderState::kDamaged);
  Put(SegmentBuilder({.wal_id = Uuid{{7}}}).Unsealed());
  EXPECT_EQ(Open()->header_state(), HeaderState::kForeign);
  Put(SegmentBuilder({.number = 2}).Unsealed());
  EXPECT_EQ(Open()->header_state(), HeaderState::kForeign);
  Put(SegmentBuilder({.version = 2}).Unsealed());
  EXPECT_EQ(Open()->header_state(), HeaderState::kOtherVersion);
  Put(bytes);
  EXPECT_EQ(Open()->header_state(), HeaderState::kValid);
  fs_.Corrupt(kPath, 4000, 1);
  EXPECT_FALSE(Open()->header_padding_clean());
  for (std::size_t at = 0; at < sizeof(SegmentHeader); ++at) {
    Put(bytes);
    fs_.Corrupt(kPath, at, 0x04);
    EXPECT_EQ(Open()->header_state(), HeaderState::kDamaged) << at;
  }
}

TEST_F(SegmentReaderTest, AMissingFileIsNotFound) {
  EXPECT_THAT(SegmentReader::Open(fs_, "/log", 9, {kTestWalId}), StatusIs(StatusCode::kNotFound));
}

TEST_F(SegmentReaderTest, StopsAtATornTail) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  const FramePlace last = segment.AddFrame(30);
  Put(segment.Unsealed());
  // The last frame's second sector never came to be.
  const std::vector<std::byte> zeros(512);
  ASSERT_OK_AND_ASSIGN(const auto file, fs_.OpenWritable(kPath, false));
  ASSERT_OK(file->Write(last.offset + 512, zeros));
  EXPECT_EQ(Walk(), "F1-2 B" + std::to_string(last.end_offset - last.offset) + ":body checksum E");
  ASSERT_OK(file->Write(last.offset, zeros));
  EXPECT_EQ(Walk(), "F1-2 E*");
}

TEST_F(SegmentReaderTest, GoesOnBehindADamagedBodyAndNamesItsRecords) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  const FramePlace bad = segment.AddFrame(3);
  segment.AddFrame(1);
  Put(segment.Sealed());
  fs_.Corrupt(kPath, bad.offset + 70, 1);
  EXPECT_EQ(Walk(), "F1-2 B512:body checksum F6-6 S E");
  const auto reader = Open();
  Frame frame;
  ASSERT_OK(reader->Next(&frame));
  ASSERT_OK_AND_ASSIGN(const SegmentEvent event, reader->Next(&frame));
  EXPECT_EQ(event.named_first, 3u);
  EXPECT_EQ(event.named_count, 3u);
}

TEST_F(SegmentReaderTest, GoesOnBehindADamagedFrameHeader) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  const FramePlace bad = segment.AddFrame(60);
  segment.AddFrame(1);
  Put(segment.Sealed());
  ASSERT_GT(bad.end_offset - bad.offset, 1024u);
  fs_.Corrupt(kPath, bad.offset + 20, 1);
  EXPECT_EQ(Walk(),
            "F1-2 B" + std::to_string(bad.end_offset - bad.offset) + ":no frame header F63-63 S E");
}

TEST_F(SegmentReaderTest, AHeaderIsNotNeededToFindFrames) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  Put(segment.Sealed());
  fs_.Corrupt(kPath, 30, 1);
  const auto reader = Open();
  EXPECT_EQ(reader->header_state(), HeaderState::kDamaged);
  EXPECT_EQ(Walk(*reader), "F1-2 S E");
  EXPECT_EQ(reader->wal_id(), kTestWalId);
}

TEST_F(SegmentReaderTest, FindsFramesOfAFormerIdentity) {
  const Uuid former{{0x77}};
  SegmentBuilder segment({.wal_id = former});
  segment.AddFrame(2);
  Put(segment.Sealed());
  for (const bool damaged : {false, true}) {
    if (damaged) fs_.Corrupt(kPath, 30, 1);
    ASSERT_OK_AND_ASSIGN(const auto reader,
                         SegmentReader::Open(fs_, "/log", 1, {kTestWalId, former}));
    EXPECT_EQ(Walk(*reader), "F1-2 S E");
    EXPECT_EQ(reader->wal_id(), former);
  }
}

TEST_F(SegmentReaderTest, WhatAnOlderUseOfTheFileLeftIsNothing) {
  SegmentBuilder old({.number = 1, .epoch = 1});
  for (int i = 0; i < 20; ++i) old.AddFrame(5);
  const auto stale = old.Sealed();
  SegmentBuilder segment({.number = 8, .first_lsn = 500, .synced_lsn = 499, .epoch = 2});
  segment.AddFrame(5);
  segment.AddBytes(std::span(stale).subspan(segment.end_offset()));
  WriteFile(fs_, "/log/wal-00000008.log", segment.Unsealed(0));
  const auto reader = Open(8);
  EXPECT_EQ(Walk(*reader), "F500-504 E*");
  EXPECT_THAT(reader->ReadFooter(), StatusIs(StatusCode::kNotFound));
}

// Recycled within an epoch, and filled just as far: the footer of the older use stands where the
// one to come will, and ends with the file.
TEST_F(SegmentReaderTest, AFooterThatAnOlderUseOfTheFileLeftIsNotItsOwn) {
  SegmentBuilder old({.number = 3, .first_lsn = 40, .synced_lsn = 39});
  old.AddFrame(5);
  const auto stale = old.Sealed();
  SegmentBuilder segment({.number = 8, .first_lsn = 500, .synced_lsn = 499});
  segment.AddFrame(5);
  ASSERT_EQ(segment.end_offset(), old.end_offset());
  segment.AddBytes(std::span(stale).subspan(segment.end_offset()));
  WriteFile(fs_, "/log/wal-00000008.log", segment.Unsealed(0));
  const auto reader = Open(8);
  Frame frame;
  ASSERT_OK(reader->Next(&frame));
  ASSERT_OK_AND_ASSIGN(const SegmentEvent event, reader->Next(&frame));
  EXPECT_FALSE(event.resembles_footer);
}

TEST_F(SegmentReaderTest, TellsPaddingThatIsNotZero) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  const FramePlace frame = segment.AddFrame(1);
  Put(segment.Sealed());
  fs_.Corrupt(kPath, frame.end_offset - 1, 1);
  EXPECT_EQ(Walk(), "F1-2 F3-3 P S E");
}

TEST_F(SegmentReaderTest, TellsBytesBehindTheFooter) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  auto bytes = segment.Sealed();
  bytes.push_back(std::byte{0});
  Put(bytes);
  EXPECT_EQ(Walk(), "F1-2 S B1:after footer E");
  EXPECT_THAT(Open()->ReadFooter(), StatusIs(StatusCode::kNotFound));
}

TEST_F(SegmentReaderTest, AFooterWithAFieldChangedIsStillSeenToHaveBeenOne) {
  SegmentBuilder segment({.first_lsn = 100, .synced_lsn = 99});
  segment.AddFrame(2);
  const auto bytes = segment.Sealed();
  for (std::size_t at = segment.end_offset(); at < segment.end_offset() + 64; ++at) {
    for (const std::uint8_t mask : {0x01, 0xff}) {
      Put(bytes);
      fs_.Corrupt(kPath, at, mask);
      const auto reader = Open();
      Frame frame;
      ASSERT_OK(reader->Next(&frame));
      ASSERT_OK_AND_ASSIGN(const SegmentEvent event, reader->Next(&frame));
      EXPECT_TRUE(event.resembles_footer) << at;
      EXPECT_FALSE(reader->ReadFooter().ok()) << at;
    }
  }
}

TEST_F(SegmentReaderTest, NoChangedByteOfAFooterGoesUnseen) {
  SegmentBuilder segment({});
  segment.AddFrame(60);
  const auto bytes = segment.Sealed();
  for (std::size_t at = segment.end_offset(); at < bytes.size(); ++at) {
    Put(bytes);
    fs_.Corrupt(kPath, at, 0x40);
    EXPECT_NE(Walk(), "F1-60 S E") << at;
  }
}

TEST_F(SegmentReaderTest, FindsAFooterOfManySectors) {
  SegmentBuilder segment({});
  for (int i = 0; i < 300; ++i) segment.AddFrame(50);
  Put(segment.Sealed());
  ASSERT_OK_AND_ASSIGN(const auto footer, Open()->ReadFooter());
  EXPECT_EQ(footer.index.size(), 15000u);
  EXPECT_EQ(footer.summary.frames, 300u);
}

TEST_F(SegmentReaderTest, SeesAFrameWrittenAfterItLooked) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  Put(segment.Unsealed());
  const auto reader = Open();
  Frame frame;
  ASSERT_OK(reader->NextHere(&frame));
  ASSERT_OK_AND_ASSIGN(SegmentEvent event, reader->NextHere(&frame));
  EXPECT_EQ(event.kind, Kind::kEnd);
  segment.AddFrame(3);
  Put(segment.Unsealed());
  ASSERT_OK_AND_ASSIGN(event, reader->NextHere(&frame));
  EXPECT_EQ(event.kind, Kind::kFrame);
  EXPECT_EQ(frame.header.first_lsn, 3u);
}

TEST_F(SegmentReaderTest, SkipsByHeadersAlone) {
  SegmentBuilder segment({});
  const FramePlace first = segment.AddFrame(5);
  segment.AddFrame(5);
  segment.AddFrame(0);
  const FramePlace third = segment.AddFrame(5);
  Put(segment.Sealed());
  fs_.Corrupt(kPath, first.offset + 70, 1);  // a body nobody asks for
  const auto reader = Open();
  ASSERT_OK(reader->SkipBelow(12));
  EXPECT_EQ(reader->position(), third.offset);
  reader->SeekTo(kSegmentHeaderBytes);
  ASSERT_OK(reader->SkipBelow(1));
  EXPECT_EQ(reader->position(), first.offset);
  ASSERT_OK(reader->SkipBelow(1000));
  EXPECT_EQ(reader->position(), third.end_offset);
}

TEST_F(SegmentReaderTest, AFileCutAnywhereYieldsOnlyWholeFrames) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  segment.AddFrame(30);
  const auto bytes = segment.Sealed();
  for (std::size_t size = 0; size < bytes.size(); size += 61) {
    Put(std::span(bytes).first(size));
    const std::string walk = Walk();
    EXPECT_EQ(walk.find('!'), std::string::npos) << walk;
    EXPECT_FALSE(walk.ends_with("S E")) << size;
  }
}

TEST_F(SegmentReaderTest, EveryReadThatFailsIsTold) {
  SegmentBuilder segment({});
  segment.AddFrame(2);
  segment.AddFrame(30);
  Put(segment.Unsealed());
  for (std::uint64_t n = 1;; ++n) {
    fs_.ClearFaults();
    fs_.FailNth(n, {});
    const auto reader = SegmentReader::Open(fs_, "/log", 1, {kTestWalId});
    if (!reader.ok()) {
      EXPECT_THAT(reader, StatusIs(StatusCode::kIoError));
      continue;
    }
    const std::string walk = Walk(**reader);
    if (walk == "F1-2 F3-32 E") break;
    EXPECT_THAT(walk, HasSubstr("!kIoError"));
  }
}

TEST_F(SegmentReaderTest, ABodyOtherThanItsHeaderSaysIsBad) {
  // The record's length is not what it says.
  SegmentBuilder segment({});
  FrameBuilder builder;
  builder.Reset(1);
  builder.Add({}, std::vector<std::byte>(10));
  const auto frame = builder.Finish({.epoch = 1});
  std::vector<std::byte> bytes(frame.begin(), frame.end());
  StoreLittle<std::uint32_t>(bytes.data() + sizeof(FrameHeader), 11);
  MakeValid(&bytes);
  segment.AddBytes(bytes);
  Put(segment.Unsealed());
  EXPECT_EQ(Walk(), "B512:body does not hold what its header says E");
}

// The largest read that is asked for.
class AskedFileSystem final : public ForwardingFileSystem {
 public:
  using ForwardingFileSystem::ForwardingFileSystem;
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override {
    auto file = ForwardingFileSystem::OpenReadable(path);
    if (!file.ok()) return file;
    return std::unique_ptr<ReadableFile>(std::make_unique<File>(largest, std::move(file).value()));
  }
  std::size_t largest = 0;

 private:
  class File final : public ReadableFile {
   public:
    File(std::size_t& largest, std::unique_ptr<ReadableFile> file)
        : largest_(largest), file_(std::move(file)) {}
    Result<std::size_t> Read(std::uint64_t offset, std::span<std::byte> into) const override {
      largest_ = std::max(largest_, into.size());
      return file_->Read(offset, into);
    }
    Result<std::uint64_t> Size() const override { return file_->Size(); }

   private:
    std::size_t& largest_;
    const std::unique_ptr<ReadableFile> file_;
  };
};

TEST_F(SegmentReaderTest, AFrameThatSaysItIsLargeTakesNoMoreMemoryThanThereIsFile) {
  constexpr std::uint32_t kMuch = 1u << 30;
  for (const bool is_compressed : {false, true}) {
    std::vector<std::byte> bytes(kSectorBytes);
    FrameHeader claimed{};
    claimed.magic = kFrameMagic;
    claimed.header_bytes = sizeof claimed;
    claimed.flags = is_compressed ? kFrameZstd : 0;
    claimed.first_lsn = claimed.count = claimed.epoch = 1;
    claimed.raw_bytes = kMuch;
    claimed.body_bytes = is_compressed ? 100 : kMuch;
    StoreLittle(bytes.data(), claimed);
    MakeValid(&bytes);
    SegmentBuilder segment({});
    segment.AddBytes(bytes);
    Put(segment.Unsealed());
    AskedFileSystem asked(fs_);
    ASSERT_OK_AND_ASSIGN(const auto reader, SegmentReader::Open(asked, "/log", 1, {kTestWalId}));
    Frame frame;
    ASSERT_OK_AND_ASSIGN(const SegmentEvent event, reader->Next(&frame));
    EXPECT_EQ(event.kind, Kind::kBadBytes);
    EXPECT_EQ(event.detail, is_compressed ? "body does not hold what its header says" : "cut off");
    EXPECT_LE(asked.largest, 64u << 10);
    EXPECT_EQ(frame.raw.capacity(), 0u);
  }
}

}  // namespace
}  // namespace taskwal::wal

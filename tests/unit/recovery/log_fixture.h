// Small log directories to damage: one that ended cleanly, one whose process was killed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "recovery/report.h"
#include "recovery/scanner.h"
#include "tests/support/segment_builder.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"
#include "wal/tail_reader.h"

namespace taskwal::recovery {

inline constexpr char kDirectory[] = "/log";

inline std::string PathOf(std::uint64_t number) {
  return wal::JoinPath(kDirectory, wal::SegmentName(number));
}

// "wal-00000002.log@4096:damage[3-4]" for each finding.
inline std::string Describe(const std::vector<Finding>& findings) {
  std::string all;
  for (const Finding& f : findings) {
    all += f.file + "@" + std::to_string(f.offset) + ":" + std::string(VerdictName(f.verdict));
    if (!f.lsns.empty()) {
      all += "[" + std::to_string(f.lsns.from) + "-" + std::to_string(f.lsns.to) + "]";
    }
    all += " ";
  }
  return all;
}

inline bool Has(const std::vector<Finding>& findings, Verdict verdict) {
  return std::any_of(findings.begin(), findings.end(),
                     [&](const Finding& f) { return f.verdict == verdict; });
}

class LogFixture : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(fs_.MakeDirectories(kDirectory)); }

  // Segments 1 to 3 with LSNs 1-6, 7-12, 13-17; all sealed, STATE says so.
  void PutCleanLog() {
    Put(1, {2, 0, 4}, true);
    Put(2, {3, 3}, true);
    Put(3, {5}, true);
    wal::LogState state;
    state.clean = true;
    state.last_lsn = 17;
    MakeLogDirectory(fs_, kDirectory, state);
  }
  // The smallest with all there is: segments 1 and 2 with LSNs 1-2 and 3, an empty frame in
  // between.
  void PutSmallCleanLog() {
    Put(1, {2, 0}, true);
    Put(2, {1}, true);
    wal::LogState state;
    state.clean = true;
    state.last_lsn = 3;
    MakeLogDirectory(fs_, kDirectory, state);
  }
  // Segments 1 and 2 sealed, 3 open with LSNs 13-18 in three frames; 16 is the highest named.
  void PutKilledLog() {
    Put(1, {2, 0, 4}, true);
    Put(2, {3, 3}, true);
    Put(3, {2, 2, 2}, false);
    MakeLogDirectory(fs_, kDirectory);
  }

  // A segment that goes on where the last one ended: frames of so many records.
  void Put(std::uint64_t number, const std::vector<std::uint32_t>& frames, bool sealed,
           std::uint64_t epoch = 1) {
    SegmentBuilder segment(
        {.number = number, .first_lsn = next_lsn_, .synced_lsn = next_lsn_ - 1, .epoch = epoch});
    for (const std::uint32_t records : frames) segment.AddFrame(records);
    next_lsn_ = segment.next_lsn();
    frames_.resize(std::max<std::size_t>(frames_.size(), number));
    frames_[number - 1] = segment.frames();
    WriteFile(fs_, PathOf(number), sealed ? segment.Sealed() : segment.Unsealed(32u << 10));
  }

  // As a process of this boot leaves it behind that has written everything before `next_lsn`.
  void PutRing(wal::Lsn next_lsn = 1) {
    ASSERT_OK(wal::RingBuffer::Create(fs_, wal::JoinPath(kDirectory, wal::kRingFileName), 64u << 10,
                                      kTestWalId, 1, next_lsn));
    fs_.Kill();
  }

  [[nodiscard]] const FramePlace& FrameAt(std::uint64_t number, std::size_t frame) const {
    return frames_[number - 1][frame];
  }
  void Zero(std::uint64_t number, std::uint64_t from, std::uint64_t to) {
    auto bytes = ReadBytes(fs_, PathOf(number));
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from),
              bytes.begin() + static_cast<std::ptrdiff_t>(to), std::byte{0});
    WriteFile(fs_, PathOf(number), bytes);
  }

  ScanReport MustScan() {
    auto report = Scan(fs_, kDirectory);
    EXPECT_OK(report);
    return report.ok() ? std::move(report).value() : ScanReport{};
  }

  // LSNs that a reader gets between 1 and `limit`.
  std::vector<wal::Lsn> ReadLsns(wal::Lsn limit) {
    wal::TailReader reader(fs_, {kDirectory, {kTestWalId}, 1, {}}, 1);
    std::vector<wal::Lsn> lsns;
    wal::Frame frame;
    while (true) {
      const auto event = reader.Next(limit, &frame);
      EXPECT_OK(event);
      if (!event.ok() || event->kind == wal::TailEvent::Kind::kEnd) return lsns;
      if (event->kind != wal::TailEvent::Kind::kFrame) continue;
      for (wal::Lsn lsn = event->from; lsn <= event->to; ++lsn) lsns.push_back(lsn);
    }
  }

  SimulatedFileSystem fs_;
  wal::Lsn next_lsn_ = 1;
  std::vector<std::vector<FramePlace>> frames_;
};

}  // namespace taskwal::recovery

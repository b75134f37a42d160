// Builds log directories byte by byte, for tests that need an exact layout or a precise damage: no
// ring, no threads, nothing of the log's own write side but the frame encoding.
//
//   SegmentBuilder segment({.wal_id = id, .number = 1, .first_lsn = 1});
//   const FramePlace place = segment.AddFrame(3);      // LSNs 1 to 3
//   WriteFile(fs, dir + "/wal-00000001.log", segment.Sealed());
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "wal/format.h"
#include "wal/frame.h"
#include "wal/record.h"
#include "wal/state_file.h"

namespace taskwal {

inline const Uuid kTestWalId = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

struct SegmentSpec {
  Uuid wal_id = kTestWalId;
  std::uint64_t number = 1;
  wal::Lsn first_lsn = 1;
  wal::Lsn synced_lsn = 0;  // as its header names it
  std::uint64_t epoch = 1;
  std::uint16_t version = wal::kFormatVersion;
};

struct FramePlace {
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  wal::LsnRange lsns;
};

class SegmentBuilder {
 public:
  explicit SegmentBuilder(const SegmentSpec& spec);

  // `records` records with the next LSNs; none: an empty frame. Names `synced_lsn`; its default is
  // that everything before it was synced.
  FramePlace AddFrame(std::uint32_t records, wal::Lsn synced_lsn = UINT64_MAX,
                      bool compress = false);
  // A record as given, alone in its frame.
  FramePlace AddRecord(const wal::RecordHeader& header, std::span<const std::byte> body,
                       bool compress = false, wal::Lsn synced_lsn = UINT64_MAX);
  // LSNs that no frame of this segment holds, and bytes between two frames.
  void SkipLsns(std::uint64_t count) { next_lsn_ += count; }
  void AddBytes(std::span<const std::byte> bytes);

  [[nodiscard]] wal::Lsn next_lsn() const { return next_lsn_; }
  [[nodiscard]] std::uint64_t end_offset() const { return bytes_.size(); }
  [[nodiscard]] const std::vector<FramePlace>& frames() const { return frames_; }

  [[nodiscard]] std::vector<std::byte> Sealed() const;
  // As it stands, zeros up to `bytes`.
  [[nodiscard]] std::vector<std::byte> Unsealed(std::uint64_t bytes = 64u << 10) const;

 private:
  FramePlace Finish(wal::FrameBuilder& frame, wal::Lsn synced_lsn, bool compress);

  SegmentSpec spec_;
  std::vector<std::byte> bytes_;
  std::vector<FramePlace> frames_;
  std::vector<wal::FooterEntry> index_;
  wal::Lsn next_lsn_;
  std::uint64_t stamp_ = 0;
};

// What the test records hold: reproducible from the LSN.
wal::RecordHeader TestRecordHeader(wal::Lsn lsn);
std::string TestRecordBody(wal::Lsn lsn);

// Synced, directory included.
void WriteFile(FileSystem& fs, const std::string& path, std::span<const std::byte> bytes);
std::vector<std::byte> ReadBytes(FileSystem& fs, const std::string& path);
// `directory` with a STATE of this log, its LOCK taken and given back.
wal::LogState MakeLogDirectory(FileSystem& fs, const std::string& directory,
                               wal::LogState state = {});

}  // namespace taskwal

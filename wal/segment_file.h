// The write side of one segment file: header, frames placed one behind the other, footer.
//
// One descriptor per lane, all opened before the first write: Linux tells a writeback error once
// per open file description, so with a shared one a lane would swallow another's error. Placing is
// for one thread at a time (the log writer's mutex); writing and syncing for one thread per lane.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/file_system.h"
#include "base/mutex.h"
#include "taskwal/status.h"
#include "wal/format.h"
#include "wal/frame.h"

namespace taskwal::wal {

// Key -> frames of one segment, newest first. Entries are appended as frames are placed; the hash
// is built when somebody first looks, so that a log nobody reads pays one push per record.
class SegmentIndex {
 public:
  void Add(std::uint64_t key, std::uint64_t frame_offset);
  // Offsets of the frames that hold the key, newest first.
  std::vector<std::uint64_t> Find(std::uint64_t key);
  // Sorted and without doubles, as the footer has it.
  [[nodiscard]] std::vector<FooterEntry> Sorted() const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  std::vector<FooterEntry> entries_;
  std::vector<std::uint32_t> previous_;                    // entry of the same key before this one
  std::unordered_map<std::uint64_t, std::uint32_t> last_;  // of those hashed so far
};

class SegmentFile {
 public:
  // Takes over a filled file that is not yet part of the log: writes and syncs the header. Until it
  // is published it is a spare to everybody else, and so it is after a crash.
  struct Plan {
    std::string directory;
    std::string spare;      // name of the file to take over
    std::uint64_t bytes = 0;
    SegmentHeader header{};
    std::uint32_t lanes = 1;
  };
  // kOverloaded: no descriptors are left, and the spare is as it was.
  static Result<std::unique_ptr<SegmentFile>> Create(FileSystem& fs, const Plan& plan);
  // Renames it to its name and syncs the directory: from now on it is part of the log, and holds
  // what stands in it alone. Durable on return; failed, nobody can tell which name it has.
  Status Publish(FileSystem& fs, const std::string& directory);
  static SegmentHeader MakeHeader(const Uuid& wal_id, std::uint64_t number, std::uint64_t epoch,
                                  std::uint32_t partitions);

  // --- placing: one thread at a time ------------------------------------------------------------
  [[nodiscard]] bool HasRoom(std::uint64_t frame_bytes) const {
    return next_offset_ + frame_bytes <= bytes_;
  }
  // For a frame, in whole sectors.
  [[nodiscard]] std::uint64_t room() const {
    return (bytes_ - next_offset_) / kSectorBytes * kSectorBytes;
  }
  // The place of a frame of `frame_bytes` (whole sectors).
  std::uint64_t Place(std::uint64_t frame_bytes, Lsn last_lsn, std::uint32_t records,
                      std::uint64_t stamp_max);
  [[nodiscard]] SegmentIndex& index() { return index_; }
  [[nodiscard]] const SegmentIndex& index() const { return index_; }

  // --- writing: one thread per lane
  // ---------------------------------------------------------------
  WritableFile& lane(std::uint32_t number) { return *files_[number]; }
  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  // Set by whoever saw a write or sync fail. The page cache can no longer be trusted: nothing of
  // this file becomes durable afterwards.
  std::atomic<bool> failed{false};

  // Cuts the unused rest, writes the footer, syncs; the size of the file. Only when every frame is
  // on disk; with `ends_unsynced`, all but the last one, which is synced first. Changes nothing
  // here, as others may look on meanwhile.
  Result<std::uint64_t> Seal(const std::string& directory, bool ends_unsynced = false) const;
  void CloseFiles() { files_.clear(); }

  [[nodiscard]] std::uint64_t number() const { return header_.number; }
  [[nodiscard]] Lsn first_lsn() const { return header_.first_lsn; }
  [[nodiscard]] Lsn last_lsn() const { return last_lsn_; }     // first_lsn - 1: none
  [[nodiscard]] std::uint64_t records() const { return records_; }
  [[nodiscard]] std::uint64_t used_bytes() const { return next_offset_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] const SegmentHeader& header() const { return header_; }
  // The file it was made of, as long as it has that name; empty from then on.
  [[nodiscard]] const std::string& spare() const { return spare_; }

 private:
  SegmentFile() = default;

  std::string spare_;
  SegmentHeader header_{};
  std::uint64_t bytes_ = 0;
  std::uint64_t seed_ = 0;
  std::uint64_t next_offset_ = kSegmentHeaderBytes;
  Lsn last_lsn_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t records_ = 0;
  std::uint64_t stamp_max_ = 0;
  SegmentIndex index_;
  std::vector<std::unique_ptr<WritableFile>> files_;
};

}  // namespace taskwal::wal

// The read side of one segment file. Used alike by opening, tailing, verifying and salvage, so that
// all of them agree on what is valid. Trusts no length before its checksum; never reads past the
// file. Not thread-safe; several readers of one file may live side by side, and beside its writer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/format.h"
#include "wal/frame.h"

namespace taskwal::wal {

// How the first 4096 bytes look.
enum class HeaderState : std::uint8_t {
  kValid,
  kEmpty,         // zero-length, short or all zeros: made, never used
  kDamaged,       // something else: frames are still found by name and wal_id
  kForeign,       // valid, of another log, or number and file name differ
  kOtherVersion,  // valid magic and checksum, a version this program does not read
};

struct Frame {
  FrameHeader header{};
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;  // of its padding
  std::vector<std::byte> raw;    // decompressed body; of a footer: summary and index
  [[nodiscard]] Lsn last_lsn() const { return header.first_lsn + header.count - 1; }
};

struct SegmentEvent {
  enum class Kind : std::uint8_t {
    kFrame,     // a valid frame (count may be 0)
    kFooter,    // a valid footer; the file must end with it
    kBadBytes,  // [offset, end_offset) holds no valid frame, though it is not all zero or
                // something valid follows; reading goes on behind it
    kEnd,       // nothing valid from `offset` to the end of the file
  };
  Kind kind = Kind::kEnd;
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  bool only_zeros = true;  // of kBadBytes and kEnd: whether the region holds nothing but zeros
  // kBadBytes: a frame header there is intact and names these records (count 0: unknown).
  Lsn named_first = 0;
  std::uint32_t named_count = 0;
  bool names_footer = false;      // of kBadBytes: that header is a footer's
  bool resembles_footer = false;  // of kBadBytes and kEnd: a footer's header stood here, but for a
                                  // field or two: the segment was sealed
  bool is_padding = false;  // of kBadBytes: behind a frame that is itself valid; costs no record
  // "frame header" of kEnd: something like one of this segment's stands there.
  std::string
      detail;  // "body checksum", "cut off", "no frame header", "padding not zero", "after footer"
};

class SegmentReader {
 public:
  // `wal_ids`: the log's own and its former ones (any of them may be on the segment). kNotFound
  // when the file is gone; a damaged header is no error: ask header_state().
  static Result<std::unique_ptr<SegmentReader>> Open(FileSystem& fs, const std::string& directory,
                                                     std::uint64_t number,
                                                     std::vector<Uuid> wal_ids);
  ~SegmentReader();

  [[nodiscard]] HeaderState header_state() const;
  // As it stands in the file when header_state() is kValid, kForeign or kOtherVersion.
  [[nodiscard]] const SegmentHeader& header() const;
  // The identity that the header names, or that the frames found so far validate under.
  [[nodiscard]] const Uuid& wal_id() const;
  [[nodiscard]] std::uint64_t number() const;
  // Nonzero bytes in the header block's padding (bytes 512 to 4095): damage once sealed.
  [[nodiscard]] bool header_padding_clean() const;
  Result<std::uint64_t> FileBytes() const;

  // The next thing at the reading position; fills `frame` for kFrame and kFooter. Behind bad bytes
  // it looks for the next valid header at every sector.
  Result<SegmentEvent> Next(Frame* frame);
  // Only what stands exactly at the position: kFrame or kFooter, else kEnd without searching. For
  // following a file that is being written.
  Result<SegmentEvent> NextHere(Frame* frame);
  // Hops over intact frame headers whose records all lie below `lsn`, bodies unread; stops at the
  // first thing that is no such frame.
  Status SkipBelow(Lsn lsn);
  void SeekTo(std::uint64_t offset);
  [[nodiscard]] std::uint64_t position() const;

  // The footer of a sealed segment, found from the end of the file: kNotFound when it has none,
  // kCorruption when it does not validate. Does not move the position.
  struct Footer {
    FooterSummary summary{};
    std::vector<FooterEntry> index;
  };
  Result<Footer> ReadFooter() const;

 private:
  struct Impl;
  explicit SegmentReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::wal

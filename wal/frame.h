// A frame: a group of records on disk, checksummed as one. Pure functions over bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "taskwal/status.h"
#include "wal/format.h"
#include "wal/record.h"

namespace taskwal::wal {

std::uint64_t FrameSeed(const Uuid& wal_id, std::uint64_t segment_number, std::uint64_t epoch);

// Collects records, then makes the bytes to write. Reused frame after frame: no allocation once
// warm. Not thread-safe.
class FrameBuilder {
 public:
  void Reset(Lsn first_lsn);
  void Add(const RecordHeader& header, std::span<const std::byte> body);
  [[nodiscard]] std::uint32_t count() const { return count_; }
  [[nodiscard]] std::size_t body_bytes() const { return used_ - sizeof(FrameHeader); }
  [[nodiscard]] Lsn first_lsn() const { return first_lsn_; }
  [[nodiscard]] Lsn last_lsn() const { return first_lsn_ + count_ - 1; }
  [[nodiscard]] std::uint64_t stamp_max() const { return stamp_max_; }

  // Compresses the body where asked and where that makes it smaller; no Add afterwards. Returns the
  // bytes that the frame takes on disk, so that a place can be found for it.
  std::uint64_t Pack(bool compress);

  struct Placement {
    std::uint64_t seed = 0;
    std::uint64_t offset = 0;
    std::uint64_t epoch = 0;
    Lsn synced_lsn = 0;
  };
  // Header, body and zeros up to the sector (packed uncompressed where Pack was not called). Valid
  // until the next Reset.
  std::span<const std::byte> Finish(const Placement& placement);

 private:
  std::vector<std::byte> buffer_;  // kept, but for one of a large record; used_ bytes count
  std::size_t used_ = sizeof(FrameHeader);
  std::vector<std::byte> packed_;
  Lsn first_lsn_ = 1;
  std::uint32_t count_ = 0;
  std::uint64_t stamp_max_ = 0;
  std::uint32_t raw_bytes_ = 0;     // once packed
  std::uint32_t stored_bytes_ = 0;
  bool is_packed_ = false;
  bool is_compressed_ = false;
};

// The bytes of a footer at `placement` (count 0, its own magic).
std::vector<std::byte> MakeFooter(const FooterSummary& summary, std::span<const FooterEntry> index,
                                  const FrameBuilder::Placement& placement);

// Whether 64 bytes at `offset` are the header of a frame or footer under this identity. With
// `epoch` 0 the epoch named by the header itself is believed (the segment's own header is damaged).
// Only a header that passes may be asked for its lengths.
bool IsFrameHeader(std::span<const std::byte> bytes, std::uint64_t offset, const Uuid& wal_id,
                   std::uint64_t segment_number, std::uint64_t epoch, FrameHeader* header);
// Checks the stored body of a header that passed.
bool IsFrameBody(const FrameHeader& header, const Uuid& wal_id, std::uint64_t segment_number,
                 std::span<const std::byte> stored);
// Decompresses where needed; false when the stored bytes do not decompress to raw_bytes.
bool UnpackFrameBody(const FrameHeader& header, std::span<const std::byte> stored,
                     std::vector<std::byte>* raw);

inline std::uint64_t FrameBytesOnDisk(const FrameHeader& header) {
  return AlignUp(sizeof(FrameHeader) + std::uint64_t{header.body_bytes}, kSectorBytes);
}

inline std::uint64_t FooterBytesOnDisk(const FooterSummary& summary) {
  const std::uint64_t index_bytes = std::uint64_t{summary.index_count} * sizeof(FooterEntry);
  return AlignUp(sizeof(FrameHeader) + sizeof summary + index_bytes, kSectorBytes);
}

// Walks the records of a raw (decompressed) frame body.
class FrameRecords {
 public:
  FrameRecords(const FrameHeader& header, std::span<const std::byte> raw)
      : next_lsn_(header.first_lsn), left_(header.count), bytes_(raw) {}
  // False at the end, or where the bytes do not hold what the header says (then !ok()).
  bool Next(RecordView* record);
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  Lsn next_lsn_;
  std::uint32_t left_;
  std::span<const std::byte> bytes_;
  bool ok_ = true;
};

}  // namespace taskwal::wal

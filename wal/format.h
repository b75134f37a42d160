// Byte layout of the log directory: constants and structs as they stand on disk (little-endian).
// Twin of docs/FORMAT.md; a change here means a new kFormatVersion and a new golden directory.
//
//   LOCK                the lock file; its inode and birth time tell the directory from a copy
//   STATE               identity, epoch, positions (state_file.h)
//   RING                the log buffer, mapped (ring_buffer.h)
//   RESERVE             zeros, given up when the disk is full so that clean-up can write
//   wal-00000001.log …  segments: header block, frames, footer when sealed
//   spare-00000001      files of zeros made ahead of need
//   dead-letters/       rejected records and declared losses
//   quarantine/         damaged files and cut tails, kept aside; nothing reads them
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/uuid.h"

namespace taskwal::wal {

using Lsn = std::uint64_t;  // log sequence number: dense, from 1

inline constexpr std::uint16_t kFormatVersion = 1;
inline constexpr std::uint64_t kSectorBytes = 512;          // frames start on a sector
inline constexpr std::uint64_t kSegmentHeaderBytes = 4096;  // the first frame starts here
inline constexpr std::uint64_t kFirstSegmentBytes = 1u << 20;
// A record is one call, and one of many tasks may be this large.
inline constexpr std::uint64_t kFrameBodyBytesMax = 1u << 30;

// Record types below kFirstUserType belong to the log itself; all others are the caller's numbers.
inline constexpr std::uint8_t kVoidRecord = 0;  // an LSN that was claimed and never acknowledged
inline constexpr std::uint8_t kLostRecord = 1;  // an LSN whose record a failed sync took away
inline constexpr std::uint8_t kFirstUserType = 16;

// First sector of a segment. Bytes 512 to 4095 are zero.
struct SegmentHeader {
  char magic[8];               // "TWALSEG\1"
  std::uint16_t version;       // kFormatVersion
  std::uint16_t reserved0;
  std::uint32_t header_bytes;  // kSegmentHeaderBytes
  Uuid wal_id;                 // of the log when the segment was made
  std::uint64_t number;        // as in the file's name; never used twice
  std::uint64_t epoch;         // of every frame in this file
  std::uint64_t first_lsn;     // whatever older segments hold from here on is void
  std::uint64_t synced_lsn;    // known to be on disk when the segment was made
  std::uint64_t stamp;         // no stamp before this one is higher
  std::uint32_t partitions;
  std::uint32_t reserved1;
  std::byte zeros[424];
  std::uint64_t checksum;      // XXH3-64 of the 504 bytes before
};
static_assert(sizeof(SegmentHeader) == kSectorBytes);

// A frame: header, body, zeros up to the next sector. Checksums are seeded with
// FrameSeed(wal_id, segment number, epoch), so that nothing an older use of the file left
// validates.
struct FrameHeader {
  std::uint32_t magic;            // kFrameMagic, or kFooterMagic
  std::uint16_t header_bytes;     // 64
  std::uint16_t flags;            // kFrameZstd
  std::uint64_t first_lsn;        // of its first record; of the next record where count is 0
  std::uint32_t count;            // records
  std::uint32_t body_bytes;       // as stored
  std::uint32_t raw_bytes;        // of the body once decompressed
  std::uint32_t reserved;
  std::uint64_t epoch;
  std::uint64_t synced_lsn;       // known to be on disk when this frame was written
  std::uint64_t body_checksum;    // XXH3-64 of the stored body
  std::uint64_t header_checksum;  // XXH3-64 of the 56 bytes before, seed + offset of the frame
};
static_assert(sizeof(FrameHeader) == 64);

inline constexpr std::uint32_t kFrameMagic = 0x31465754;   // "TWF1"
inline constexpr std::uint32_t kFooterMagic = 0x31455754;  // "TWE1": a frame of count 0, body below
inline constexpr std::uint16_t kFrameZstd = 1;

// One record inside a frame body; its LSN is first_lsn plus its index. Followed by `bytes` of body.
struct RecordPrefix {
  std::uint32_t bytes;
  std::uint8_t type;
  std::uint8_t reserved;
  std::uint16_t target;
  std::uint64_t key;
  std::uint64_t stamp;
};
static_assert(sizeof(RecordPrefix) == 24);
inline constexpr std::uint64_t kRecordBodyBytesMax = kFrameBodyBytesMax - sizeof(RecordPrefix);

// Body of a footer: this, then index_count entries sorted by (key, sector).
struct FooterSummary {
  std::uint64_t first_lsn;
  std::uint64_t last_lsn;      // first_lsn - 1 where the segment holds no record
  std::uint64_t frames;
  std::uint64_t stamp;         // highest in the segment
  std::uint64_t synced_lsn;    // = last_lsn: sealing comes after the sync
  std::uint32_t index_count;
  std::uint32_t reserved;
};
static_assert(sizeof(FooterSummary) == 48);

#pragma pack(push, 1)
struct FooterEntry {      // a frame that holds a record of this key
  std::uint64_t key;
  std::uint32_t sector;   // frame offset / kSectorBytes
};
#pragma pack(pop)
static_assert(sizeof(FooterEntry) == 12);

constexpr std::uint64_t AlignUp(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace taskwal::wal

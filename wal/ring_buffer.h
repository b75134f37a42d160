// The log buffer: a many-producer, one-consumer ring in a shared file mapping, so that what is
// published survives `kill -9` at any instruction, with no system call.
//
//   claim (one CAS: bytes and LSN together) ─▶ header stored, length negative ─▶ body copied,
//   checksum ─▶ length turns positive (published) ─▶ consumed ─▶ zeroed ─▶ released
//
// The header goes in first and space is zeroed before it is released: so after a kill a slot that
// was claimed but never published can be stepped over, and what others published behind it is
// rescued. Without that, one producer preempted between claim and publish would hide all the rest.
// The protocol is checked over all interleavings of three producers, the writer and a kill:
// ring_model.pml.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/record.h"

namespace taskwal::wal {

inline constexpr char kRingFileName[] = "RING";
inline constexpr std::uint32_t kRingVersion = 2;  // 1 is still read

// Header block of the RING file.
struct RingHeader {
  char magic[8];               // "TWALRNG\1"
  std::uint32_t version;       // kRingVersion
  std::uint32_t header_bytes;  // 4096
  Uuid wal_id;
  std::uint64_t ring_bytes;
  Uuid boot_id;  // of the kernel that wrote it last
  std::uint64_t epoch;
  std::byte pad0[64];
  // Low 32 bits of the next LSN in the upper half; in the lower, position in units of 8 bytes
  // modulo 2^31, and one bit for "closed". One compare-and-swap yields space and a dense LSN
  // together.
  std::atomic<std::uint64_t> claimed;
  std::byte pad1[56];
  std::atomic<std::uint64_t> released;  // everything before it is zero again
  // As far as the log has it: set before the zeroing begins, so that a rescue does not read what a
  // kill left half zeroed, whose bodies may hold anything.
  std::atomic<std::uint64_t> consumed;
  std::byte pad2[48];
  std::atomic<std::uint64_t> released_lsn;  // next LSN to be released, in full
};
static_assert(offsetof(RingHeader, claimed) == 128);
static_assert(offsetof(RingHeader, released) == 192);
static_assert(offsetof(RingHeader, released_lsn) == 256);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// What stands before each body in the ring.
struct RingSlot {
  std::uint64_t lsn;
  std::atomic<std::int32_t> state;  // 0 free, -(body bytes + 1) claimed, body bytes + 1 published
  std::uint32_t checksum;           // XXH3 of all that follows, seeded with wal_id, epoch, LSN
  std::uint64_t key;
  std::uint64_t stamp;
  std::uint8_t type;
  std::uint8_t flags;
  std::uint16_t target;
  std::uint32_t reserved;
};
static_assert(sizeof(RingSlot) == 40);

inline constexpr std::uint8_t kSlotNeedsSync = 1;  // level `disk`: keep until synced
inline constexpr std::uint8_t kSlotLarge = 2;      // the body is kept elsewhere by the process

// A place in the ring, as the consumer counts it.
struct RingPosition {
  std::uint64_t bytes = 0;  // since the ring was made
  Lsn next_lsn = 1;
};

class RingBuffer {
 public:
  // Makes the file anew, empty, the next LSN being `next_lsn`.
  static Result<std::unique_ptr<RingBuffer>> Create(FileSystem& fs, const std::string& path,
                                                    std::uint64_t ring_bytes, const Uuid& wal_id,
                                                    std::uint64_t epoch, Lsn next_lsn);

  // --- producers: any thread, no lock, no system call -----------------------------------------
  struct Claim {
    RingSlot* slot = nullptr;  // null: no room
    Lsn lsn = 0;
  };
  Claim TryClaim(const RecordHeader& header, std::size_t body_bytes, std::uint8_t flags);
  static std::span<std::byte> BodyOf(RingSlot* slot, std::size_t body_bytes) {
    return {reinterpret_cast<std::byte*>(slot + 1), body_bytes};
  }
  // Every claim that has not succeeded yet fails from here on: one bit of the claim word itself, so
  // that nobody slips through.
  void CloseForClaims();
  // After the body was copied.
  void Publish(RingSlot* slot, Lsn lsn, std::size_t body_bytes);

  // --- the consumer: one thread at a time ------------------------------------------------------
  // The published record at `at`; false where there is none (yet).
  bool Read(const RingPosition& at, RecordView* record, std::uint8_t* flags,
            RingPosition* next) const {
    return ReadUpTo(Claimed(), at, record, flags, next);
  }
  // The same for many in a row: the word that producers contend for is looked at once.
  struct Limit {
    std::uint32_t units = 0;
  };
  [[nodiscard]] Limit Claimed() const;
  bool ReadUpTo(const Limit& limit, const RingPosition& at, RecordView* record, std::uint8_t* flags,
                RingPosition* next) const;
  // Zeroes up to `to` and gives the space back.
  void Release(const RingPosition& to);
  [[nodiscard]] RingPosition released() const { return released_; }

  // Any thread.
  [[nodiscard]] Lsn end_lsn() const;  // last LSN claimed
  [[nodiscard]] std::uint64_t ring_bytes() const { return ring_bytes_; }
  [[nodiscard]] std::uint64_t used_bytes() const;
  [[nodiscard]] static std::uint64_t SlotBytes(std::size_t body_bytes) {
    return AlignUp(sizeof(RingSlot) + body_bytes, 8);
  }

 private:
  RingBuffer() = default;
  RingHeader* header_ = nullptr;
  std::byte* ring_ = nullptr;
  std::uint64_t ring_bytes_ = 0;
  std::uint64_t seed_ = 0;
  RingPosition released_;  // the consumer's own copy, in full
  std::unique_ptr<RingFile> file_;
};

// --- rescue
// ----------------------------------------------------------------------------------------
struct Rescue {
  std::unique_ptr<RingFile> file;  // what the views point into; null when there was no ring
  std::vector<RecordView>
      records;  // gap-free from next_lsn on; void records at the end are left off
  bool same_boot = false;
  std::string refused;  // why the ring does not count (log it); empty otherwise
};
// Reads the ring of a killed process; changes nothing. The ring counts only if it continues the
// log: it holds `next_lsn` or ends before it. A file that is no ring, or another log's, is refused.
Result<Rescue> RescueRing(FileSystem& fs, const std::string& path, const std::vector<Uuid>& wal_ids,
                          Lsn next_lsn);

// How many records RescueRing would yield, void ones not counted. For read-only tools.
Result<std::uint64_t> CountRingRecords(FileSystem& fs, const std::string& directory,
                                       const std::vector<Uuid>& wal_ids, Lsn next_lsn);

}  // namespace taskwal::wal

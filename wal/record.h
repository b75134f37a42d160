// The envelope of one record. The log knows nothing of tasks: numbers and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wal/format.h"

namespace taskwal::wal {

// RecordHeader::target of a record that concerns every target.
inline constexpr std::uint16_t kEveryTarget = 0xffff;

struct RecordHeader {
  std::uint8_t type = kFirstUserType;
  std::uint16_t target = 0;  // number of the database it goes to, or kEveryTarget
  std::uint64_t key = 0;    // hash of the task id
  std::uint64_t stamp = 0;  // hybrid clock, microseconds
};

// Borrows its body from the frame or ring it was read from.
struct RecordView {
  Lsn lsn = 0;
  RecordHeader header;
  std::span<const std::byte> body;
};

// Inclusive at both ends; empty when from > to.
struct LsnRange {
  Lsn from = 1;
  Lsn to = 0;
  [[nodiscard]] bool empty() const { return from > to; }
  [[nodiscard]] std::uint64_t count() const { return empty() ? 0 : to - from + 1; }
  friend bool operator==(const LsnRange&, const LsnRange&) = default;
};

inline std::uint32_t PartitionOf(std::uint64_t key, std::uint32_t partitions) {
  return static_cast<std::uint32_t>(key % partitions);
}

}  // namespace taskwal::wal

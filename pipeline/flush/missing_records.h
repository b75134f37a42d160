// What a database that went back has lost for good: which records neither it nor the log has any
// more. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "wal/record.h"

namespace taskwal::pipeline {

// Records of some partitions in a range of LSNs.
struct MissingRecords {
  wal::LsnRange lsns;
  std::vector<std::uint32_t> partitions;  // ascending; empty: of all
  friend bool operator==(const MissingRecords&, const MissingRecords&) = default;
};

// By partition: what the database has, what it had confirmed before, and the last record that has
// left the log. All the records that are missing and no others; ascending, without overlap.
// Partitions commit by themselves, so that some of them may have what others lack.
std::vector<MissingRecords> FindMissing(std::span<const wal::Lsn> stored,
                                        std::span<const wal::Lsn> confirmed, wal::Lsn gone);

// "0,3,7"; empty for all.
std::string PartitionsText(const MissingRecords& missing);
// "41 to 60 of partitions 0,3; 61 to 70".
std::string MissingText(std::span<const MissingRecords> missing);

}  // namespace taskwal::pipeline

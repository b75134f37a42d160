// What recovery found and did: for people and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "recovery/verdict.h"
#include "wal/record.h"

namespace taskwal::recovery {

struct Finding {
  Verdict verdict = Verdict::kIntact;
  std::string file;
  std::uint64_t offset = 0;
  wal::LsnRange lsns;  // empty: unknown or none
  std::string detail;
};

struct SegmentSummary {  // a row of `taskwal inspect`
  std::uint64_t number = 0;
  std::string state;  // "active" (unsealed), "flushed", "flushing" (sealed, not yet flushed),
                      // "failed" (damaged)
  std::uint64_t epoch = 0;
  wal::LsnRange lsns;
  std::uint64_t records = 0;
  std::uint64_t frames = 0;
  std::uint64_t file_bytes = 0;
  bool sealed = false;
};

struct ScanReport {
  std::vector<SegmentSummary> segments;
  std::vector<Finding> findings;  // everything that is not kIntact
  std::uint64_t scanned = 0;      // records that validate
  wal::LsnRange lsns;             // first and last LSN that counts
  wal::Lsn synced_lsn = 0;        // highest named
  std::vector<wal::LsnRange>
      lost;  // damage: synced records that no valid frame holds, not declared
  std::vector<wal::LsnRange> declared;  // losses that salvage declared before
  std::vector<wal::LsnRange> unknown;   // a tail of unknown standing
  std::uint64_t torn_bytes = 0;
  std::uint64_t ring_records = 0;      // waiting in the ring of a killed process
  [[nodiscard]] bool damaged() const;  // `verify` exits 2
};

}  // namespace taskwal::recovery

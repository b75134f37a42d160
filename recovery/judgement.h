// From the facts of the segments to what counts, what is lost and what to do about it: the one
// place where verdicts are given, for opening, verifying and salvage alike. Pure functions.
//
// Verdicts are counted in LSNs, not file positions. A segment owns the LSNs from its own first one
// on, up to the first LSN of any later segment; a frame counts for the LSNs its segment owns.
// Damage is an LSN at or below the highest one named as synced that no frame counts for.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "recovery/identity.h"
#include "recovery/report.h"
#include "recovery/segment_facts.h"

namespace taskwal::recovery {

// Beside a live writer: what was on disk before the files were read. What is named or sealed later
// became so behind the reader's back, and is held against nobody.
struct Ceiling {
  wal::Lsn synced_lsn = UINT64_MAX;
  std::uint64_t sealed = UINT64_MAX;  // number of the last sealed segment
};

struct JudgementInput {
  const LogIdentity* identity = nullptr;
  std::span<const SegmentFacts> segments;  // ascending; all, or the last ones
  wal::Lsn from = 1;                       // older LSNs were retired, or not read
  Ceiling ceiling;
};

struct SegmentJudgement {
  bool owns = false;       // a segment of this log, with a place in it
  wal::Lsn first_lsn = 0;  // where `owns`: what it owns, of which
  wal::Lsn owned_to = 0;   // it may hold less; below first_lsn: all of it was taken over
  bool sealed = false;     // every byte of it counts
  bool half_made = false;  // nothing of it counts, and nothing should
  bool damaged = false;
  wal::LsnRange lsns;  // first and last one that count in it
  std::uint64_t records = 0;
};

struct Judgement {
  std::vector<SegmentJudgement> segments;  // as the facts
  std::vector<Finding> findings;           // by file and offset; kIntact is left out
  wal::Lsn synced_lsn = 0;                 // highest named
  wal::Lsn on_disk_lsn = 0;                // the same by files alone: what a ring names as written
                                           // may be in the page cache
  wal::Lsn end_lsn = 0;                    // last one that counts, or was synced and is lost
  wal::LsnRange lsns;                      // first and last one that count
  std::uint64_t records = 0;               // that count
  std::vector<wal::LsnRange> lost, unknown;
  std::uint64_t torn_bytes = 0;
};

Judgement JudgeLog(const JudgementInput& input);

// Without the LSNs of `holes`.
std::vector<wal::LsnRange> Without(const std::vector<wal::LsnRange>& ranges,
                                   std::span<const wal::LsnRange> holes);

}  // namespace taskwal::recovery

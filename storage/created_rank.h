// Which save a task's created_at is from, as text whose order of bytes says which of two stands. So
// logs that save one task agree on it in whatever order their saves come: the greater rank wins.
// A save that gives created_at comes before one that does not; of those that give it the last one
// stands, of the others the first, in the order that rows go by: (stamp, wal_id, LSN). Stamps alone
// would not do: within a log some are equal, as after a step of the clock. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/uuid.h"

namespace taskwal::storage {

// Of a row from before there were ranks; behind it are those of saves that give created_at, before
// it those of saves that do not. As in sql/*/002_created_rank.sql.
inline constexpr std::string_view kUnknownCreatedRank = "1";
// Before each that is given, behind all others.
inline constexpr std::string_view kGivenCreatedRank = "2";
inline constexpr std::size_t kCreatedRankBytes = 44;

struct SaveOrigin {
  std::uint64_t stamp = 0;
  Uuid wal_id;
  std::uint64_t lsn = 0;
};

// kCreatedRankBytes long.
std::string MakeCreatedRank(bool gives_created_at, const SaveOrigin& origin);

// Whether a save that takes the row takes its created_at as well. `is_own`: the row's last
// operation is of the save's own log; then it is the later one, whatever the stamps say.
constexpr bool TakesCreatedAt(std::string_view rank, std::string_view stored, bool is_own) {
  return rank > (is_own ? kGivenCreatedRank : stored);
}
// The same of a save that comes too late for the row. One of the row's own log has been there
// before, or its log has written a later one: a replay.
constexpr bool HandsInCreatedAt(std::string_view rank, std::string_view stored, bool is_own) {
  return !is_own && rank > stored;
}

}  // namespace taskwal::storage

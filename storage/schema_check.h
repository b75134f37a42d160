// Whether the tables are as taskwal made them. Somebody may have changed them since: then rows are
// refused that they would take, and none of these belongs in the dead letters; or, without its key,
// a table takes the same row twice.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "storage/column_type.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// A column of one of our tables, as the database describes it.
struct FoundColumn {
  std::string table;
  std::string name;
  std::string type;  // the database's own name of it, with its widths (storage/column_type.h)
  // It takes no NULL, and has no value of its own where a statement names none.
  bool must_be_given = false;
};

// A unique key of one of our tables.
struct FoundKey {
  std::string table;
  std::string columns;  // in the order of their names, "a,b"
};

// What keeps rows out that are as they should be, or a part of them: a column of ours that is
// missing, of another kind or narrower than what is written to it, or one of somebody else's that
// must be given. Empty where nothing does. Constraints and triggers are not among it: they are
// there to keep rows out.
std::string SchemaFault(DatabaseKind database, std::span<const FoundColumn> found);
// A table without the key that tells its rows apart. Empty where there is none.
std::string KeyFault(std::span<const FoundKey> found);
// An encoding of a whole PostgreSQL database, by the server's name of it, that lacks characters.
// Empty where it has all, or where the server knows of none ("").
std::string EncodingFault(std::string_view encoding);

// The part of a batch's transaction that was under way when it was refused.
enum class BatchPart : std::uint8_t {
  kPosition,  // the statements on wal_checkpoints: what they meet is never a row's fault
  kRows,
  kCommit,
};

// The refusal of a batch where the tables are at fault: kUnavailable, so that the log waits.
Status RefusedBySchema(std::string_view fault, const Status& refusal);
// The same where it was the log's position that was refused, which no row is to blame for.
Status RefusedByCheckpoints(const Status& refusal);
// The same where nothing has been refused yet, at a contact with `database`.
Status WrongSchema(std::string_view database, std::string_view fault);
// A log of which wal_checkpoints has the rows of some partitions alone: what is wrong, and what to
// do.
std::string LacksPartition(std::string_view wal_id);

}  // namespace taskwal::storage

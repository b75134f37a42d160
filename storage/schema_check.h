// Whether the tables are as taskwal made them. Somebody may have changed them since: then rows are
// refused that they would take, and none of these belongs in the dead letters; or, without its key,
// a table takes the same row twice.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

// A column of one of our tables, as the database describes it.
struct FoundColumn {
  std::string table;
  std::string name;
  std::string type;  // the database's own name of it
  // It takes no NULL, and has no value of its own where a statement names none.
  bool must_be_given = false;
};

// A unique key of one of our tables.
struct FoundKey {
  std::string table;
  std::string columns;  // in the order of their names, "a,b"
};

// What keeps rows out that are as they should be: a column of ours that is missing or of another
// kind, or one of somebody else's that must be given. Empty where nothing does. Narrower columns,
// constraints and triggers are not among it: they are there to keep rows out.
std::string SchemaFault(std::span<const FoundColumn> found);
// A table without the key that tells its rows apart. Empty where there is none.
std::string KeyFault(std::span<const FoundKey> found);

// The refusal of a batch where the tables are at fault: kUnavailable, so that the log waits.
Status RefusedBySchema(std::string_view fault, const Status& refusal);
// The same where nothing has been refused yet, at a contact with `database`.
Status WrongSchema(std::string_view database, std::string_view fault);

}  // namespace taskwal::storage

// SQLite's result codes -> Status: the one place that decides what a failure of SQLite means.
#pragma once

#include <string>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

// By the extended result code. kRejected for what is wrong with a row for good (CONSTRAINT,
// MISMATCH, TOOBIG); everything else, unknown codes included, is the database's trouble:
// kUnavailable.
StatusCode SqliteStatusCode(int extended_code);

// "sqlite://x.db: write a batch: database is locked (SQLite 5)", and what to check where the file
// cannot be opened or written.
Status SqliteFailure(std::string_view database, std::string_view what, int extended_code,
                     std::string_view message);

// The exception being handled as a Status; call it inside a catch block.
Status SqliteCaught(std::string_view database, std::string_view what);

}  // namespace taskwal::storage

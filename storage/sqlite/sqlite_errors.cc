#include "storage/sqlite/sqlite_errors.h"

#include <SQLiteCpp/Exception.h>
#include <sqlite3.h>

#include <exception>

namespace taskwal::storage {
namespace {

// What to do about it, where the message of SQLite alone leaves one helpless.
std::string_view AdviceFor(int extended_code) {
  if (extended_code == SQLITE_READONLY_DBMOVED) return {};
  switch (extended_code & 0xff) {
    case SQLITE_CANTOPEN:
      return ": check that the file and its directory are there, and that this user may read and "
             "write both";
    case SQLITE_READONLY:
      return ": this user may not write the file or its directory, which SQLite does even where "
             "nothing is changed: work as their owner, or with a copy";
    default:
      return {};
  }
}

}  // namespace

StatusCode SqliteStatusCode(int extended_code) {
  switch (extended_code & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
      return StatusCode::kRejected;
    default:
      return StatusCode::kUnavailable;
  }
}

Status SqliteFailure(std::string_view database, std::string_view what, int extended_code,
                     std::string_view message) {
  std::string text(database);
  text += ": ";
  text += what;
  text += ": ";
  text += (extended_code & 0xff) == SQLITE_INTERRUPT ? "took longer than the time limit" : message;
  text += " (SQLite " + std::to_string(extended_code) + ")";
  text += AdviceFor(extended_code);
  return {SqliteStatusCode(extended_code), std::move(text)};
}

Status SqliteCaught(std::string_view database, std::string_view what) {
  try {
    throw;
  } catch (const SQLite::Exception& e) {
    const int code = e.getExtendedErrorCode() > 0 ? e.getExtendedErrorCode() : e.getErrorCode();
    return SqliteFailure(database, what, code, e.what());
  } catch (const std::exception& e) {
    return Status::Unavailable(std::string(database) + ": " + std::string(what) + ": " + e.what());
  }
}

}  // namespace taskwal::storage

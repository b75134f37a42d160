#include "storage/mysql/mysql_errors.h"

#include <algorithm>
#include <array>
#include <exception>

namespace taskwal::storage {
namespace {

constexpr std::size_t kMessageBytesMax = 300;

// Data errors: no retry and no other server of this schema would take the row.
constexpr std::array<unsigned, 30> kRowErrors = {
    1022,        // duplicate key
    1048,        // a column cannot be NULL
    1062,        // duplicate key
    1153,        // the row is larger than max_allowed_packet
    1216, 1217,  // foreign key
    1264,        // out of range
    1265,        // no value of this ENUM, SET or number
    1292,        // no such date or time
    1300,        // not UTF-8
    1366,        // not of the column's character set, no number
    1367,        // no value of this type
    1406,        // too long
    1441,        // date out of range
    1451, 1452,  // foreign key
    1525,        // no value of this type
    1557,        // duplicate key by a foreign key
    1586,        // duplicate key
    1644,        // a trigger refuses it (SIGNAL)
    1690,        // out of range
    1761,        // duplicate key by a foreign key
    3140, 3141,  // no JSON (MySQL)
    3156,        // no JSON value of this type (MySQL)
    3157,        // JSON that is nested too deeply (MySQL)
    3158,        // a JSON member name is NULL (MySQL)
    3819,        // CHECK (MySQL)
    4025,        // CHECK (MariaDB)
    8025,        // the row is too large (TiDB)
};
static_assert(std::is_sorted(kRowErrors.begin(), kRowErrors.end()));

// Deadlock (of Galera also: another node's commit came first), and lock wait timeout.
constexpr unsigned kLockWaitTimeout = 1205;

std::string_view Meaning(unsigned number) {
  if (MysqlLacksRight(number)) return "a right is missing: ";
  switch (number) {
    case 1045:
    case 1698:
      return "wrong user or password: ";
    case 1290:
    case 1836:
      return "the server is read-only: ";
    case 1047:
      return "the node is not part of its cluster: ";
    case 1153:
      return "larger than the server's max_allowed_packet: ";
    case 1969:
    case 3024:
      return "took longer than the time limit: ";
    default:
      return "";
  }
}

// Servers quote the offending value: "Incorrect string value: '…' for column", "Duplicate entry
// '…' for key", "syntax to use near '…' at line 1".
std::string WithoutValues(std::string_view message) {
  std::string text(message);
  for (const std::string_view mark : {"value: '", "entry '", "near '"}) {
    const std::size_t at = text.find(mark);
    if (at == std::string::npos) continue;
    const std::size_t from = at + mark.size();
    const std::size_t quote = text.rfind("' ");
    const std::size_t to = quote == std::string::npos || quote < from ? text.size() : quote;
    text.replace(from, to - from, "…");
  }
  if (text.size() > kMessageBytesMax) {
    std::size_t end = kMessageBytesMax;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text.resize(end);
    text += "…";
  }
  return text;
}

std::string Describe(std::string_view database, std::string_view what, unsigned number,
                     std::string_view message) {
  std::string text(database);
  text += ": ";
  text += what;
  text += ": ";
  text += Meaning(number);
  text += WithoutValues(message);
  if (number != 0) text += " (MySQL " + std::to_string(number) + ")";
  return text;
}

}  // namespace

StatusCode MysqlStatusCode(unsigned number) {
  const bool is_row = std::binary_search(kRowErrors.begin(), kRowErrors.end(), number);
  return is_row ? StatusCode::kRejected : StatusCode::kUnavailable;
}

bool MysqlGaveWay() {
  try {
    throw;
  } catch (const MysqlError& e) {
    return e.number() == kMysqlDeadlock;
  } catch (...) {
    return false;
  }
}

bool MysqlLacksRight(unsigned number) {
  return number == 1044 || number == 1142 || number == 1143 || number == 1227;
}

bool IsLostConnection(unsigned number) {
  // The client library's own numbers, of which all but these concern the call: commands out of
  // sync, unsupported type and so on.
  switch (number) {
    case 1053:  // the server shuts down
    case 1927:  // the connection was killed
    case 2000:
    case 2001:
    case 2002:
    case 2003:
    case 2005:
    case 2006:
    case 2012:
    case 2013:
    case 2014:
    case 2026:
    case 2027:
    case 2055:
    case 4031:  // the server gave up waiting for us (MySQL)
      return true;
    default:
      return false;
  }
}

bool IsSurelyRolledBack(unsigned number) {
  return number == kMysqlDeadlock || number == kLockWaitTimeout;
}

Status MysqlFailure(std::string_view database, std::string_view what, unsigned number,
                    std::string_view message) {
  return {MysqlStatusCode(number), Describe(database, what, number, message)};
}

Status MysqlInDoubt(std::string_view database, const MysqlError& error) {
  return Status::InDoubt(Describe(database, "commit", error.number(), error.what()), 0);
}

Status MysqlCaught(std::string_view database, std::string_view what) {
  try {
    throw;
  } catch (const MysqlError& e) {
    return MysqlFailure(database, what, e.number(), e.what());
  } catch (const std::exception& e) {
    return Status::Unavailable(Describe(database, what, 0, e.what()));
  }
}

}  // namespace taskwal::storage

// From MySQL's and MariaDB's error numbers to Status. Any thread.
//
// Inside this folder failures of the driver and of the server travel as MysqlError;
// MysqlConnection::Run turns every exception into a Status.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

class MysqlError : public std::runtime_error {
 public:
  MysqlError(unsigned number, const std::string& message)
      : std::runtime_error(message), number_(number) {}
  [[nodiscard]] unsigned number() const { return number_; }

 private:
  unsigned number_;
};

inline constexpr unsigned kMysqlNotNull = 1048;
inline constexpr unsigned kMysqlDuplicateColumn = 1060;
inline constexpr unsigned kMysqlDuplicateKey = 1062;
inline constexpr unsigned kMysqlUnknownDatabase = 1049;
inline constexpr unsigned kMysqlNoSuchTable = 1146;
inline constexpr unsigned kMysqlPacketTooLarge = 1153;
inline constexpr unsigned kMysqlDeadlock = 1213;
inline constexpr unsigned kMysqlServerLost = 2013;

// kRejected for what is wrong with a row, or refused by a trigger; kUnavailable for everything
// else, unknown numbers included.
StatusCode MysqlStatusCode(unsigned number);
// Call inside a catch block. The server rolled the transaction back for another one's sake
// (SQLSTATE 40001): deadlocks, and conflicts with another node of a cluster.
bool MysqlGaveWay();
// The user lacks a right: to the database, a table, a column, or of the server's.
bool MysqlLacksRight(unsigned number);
// Nobody answers on this connection any more.
bool IsLostConnection(unsigned number);
// An error of COMMIT that says for sure that nothing was committed. After any other one the commit
// may have happened, or may still happen.
bool IsSurelyRolledBack(unsigned number);

// "NAME: WHAT: MESSAGE (MySQL 1366)": the message shortened, and without the values that servers
// quote in it.
Status MysqlFailure(std::string_view database, std::string_view what, unsigned number,
                    std::string_view message);
Status MysqlInDoubt(std::string_view database, const MysqlError& error);
// Call inside a catch block.
Status MysqlCaught(std::string_view database, std::string_view what);

}  // namespace taskwal::storage

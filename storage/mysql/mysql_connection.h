// One connection to a MySQL or MariaDB server: opened through SOCI, used through SOCI's native
// handle. What the server can do is asked once, at opening. One thread at a time.
//
// Work is done inside Run(), which bounds it in time, turns every exception into a Status and rolls
// back what was left open. A connection that was lost stays lost: its owner opens another one.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/posix_file.h"
#include "storage/call_watchdog.h"
#include "storage/connection_calls.h"
#include "storage/mysql/mysql_dsn.h"
#include "storage/mysql/mysql_errors.h"
#include "storage/mysql/mysql_result.h"
#include "taskwal/status.h"

struct st_mysql;
struct st_mysql_stmt;
namespace soci {
class session;
}

namespace taskwal::storage {

struct MysqlCapabilities {
  bool is_mariadb = false;
  // Many rows in one execution of a prepared statement (MariaDB, but not as a node of Galera).
  // Elsewhere: multi-row statements.
  bool array_binding = false;
  bool named_locks = false;            // GET_LOCK: else migrations go without
  bool key_hints = false;              // in the subquery of an UPDATE (not in Vitess)
  std::uint64_t packet_bytes_max = 0;  // max_allowed_packet
};

class MysqlConnection : public ConnectionCalls<MysqlConnection> {
 public:
  // kNotFound: the server has no such database; kUnavailable: anything else. `name` is the masked
  // DSN, for messages. Making it ready is to be done by `opens_until`, or within one `timeout`.
  static Result<std::unique_ptr<MysqlConnection>> Open(
      const MysqlTarget& target, const std::string& name, std::chrono::milliseconds timeout,
      Monotonic opens_until = Monotonic::max());
  ~MysqlConnection();
  MysqlConnection(const MysqlConnection&) = delete;
  MysqlConnection& operator=(const MysqlConnection&) = delete;

  // The caller is done with making it ready: until here all calls share one time limit.
  void EndOpening() { opens_until_ = Monotonic::max(); }

  // --- inside Run; these throw but for what they return
  void Begin();
  Status Commit();  // kInDoubt unless the server says that it did, or that it surely did not
  void Rollback();
  // A statement without rows; the number of rows it found (whether or not they changed).
  std::uint64_t Execute(std::string_view sql);
  // The same, with `meanwhile` done while the server is at it; not with this connection.
  std::uint64_t Execute(std::string_view sql, const std::function<void()>& meanwhile);
  MysqlResult Query(std::string_view sql);
  // Kept prepared.
  st_mysql_stmt* Prepared(const std::string& sql);
  // 'text', quoted and escaped.
  void AppendQuoted(std::string* sql, std::string_view text);
  [[noreturn]] void Throw(st_mysql_stmt* statement);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }
  // Whether that is what became of the last call. See Session::HasGivenWay.
  [[nodiscard]] bool has_given_way() const { return has_given_way_; }
  [[nodiscard]] const MysqlCapabilities& capabilities() const { return capabilities_; }
  // For tests of what other servers would do: as if this one had none of what not all have.
  void ForgoCapabilities();

 private:
  friend class ConnectionCalls<MysqlConnection>;

  MysqlConnection(std::string name, std::chrono::milliseconds timeout, Monotonic opens_until);

  // In a catch block: whether the server has undone it all, and would take it again.
  bool MayRepeat();

  Status Connect(const std::string& connect_string);
  void StartTime(std::chrono::milliseconds time);
  Status StartCall(std::string_view what, std::chrono::milliseconds time);
  void LimitStatements(std::chrono::milliseconds call_time);
  void EndCall();
  Status Caught(std::string_view what);
  void Configure();
  void SetIfKnown(const std::string& setting);
  void Probe();
  bool IsGaleraNode();
  [[nodiscard]] bool IsTransactionOpen() const;
  [[noreturn]] void Throw();

  const std::string name_;
  const std::chrono::milliseconds timeout_;
  // Of the calls that the server's limit for a statement is set for.
  std::chrono::milliseconds limited_for_;
  Monotonic opens_until_;
  std::unique_ptr<soci::session> session_;
  st_mysql* mysql_ = nullptr;  // of session_
  // The connection's socket under a number of our own: the driver may close its own at any error,
  // and somebody else get that number, while the watchdog still waits.
  UniqueFd socket_;
  MysqlCapabilities capabilities_;
  std::map<std::string, st_mysql_stmt*, std::less<>> prepared_;
  std::unique_ptr<CallWatchdog> watchdog_;  // while a call is under way
  bool in_transaction_ = false;
  bool tells_transactions_ = false;  // the server said that this one is open
  bool is_lost_ = false;
  bool has_given_way_ = false;
};

}  // namespace taskwal::storage

#include "storage/mysql/mysql_connection.h"

#include <mysql.h>
#include <soci/mysql/soci-mysql.h>
#include <soci/soci.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/status_macros.h"
#include "storage/mysql/mysql_connect_watch.h"

namespace taskwal::storage {
namespace {

// Somebody else's row lock is waited for by trying again, with backoff: so that neither opening nor
// the end of a drain is held up by it.
constexpr std::chrono::milliseconds kLockWaitMax{5000};

// At least one: for settings that know no parts of a second.
std::string WholeSeconds(std::chrono::milliseconds time) {
  return std::to_string(std::max<std::int64_t>(1, time.count() / 1000));
}

// In milliseconds: the server is to give up a little before we do, so that the connection can be
// used again.
std::int64_t StatementTime(std::chrono::milliseconds call_time) {
  return std::max<std::int64_t>(1, call_time.count() - call_time.count() / 10);
}

std::string StatementSeconds(std::chrono::milliseconds call_time) {
  return std::to_string(StatementTime(call_time)) + " / 1000.0";
}

}  // namespace

MysqlConnection::MysqlConnection(std::string name, std::chrono::milliseconds timeout,
                                 Monotonic opens_until)
    : name_(std::move(name)),
      timeout_(timeout),
      limited_for_(timeout),
      opens_until_(std::min(Clock::Real().Now() + timeout, opens_until)) {}

MysqlConnection::~MysqlConnection() {
  // The connection first: its statements then end without a word to the server.
  session_.reset();
  for (const auto& [sql, statement] : prepared_) mysql_stmt_close(statement);
}

Result<std::unique_ptr<MysqlConnection>> MysqlConnection::Open(const MysqlTarget& target,
                                                               const std::string& name,
                                                               std::chrono::milliseconds timeout,
                                                               Monotonic opens_until) {
  std::unique_ptr<MysqlConnection> connection(new MysqlConnection(name, timeout, opens_until));
  TASKWAL_TRY(connection->Connect(SociConnectString(target, timeout)));
  auto* backend = static_cast<soci::mysql_session_backend*>(connection->session_->get_backend());
  connection->mysql_ = backend->conn_;
  // The library goes on in clear with a server that has no TLS, whatever it was told.
  if (!target.tls.empty() && mysql_get_ssl_cipher(backend->conn_) == nullptr) {
    return Status::Unavailable(name + ": connect: TLS is asked for, and the server has none");
  }
  connection->socket_ = UniqueFd(::dup(mysql_get_socket(backend->conn_)));
  const Status configured = connection->Run("connect", [&]() -> Status {
    connection->Configure();
    connection->Probe();
    return Status::Ok();
  });
  if (!configured.ok()) return Status::Unavailable(configured.message());
  return connection;
}

Status MysqlConnection::Connect(const std::string& connect_string) {
  const MysqlConnectWatch watch(opens_until_);
  try {
    session_ = std::make_unique<soci::session>(soci::mysql, connect_string);
    return Status::Ok();
  } catch (const soci::mysql_soci_error& e) {
    const Status failure =
        watch.has_fired()
            ? MysqlFailure(name_, "connect", kMysqlServerLost, "took longer than the time limit")
            : MysqlFailure(name_, "connect", e.err_num_, e.what());
    if (e.err_num_ == kMysqlUnknownDatabase) return Status::NotFound(failure.message());
    return Status::Unavailable(failure.message());
  } catch (const std::exception& e) {
    return Status::Unavailable(name_ + ": connect: " + e.what());
  }
}

void MysqlConnection::Configure() {
  Execute(
      "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', "
      "autocommit = 1");
  Execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin");
  // Neither reads nor the compare-and-set of the watermarks need more, and gap locks would only
  // make writers wait for each other.
  SetIfKnown("TRANSACTION ISOLATION LEVEL READ COMMITTED");
  SetIfKnown("innodb_lock_wait_timeout = " + WholeSeconds(std::min(timeout_ / 2, kLockWaitMax)));
  if (mariadb_connection(mysql_)) {
    SetIfKnown("max_statement_time = " + StatementSeconds(timeout_));
    // A transaction whose client vanished without a word would keep its locks for hours.
    SetIfKnown("idle_write_transaction_timeout = " + WholeSeconds(timeout_));
    // Galera: a read sees what other nodes have committed before.
    SetIfKnown("wsrep_sync_wait = 1");
  } else {
    SetIfKnown("max_execution_time = " + std::to_string(StatementTime(timeout_)));
  }
}

// MySQL limits queries only: there the watchdog alone ends a transaction. What batches have left of
// their time differs by little, which is not worth a question each: the server still gives up
// before we do.
void MysqlConnection::LimitStatements(std::chrono::milliseconds call_time) {
  const auto difference = std::chrono::abs(call_time - limited_for_);
  if (difference <= call_time / 20 || !capabilities_.is_mariadb) return;
  limited_for_ = call_time;
  SetIfKnown("max_statement_time = " + StatementSeconds(call_time));
}

// Not every server of this protocol has every setting, and none of these is needed for a right
// result.
void MysqlConnection::SetIfKnown(const std::string& setting) {
  try {
    Execute("SET SESSION " + setting);
  } catch (const MysqlError& e) {
    if (IsLostConnection(e.number())) throw;
  }
}

void MysqlConnection::Probe() {
  MysqlResult packet = Query("SELECT @@max_allowed_packet");
  packet.Step();
  capabilities_.packet_bytes_max = static_cast<std::uint64_t>(packet.Int());
  try {
    Query("SELECT IS_FREE_LOCK('taskwal')");
    capabilities_.named_locks = true;
  } catch (const MysqlError& e) {
    if (IsLostConnection(e.number())) throw;
  }
  capabilities_.is_mariadb = mariadb_connection(mysql_) != 0;
  const std::string_view version = mysql_get_server_info(mysql_);
  capabilities_.key_hints = version.find("Vitess") == std::string_view::npos;
  unsigned long extended = 0;  // some versions of the library write an int, some a long
  mariadb_get_infov(mysql_, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &extended);
  capabilities_.array_binding =
      capabilities_.is_mariadb && (extended & (MARIADB_CLIENT_STMT_BULK_OPERATIONS >> 32)) != 0 &&
      !IsGaleraNode();
}

// A node whose transaction another one breaks in the midst of an array says nothing, and commits
// each row behind the break alone (seen with 10.11): before those that it rests on, which its guard
// then keeps out for good, and past the fence. A statement of many rows is broken as a whole, and
// told as a deadlock.
bool MysqlConnection::IsGaleraNode() {
  try {
    MysqlResult on = Query("SELECT @@wsrep_on");
    return on.Step() && on.Int() != 0;
  } catch (const MysqlError& e) {
    if (IsLostConnection(e.number())) throw;
    return false;  // it has not even the name
  }
}

void MysqlConnection::ForgoCapabilities() {
  const std::uint64_t packet_bytes_max = capabilities_.packet_bytes_max;
  capabilities_ = {};
  capabilities_.packet_bytes_max = packet_bytes_max;
}

void MysqlConnection::StartTime(std::chrono::milliseconds time) {
  watchdog_.reset();
  watchdog_ = std::make_unique<CallWatchdog>(
      socket_.get(), std::min(Clock::Real().Now() + time, opens_until_));
}

Status MysqlConnection::StartCall(std::string_view what, std::chrono::milliseconds time) {
  has_given_way_ = false;
  if (is_lost_) {
    return MysqlFailure(name_, what, kMysqlServerLost, "the connection was lost before");
  }
  StartTime(time);
  return Status::Ok();
}

void MysqlConnection::EndCall() {
  if (in_transaction_ && !is_lost_) {
    // The time of the call may be over: the rollback has its own.
    StartTime(timeout_);
    is_lost_ = mysql_real_query(mysql_, "ROLLBACK", 8) != 0;
  }
  in_transaction_ = false;
  watchdog_.reset();
}

bool MysqlConnection::MayRepeat() {
  if (!MysqlGaveWay() || watchdog_->has_fired()) return false;
  if (in_transaction_ && mysql_real_query(mysql_, "ROLLBACK", 8) != 0) {
    is_lost_ = true;
    return false;
  }
  in_transaction_ = false;
  return true;
}

Status MysqlConnection::Caught(std::string_view what) {
  Status status = MysqlCaught(name_, what);
  has_given_way_ = MysqlGaveWay() && !watchdog_->has_fired();
  if (!watchdog_->has_fired()) return status;
  is_lost_ = true;
  return MysqlFailure(name_, what, kMysqlServerLost, "took longer than the time limit");
}

void MysqlConnection::Begin() {
  Execute("START TRANSACTION");
  in_transaction_ = true;
  tells_transactions_ = IsTransactionOpen();
}

// As the server said with its last answer.
bool MysqlConnection::IsTransactionOpen() const {
  unsigned long status = 0;  // of which the library writes an int
  mariadb_get_infov(mysql_, MARIADB_CONNECTION_SERVER_STATUS, &status);
  return (status & SERVER_STATUS_IN_TRANS) != 0;
}

Status MysqlConnection::Commit() {
  // A COMMIT without a transaction succeeds, too. One that another node of a cluster has broken is
  // told as an error of the statement that meets it; should a server keep that to itself, what came
  // before is gone, the watermarks first of all.
  if (tells_transactions_ && !IsTransactionOpen()) {
    throw MysqlError(kMysqlDeadlock, "the server has ended the transaction by itself");
  }
  // Crash here: the server rolls back when it notices, and the log brings the batch again. Crash
  // after it: rows and watermarks are both there.
  try {
    Execute("COMMIT");
  } catch (const MysqlError& e) {
    if (IsSurelyRolledBack(e.number())) throw;
    // Even a rollback that the server acknowledges would say nothing about the commit before it.
    is_lost_ = true;
    return MysqlInDoubt(name_, e);
  }
  in_transaction_ = false;
  return Status::Ok();
}

void MysqlConnection::Rollback() {
  Execute("ROLLBACK");
  in_transaction_ = false;
}

std::uint64_t MysqlConnection::Execute(std::string_view sql) {
  if (mysql_real_query(mysql_, sql.data(), sql.size()) != 0) Throw();
  return mysql_affected_rows(mysql_);
}

std::uint64_t MysqlConnection::Execute(std::string_view sql,
                                       const std::function<void()>& meanwhile) {
  if (mysql_send_query(mysql_, sql.data(), sql.size()) != 0) Throw();
  std::exception_ptr failure;
  try {
    meanwhile();
  } catch (...) {
    failure = std::current_exception();
  }
  // In any case: left there, the answer would be taken for that to the next statement.
  if (mysql_read_query_result(mysql_) != 0) Throw();
  if (failure != nullptr) std::rethrow_exception(failure);
  return mysql_affected_rows(mysql_);
}

MysqlResult MysqlConnection::Query(std::string_view sql) {
  if (mysql_real_query(mysql_, sql.data(), sql.size()) != 0) Throw();
  MYSQL_RES* result = mysql_store_result(mysql_);
  if (result == nullptr) Throw();
  return MysqlResult(result);
}

st_mysql_stmt* MysqlConnection::Prepared(const std::string& sql) {
  const auto found = prepared_.find(sql);
  if (found != prepared_.end()) return found->second;
  MYSQL_STMT* statement = mysql_stmt_init(mysql_);
  if (statement == nullptr) Throw();
  prepared_.emplace(sql, statement);
  if (mysql_stmt_prepare(statement, sql.data(), sql.size()) != 0) Throw(statement);
  return statement;
}

void MysqlConnection::AppendQuoted(std::string* sql, std::string_view text) {
  const std::size_t at = sql->size();
  sql->resize(at + 2 * text.size() + 3);
  char* out = sql->data() + at;
  *out = '\'';
  const unsigned long length = mysql_real_escape_string(mysql_, out + 1, text.data(), text.size());
  out[1 + length] = '\'';
  sql->resize(at + length + 2);
}

void MysqlConnection::Throw() {
  const MysqlError error(mysql_errno(mysql_), mysql_error(mysql_));
  if (IsLostConnection(error.number())) is_lost_ = true;
  throw error;
}

void MysqlConnection::Throw(st_mysql_stmt* statement) {
  const MysqlError error(mysql_stmt_errno(statement), mysql_stmt_error(statement));
  if (IsLostConnection(error.number())) {
    is_lost_ = true;
    throw error;
  }
  // It may be half bound, or not prepared: the next use makes it anew.
  std::erase_if(prepared_, [&](const auto& entry) { return entry.second == statement; });
  mysql_stmt_close(statement);
  throw error;
}

}  // namespace taskwal::storage

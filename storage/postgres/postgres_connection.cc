#include "storage/postgres/postgres_connection.h"

#include <algorithm>
#include <optional>
#include <pqxx/connection>
#include <pqxx/errorhandler>
#include <pqxx/nontransaction>
#include <unordered_map>

#include "base/clock.h"
#include "storage/call_watchdog.h"
#include "storage/postgres/postgres_errors.h"

namespace taskwal::storage {

std::chrono::milliseconds StatementTime(std::chrono::milliseconds call_time) {
  return std::max(call_time * 9 / 10, std::chrono::milliseconds(1));
}

struct PostgresConnection::Driver {
  explicit Driver(const std::string& conninfo) : connection(conninfo), silence(connection) {
// A lost connection must be seen: libpqxx would open another one behind the scenes, without the
// session's settings. Deprecated by its authors because later versions never do that.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    connection.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  }

  pqxx::connection connection;
  pqxx::quiet_errorhandler silence;  // notices are not for stderr
  // Of the call under way. Transactions are ours: what a failed COMMIT means is decided here.
  std::optional<CallWatchdog> watchdog;
  std::optional<pqxx::nontransaction> work;
  std::unordered_map<std::string, std::string> prepared;  // text to name
  bool is_open_transaction = false;
  bool is_committing = false;
  bool is_broken = false;
};

PostgresConnection::PostgresConnection(const PostgresTarget& target, Monotonic opens_until)
    : name_(target.name),
      timeout_(target.timeout),
      call_time_(timeout_),
      // libpq bounds the connecting itself; what it leaves of the time is for the rest.
      opens_until_(std::min(Clock::Real().Now() + target.timeout, opens_until)) {}

PostgresConnection::~PostgresConnection() = default;

Result<std::unique_ptr<PostgresConnection>> PostgresConnection::Open(
    const PostgresTarget& target, Monotonic opens_until) {
  std::unique_ptr<PostgresConnection> connection(new PostgresConnection(target, opens_until));
  try {
    connection->driver_ = std::make_unique<Driver>(target.conninfo);
    return connection;
  } catch (...) {
    const Status caught = PostgresCaught({.database = target.name, .what = "connect"});
    return Status::Unavailable(caught.message());
  }
}

Status PostgresConnection::StartCall(std::string_view what, std::chrono::milliseconds time) {
  Driver& driver = *driver_;
  has_given_way_ = false;
  if (driver.is_broken || !driver.connection.is_open()) {
    driver.is_broken = true;
    return Status::Unavailable(name_ + ": " + std::string(what) + ": the connection was lost");
  }
  driver.watchdog.emplace(driver.connection.sock(),
                          std::min(Clock::Real().Now() + time, opens_until_));
  driver.work.emplace(driver.connection);
  return Status::Ok();
}

void PostgresConnection::EndCall() {
  Driver& driver = *driver_;
  if (driver.is_open_transaction && !driver.is_broken) {
    try {
      Rollback();
    } catch (...) {
      driver.is_broken = true;
    }
  }
  driver.is_open_transaction = false;
  driver.work.reset();
  driver.watchdog.reset();
}

bool PostgresConnection::MayRepeat() {
  Driver& driver = *driver_;
  if (!PostgresGaveWay() || driver.watchdog->has_fired()) return false;
  driver.is_committing = false;
  if (!driver.is_open_transaction) return true;
  try {
    Rollback();
    return true;
  } catch (...) {
    driver.is_broken = true;
    return false;
  }
}

Status PostgresConnection::Caught(std::string_view what) {
  Driver& driver = *driver_;
  PostgresCall call;
  call.database = name_;
  call.what = what;
  call.is_committing = driver.is_committing;
  call.has_timed_out = driver.watchdog->has_fired();
  call.is_lost = !driver.connection.is_open();
  if (PostgresConnectionLost() || call.has_timed_out || call.is_lost) driver.is_broken = true;
  has_given_way_ = PostgresGaveWay() && !driver.is_broken;
  driver.is_committing = false;
  return PostgresCaught(call);
}

void PostgresConnection::Begin() {
  std::string sql = "BEGIN";
  if (call_time_ < timeout_) {
    sql += "; SET LOCAL statement_timeout = " + std::to_string(StatementTime(call_time_).count());
  }
  driver_->is_open_transaction = true;  // before: the second statement may fail
  driver_->work->exec(sql);
}

void PostgresConnection::Commit() {
  // Crash here: the server rolls back when it notices that the connection is gone, and the log
  // brings the batch again. From the sending of COMMIT to its answer either may be true.
  driver_->is_committing = true;
  driver_->work->exec("COMMIT");
  driver_->is_committing = false;
  driver_->is_open_transaction = false;
}

void PostgresConnection::Rollback() {
  driver_->work->exec("ROLLBACK");
  driver_->is_open_transaction = false;
}

PostgresRows PostgresConnection::Query(const std::string& sql,
                                       const std::vector<std::string>& texts) {
  return PostgresRows(
      driver_->work->exec_params(sql, pqxx::prepare::make_dynamic_params(texts)));
}

const std::string& PostgresConnection::Prepared(const std::string& sql) {
  const auto [entry, is_new] = driver_->prepared.try_emplace(sql);
  if (is_new) {
    entry->second = "taskwal_" + std::to_string(driver_->prepared.size());
    driver_->connection.prepare(entry->second, sql);
  }
  return entry->second;
}

PostgresRows PostgresConnection::QueryPrepared(const std::string& sql,
                                               const std::vector<std::string>& texts) {
  return PostgresRows(driver_->work->exec_prepared(Prepared(sql),
                                                   pqxx::prepare::make_dynamic_params(texts)));
}

std::uint64_t PostgresConnection::Execute(const std::string& sql, const PostgresParams& params) {
  std::vector<pqxx::binarystring> values;
  values.reserve(params.values().size());
  for (const std::string& value : params.values()) values.emplace_back(value);
  return driver_->work
      ->exec_prepared(Prepared(sql), pqxx::prepare::make_dynamic_params(values))
      .affected_rows();
}

void PostgresConnection::Script(std::string_view sql) { driver_->work->exec(std::string(sql)); }

pqxx::transaction_base& PostgresConnection::work() { return *driver_->work; }

}  // namespace taskwal::storage

// One connection to PostgreSQL: opening, transactions, and the deadline of every call. One thread
// at a time. It never reconnects by itself: a session whose connection is lost answers kUnavailable
// from then on, and whoever owns it opens another and looks at the watermarks first.
//
// Work is done inside Run(), which turns every exception into a Status, rolls back what was left
// open and has the socket shut down when the call's time has passed.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "storage/connection_calls.h"
#include "storage/postgres/postgres_params.h"
#include "storage/postgres/postgres_rows.h"
#include "storage/postgres/postgres_target.h"
#include "taskwal/status.h"

namespace pqxx {
class transaction_base;
}

namespace taskwal::storage {

// A statement's, where a call may take so long: it is the server that is to say what took too long,
// and the connection can be used again.
std::chrono::milliseconds StatementTime(std::chrono::milliseconds call_time);

class PostgresConnection : public ConnectionCalls<PostgresConnection> {
 public:
  // kUnavailable for whatever went wrong.
  // Making it ready is to be done by `opens_until`, or within the time of one call.
  static Result<std::unique_ptr<PostgresConnection>> Open(
      const PostgresTarget& target, Monotonic opens_until = Monotonic::max());
  ~PostgresConnection();
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  // The caller is done with making it ready: until here all calls share one time limit.
  void EndOpening() { opens_until_ = Monotonic::max(); }

  // --- inside Run; all of these throw
  void Begin();
  void Commit();  // durable on return
  void Rollback();
  PostgresRows Query(const std::string& sql, const std::vector<std::string>& texts = {});
  // Kept prepared, as are those of Execute: for statements whose text never changes.
  PostgresRows QueryPrepared(const std::string& sql, const std::vector<std::string>& texts);
  // Returns the number of rows changed.
  std::uint64_t Execute(const std::string& sql, const PostgresParams& params);
  // Several statements without parameters.
  void Script(std::string_view sql);
  // For what the above cannot say (COPY).
  pqxx::transaction_base& work();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }
  // Whether that is what became of the last call. See Session::HasGivenWay.
  [[nodiscard]] bool has_given_way() const { return has_given_way_; }

 private:
  friend class ConnectionCalls<PostgresConnection>;
  struct Driver;

  PostgresConnection(const PostgresTarget& target, Monotonic opens_until);

  Status StartCall(std::string_view what, std::chrono::milliseconds time);
  void LimitStatements(std::chrono::milliseconds call_time) { call_time_ = call_time; }
  // In a catch block: whether the server has undone it all, and would take it again.
  bool MayRepeat();
  void EndCall();
  Status Caught(std::string_view what);
  // Its name; prepared where it was not yet.
  const std::string& Prepared(const std::string& sql);

  const std::string name_;
  const std::chrono::milliseconds timeout_;
  std::chrono::milliseconds call_time_;  // of the call under way
  Monotonic opens_until_;
  bool has_given_way_ = false;
  std::unique_ptr<Driver> driver_;
};

}  // namespace taskwal::storage

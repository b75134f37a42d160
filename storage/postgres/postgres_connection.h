// One connection to PostgreSQL: opening, transactions, and the deadline of every call. One thread
// at a time. It never reconnects by itself: a session whose connection is lost answers kUnavailable
// from then on, and whoever owns it opens another and looks at the watermarks first.
//
// Work is done inside Run(), which turns every exception into a Status, rolls back what was left
// open and has the socket shut down when the call's time has passed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage/postgres/postgres_params.h"
#include "storage/postgres/postgres_rows.h"
#include "storage/postgres/postgres_target.h"
#include "taskwal/status.h"

namespace pqxx {
class transaction_base;
}

namespace taskwal::storage {

class PostgresConnection {
 public:
  // kUnavailable for whatever went wrong.
  static Result<std::unique_ptr<PostgresConnection>> Open(const PostgresTarget& target);
  ~PostgresConnection();
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  // `body` returns Status or Result<T>.
  template <typename Body>
  auto Run(std::string_view what, Body body) -> decltype(body()) {
    Status ready = StartCall(what);
    if (!ready.ok()) return ready;
    try {
      auto result = body();
      EndCall();
      return result;
    } catch (...) {
      Status caught = Caught(what);
      EndCall();
      return caught;
    }
  }

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

 private:
  struct Driver;

  explicit PostgresConnection(const PostgresTarget& target);
  Status StartCall(std::string_view what);
  void EndCall();
  Status Caught(std::string_view what);
  // Its name; prepared where it was not yet.
  const std::string& Prepared(const std::string& sql);

  const std::string name_;
  const std::chrono::milliseconds timeout_;
  std::unique_ptr<Driver> driver_;
};

}  // namespace taskwal::storage

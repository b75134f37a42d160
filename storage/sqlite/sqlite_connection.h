// One connection to a database file: opening, transactions, the deadline of every call, and the
// notice that the file was deleted or replaced underneath. One thread at a time.
//
// Work is done inside Run(), which turns every exception into a Status, rolls back what was left
// open and ends all cached statements, so that no read transaction outlives its call.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "storage/sqlite/sqlite_row_table.h"
#include "storage/sqlite/sqlite_statement.h"
#include "taskwal/status.h"

namespace taskwal::storage {

class SqliteConnection {
 public:
  // `name` is for messages. `create` makes the file, but no directory. kNotFound: not there and not
  // to be made; kUnavailable: anything else, the message naming the directory that is missing.
  static Result<std::unique_ptr<SqliteConnection>> Open(const std::string& path,
                                                        const std::string& name,
                                                        std::chrono::milliseconds timeout,
                                                        bool create);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  // `body` returns Status or Result<T>. kUnavailable at once when the file is no longer the one
  // opened.
  template <typename Body>
  auto Run(std::string_view what, Body body) -> decltype(body()) {
    return RunWithin(timeout_, what, body);
  }
  // Within less than the time of every call.
  template <typename Body>
  auto RunWithin(std::chrono::milliseconds time, std::string_view what, Body body)
      -> decltype(body()) {
    Status ready = StartCall(what, time);
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

  // --- inside Run; these throw but for what they return
  void Begin();     // BEGIN IMMEDIATE: the write lock is ours from here
  Status Commit();  // durable on return; kUnavailable (rolled back) when the file has gone
  void Rollback();
  void Execute(std::string_view script);
  bool HasTable(const std::string& table);
  // `rows` outlive the connection.
  void AddTable(const std::string& name, const SqliteRowSource& rows);
  SqliteStatement Prepare(const std::string& sql);
  // Kept prepared: for statements whose text never changes.
  SqliteStatement& Cached(std::string_view sql);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::chrono::milliseconds timeout() const { return timeout_; }

 private:
  explicit SqliteConnection(std::string name, std::chrono::milliseconds timeout);

  Status StartCall(std::string_view what, std::chrono::milliseconds time);
  void EndCall();
  Status Caught(std::string_view what);
  void MakeRoom();
  [[nodiscard]] bool HasMoved() const;
  [[nodiscard]] bool InTransaction() const;
  void Configure(bool create);
  void EnterWriteAheadMode();
  // Called by SQLite while it waits for a lock, and while a statement runs.
  static int OnBusy(void* self, int count);
  static int OnProgress(void* self);

  const std::string name_;
  const std::chrono::milliseconds timeout_;
  Monotonic deadline_{};
  Monotonic busy_until_{};
  bool broken_ = false;  // a rollback failed: nothing is known of the transaction any more
  bool is_full_ = false;  // the call that ends found no room
  std::unique_ptr<SQLite::Database> db_;
  std::map<std::string, SqliteStatement, std::less<>> cache_;
};

}  // namespace taskwal::storage

#include "storage/sqlite/sqlite_connection.h"

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Database.h>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "base/file_system.h"
#include "storage/sqlite/sqlite_errors.h"

namespace taskwal::storage {
namespace {

constexpr int kProgressSteps = 5000;      // virtual machine steps between two looks at the clock
constexpr std::chrono::milliseconds kBusyWaitMax{10};
// Somebody else's lock is waited for by trying again, with backoff: so that neither opening nor the
// end of a drain is held up by it.
constexpr std::chrono::milliseconds kBusyMax{1000};

// Why SQLite could not open the file, as far as can be told.
Status CannotOpen(const std::string& path, const std::string& name, bool create, Status failure) {
  FileSystem& fs = FileSystem::Real();
  const std::string directory = std::filesystem::path(path).parent_path().string();
  if (!fs.Stat(directory).ok()) {
    const std::string text = name + ": there is no directory " + directory + ": make it";
    return create ? Status::Unavailable(text) : Status::NotFound(text);
  }
  if (std::error_code ignored; !std::filesystem::is_directory(directory, ignored)) {
    return Status::Unavailable(name + ": " + directory + " is no directory: name another");
  }
  const auto file = fs.Stat(path);
  if (!create && !file.ok() && file.status().code() == StatusCode::kNotFound) {
    return Status::NotFound(name + ": there is no such database: `taskwal schema migrate` makes "
                                   "it");
  }
  if (fs.List(path).ok()) return Status::Unavailable(name + ": this is a directory: name a file");
  return failure;
}

}  // namespace

SqliteConnection::SqliteConnection(std::string name, std::chrono::milliseconds timeout)
    : name_(std::move(name)), timeout_(timeout) {}

SqliteConnection::~SqliteConnection() {
  cache_.clear();  // a connection closes only when its statements have ended
}

Result<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path,
                                                                 const std::string& name,
                                                                 std::chrono::milliseconds timeout,
                                                                 bool create) {
  std::unique_ptr<SqliteConnection> connection(new SqliteConnection(name, timeout));
  connection->deadline_ = Clock::Real().Now() + timeout;
  connection->busy_until_ = Clock::Real().Now() + std::min(timeout, kBusyMax);
  try {
    const int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    connection->db_ = std::make_unique<SQLite::Database>(path, flags);
    connection->Configure(create);
    return connection;
  } catch (...) {
    Status failure = SqliteCaught(name, "open");
    if (connection->db_ == nullptr) return CannotOpen(path, name, create, std::move(failure));
    return failure;
  }
}

void SqliteConnection::Configure(bool create) {
  sqlite3* db = db_->getHandle();
  if (create && sqlite3_db_readonly(db, "main") == 1) {
    throw std::runtime_error("the file is not writable");
  }
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_handler(db, &SqliteConnection::OnBusy, this);
  sqlite3_progress_handler(db, kProgressSteps, &SqliteConnection::OnProgress, this);
  // synchronous: a commit must be on disk before the log may forget what it covers.
  // wal_autocheckpoint, in pages: rarer, a page that several batches wrote is copied once.
  db_->exec("PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF; "
            "PRAGMA cache_size = -8000; PRAGMA wal_autocheckpoint = 4000");
  if (create) EnterWriteAheadMode();
}

// SQLite does not wait for the lock that changing the mode of a new file takes.
void SqliteConnection::EnterWriteAheadMode() {
  while (true) {
    try {
      const std::string mode = db_->execAndGet("PRAGMA journal_mode = WAL").getString();
      if (mode == "wal") return;
      throw std::runtime_error("write-ahead mode cannot be used here (journal mode is " + mode +
                               ")");
    } catch (const SQLite::Exception& e) {
      if (e.getErrorCode() != SQLITE_BUSY || OnBusy(this, 0) == 0) throw;
    }
  }
}

int SqliteConnection::OnBusy(void* self, int count) {
  const auto* connection = static_cast<const SqliteConnection*>(self);
  const auto left = connection->busy_until_ - Clock::Real().Now();
  if (left <= std::chrono::nanoseconds(0)) return 0;
  const auto wait =
      std::min<std::chrono::nanoseconds>(kBusyWaitMax, std::chrono::milliseconds(1 + count));
  Clock::Real().SleepFor(std::min<std::chrono::nanoseconds>(wait, left));
  return 1;
}

int SqliteConnection::OnProgress(void* self) {
  return Clock::Real().Now() >= static_cast<const SqliteConnection*>(self)->deadline_ ? 1 : 0;
}

Status SqliteConnection::StartCall(std::string_view what, std::chrono::milliseconds time) {
  deadline_ = Clock::Real().Now() + time;
  busy_until_ = Clock::Real().Now() + std::min(time, kBusyMax);
  if (!broken_ && !HasMoved()) return Status::Ok();
  const std::string_view why = broken_ ? "the connection is unusable after a failed rollback"
                                       : "the file was deleted or replaced";
  return SqliteFailure(name_, what, SQLITE_READONLY_DBMOVED, why);
}

void SqliteConnection::EndCall() {
  for (auto& [sql, statement] : cache_) statement.Reset();
  if (InTransaction()) {
    // Past the deadline a rollback must not be interrupted too.
    deadline_ = Clock::Real().Now() + timeout_;
    broken_ = db_->tryExec("ROLLBACK") != SQLITE_OK && InTransaction();
  }
  if (std::exchange(is_full_, false)) MakeRoom();
}

// On a full disk SQLite's own log of what was committed is the room that is left: it is copied by a
// commit only, and none succeeds any more.
void SqliteConnection::MakeRoom() {
  deadline_ = Clock::Real().Now() + timeout_;
  sqlite3_wal_checkpoint_v2(db_->getHandle(), "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
}

Status SqliteConnection::Caught(std::string_view what) {
  is_full_ = (sqlite3_errcode(db_->getHandle()) & 0xff) == SQLITE_FULL;
  return SqliteCaught(name_, what);
}

bool SqliteConnection::HasMoved() const {
  int moved = 0;
  sqlite3_file_control(db_->getHandle(), "main", SQLITE_FCNTL_HAS_MOVED, &moved);
  return moved != 0;
}

bool SqliteConnection::InTransaction() const {
  return sqlite3_get_autocommit(db_->getHandle()) == 0;
}

void SqliteConnection::Begin() { Cached("BEGIN IMMEDIATE").Start().Run(); }

Status SqliteConnection::Commit() {
  // A commit into a file that nobody will find again would be a lost one.
  if (HasMoved()) {
    return SqliteFailure(name_, "commit", SQLITE_READONLY_DBMOVED,
                         "the file was deleted or replaced");
  }
  // Crash here: SQLite rolls back at the next open, and the log brings the batch again. Crash after
  // it: rows and watermark are both there.
  Cached("COMMIT").Start().Run();
  return Status::Ok();
}

void SqliteConnection::Rollback() { Cached("ROLLBACK").Start().Run(); }

void SqliteConnection::Execute(std::string_view script) { db_->exec(std::string(script)); }

bool SqliteConnection::HasTable(const std::string& table) { return db_->tableExists(table); }

void SqliteConnection::AddTable(const std::string& name, const SqliteRowSource& rows) {
  AddRowTable(db_->getHandle(), name, rows);
}

SqliteStatement SqliteConnection::Prepare(const std::string& sql) {
  return SqliteStatement(*db_, sql);
}

SqliteStatement& SqliteConnection::Cached(std::string_view sql) {
  const auto found = cache_.find(sql);
  if (found != cache_.end()) return found->second;
  const std::string text(sql);
  return cache_.try_emplace(text, *db_, text).first->second;
}

}  // namespace taskwal::storage

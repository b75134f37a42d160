#include "storage/sqlite/sqlite_backend.h"

#include <filesystem>
#include <utility>

#include "base/status_macros.h"
#include "storage/sqlite/sqlite_connection.h"
#include "storage/sqlite/sqlite_schema.h"
#include "storage/sqlite/sqlite_session.h"

namespace taskwal::storage {
namespace {

std::string Absolute(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

}  // namespace

SqliteBackend::SqliteBackend(std::string name, const std::string& path,
                             const BackendOptions& options)
    : name_(std::move(name)), path_(Absolute(path)), options_(options) {}

Result<std::unique_ptr<Session>> SqliteBackend::Connect() {
  const Uuid known = this->db_id();
  const bool may_make = options_.create && known.IsZero();
  auto opened = SqliteConnection::Open(path_, name_, options_.timeout, may_make);
  if (opened.status().code() == StatusCode::kNotFound) TASKWAL_TRY(CheckMet(name_, known, {}));
  TASKWAL_ASSIGN(auto connection, std::move(opened));
  TASKWAL_ASSIGN(const Migrations migrations, MigrationsOf("sqlite"));
  TASKWAL_ASSIGN(const Uuid db_id, PrepareSqliteSchema(*connection, migrations, options_.create,
                                                      known));
  {
    MutexLock lock(mutex_);
    db_id_ = db_id;
  }
  return SqliteSession::Make(std::move(connection), db_id);
}

Uuid SqliteBackend::db_id() const {
  MutexLock lock(mutex_);
  return db_id_;
}

}  // namespace taskwal::storage

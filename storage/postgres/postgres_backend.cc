#include "storage/postgres/postgres_backend.h"

#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "storage/postgres/postgres_connection.h"
#include "storage/postgres/postgres_schema.h"
#include "storage/postgres/postgres_session.h"

namespace taskwal::storage {
namespace {

// Nothing that goes wrong here has to do with a row.
Status Retryable(const Status& status) {
  const bool is_final =
      status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound;
  return is_final ? status : Status::Unavailable(status.message());
}

}  // namespace

PostgresBackend::PostgresBackend(PostgresTarget target, bool create, BulkPath path,
                                 NameLookup::Lookup lookup)
    : target_(std::move(target)), create_(create), names_(std::move(lookup)) {
  features_.has_copy = path == BulkPath::kAutomatic;
}

Result<std::unique_ptr<Session>> PostgresBackend::Connect() {
  const Monotonic until = Clock::Real().Now() + target_.timeout;
  TASKWAL_TRY(names_.Await(target_.name, target_.hosts, until, target_.timeout));
  TASKWAL_ASSIGN(auto connection, PostgresConnection::Open(target_, until));
  const auto hazards = PreparePostgresSession(*connection, target_.timeout, &features_);
  if (!hazards.ok()) return Retryable(hazards.status());
  TASKWAL_ASSIGN(const Migrations migrations, MigrationsOf("postgres"));
  const auto db_id = PreparePostgresSchema(*connection, migrations, create_, this->db_id(),
                                           features_);
  if (!db_id.ok()) return Retryable(db_id.status());
  connection->EndOpening();
  if (create_) Warn(*hazards);  // who only reads commits nothing
  {
    MutexLock lock(mutex_);
    db_id_ = *db_id;
  }
  return std::unique_ptr<Session>(
      std::make_unique<PostgresSession>(std::move(connection), features_, *db_id));
}

void PostgresBackend::Warn(const std::string& hazards) {
  {
    MutexLock lock(mutex_);
    if (hazards.empty() || std::exchange(has_warned_, true)) return;
  }
  Logger().warn("database event=server_not_durable db={} settings=\"{}\" reason=\"a power loss can "
                "take what this server has committed; taskwal sets only synchronous_commit=on for "
                "its own sessions\"",
                target_.name, hazards);
}

Uuid PostgresBackend::db_id() const {
  MutexLock lock(mutex_);
  return db_id_;
}

}  // namespace taskwal::storage

#include "storage/mysql/mysql_backend.h"

#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "storage/mysql/mysql_connection.h"
#include "storage/mysql/mysql_schema.h"
#include "storage/mysql/mysql_session.h"

namespace taskwal::storage {
namespace {

// What a server may be set to that gives up commits at power loss. Not every engine has each.
struct DurabilitySetting {
  const char* question;  // answers 1 where commits may be lost
  const char* setting;
};
constexpr DurabilitySetting kDurabilitySettings[] = {
    {"SELECT @@innodb_flush_log_at_trx_commit <> 1", "innodb_flush_log_at_trx_commit is not 1"},
    {"SELECT @@innodb_doublewrite IN ('0', 'OFF')", "innodb_doublewrite is off"},
    {"SELECT @@log_bin AND @@sync_binlog <> 1", "log_bin is on and sync_binlog is not 1"},
};

bool Answers(MysqlConnection& connection, const char* question) {
  try {
    MysqlResult answer = connection.Query(question);
    return answer.Step() && answer.OptionalText() == "1";
  } catch (const MysqlError& e) {
    if (IsLostConnection(e.number())) throw;
    return false;
  }
}

}  // namespace

MysqlBackend::MysqlBackend(std::string name, MysqlTarget target, const BackendOptions& options,
                           BulkPath path, NameLookup::Lookup lookup)
    : name_(std::move(name)),
      target_(std::move(target)),
      options_(options),
      path_(path),
      hosts_(HostsOf(target_)),
      names_(std::move(lookup)) {}

Result<std::unique_ptr<Session>> MysqlBackend::Connect() {
  const Monotonic until = Clock::Real().Now() + options_.timeout;
  TASKWAL_TRY(names_.Await(name_, hosts_, until, options_.timeout));
  auto opened = MysqlConnection::Open(target_, name_, options_.timeout, until);
  if (!opened.ok()) {
    // Whoever made the tables' database by hand may do so again while we try.
    const bool is_awaited = options_.create && opened.status().code() == StatusCode::kNotFound;
    return is_awaited ? Status::Unavailable(opened.status().message()) : opened.status();
  }
  std::unique_ptr<MysqlConnection> connection = std::move(opened).value();
  if (path_ == BulkPath::kMultiRow) connection->ForgoCapabilities();
  TASKWAL_ASSIGN(const Migrations migrations, MigrationsOf("mysql"));
  TASKWAL_ASSIGN(const Uuid db_id, PrepareMysqlSchema(*connection, migrations, options_.create,
                                                     this->db_id()));
  {
    MutexLock lock(mutex_);
    db_id_ = db_id;
  }
  if (options_.create) WarnOfLostCommits(*connection);  // who only reads commits nothing
  connection->EndOpening();
  return std::unique_ptr<Session>(std::make_unique<MysqlSession>(std::move(connection), db_id));
}

void MysqlBackend::WarnOfLostCommits(MysqlConnection& connection) {
  const Status asked = connection.Run("ask for settings", [&]() -> Status {
    for (const auto& [question, setting] : kDurabilitySettings) {
      if (!Answers(connection, question)) continue;
      {
        MutexLock lock(mutex_);
        if (!warned_.insert(setting).second) continue;
      }
      Logger().warn("database event=server_not_durable db={} settings=\"{}\" reason=\"a power loss "
                    "can take what this server has committed\"", name_, setting);
    }
    return Status::Ok();
  });
  IgnoreStatus(asked, "a lost connection shows at the session's first call");
}

Uuid MysqlBackend::db_id() const {
  MutexLock lock(mutex_);
  return db_id_;
}

}  // namespace taskwal::storage

// A database of each kind whose tables somebody changes under a running process.
#pragma once

#include <SQLiteCpp/Database.h>

#include <string>

#include "tests/fault/database_faults.h"
#include "tests/support/mariadb_server.h"
#include "tests/support/postgres_server.h"

namespace taskwal {

enum class Kind : std::uint8_t { kPostgres, kMariadb, kSqlite };

class ChangedDatabase : public DatabaseFaults {
 protected:
  void OpenAndMeet(Kind kind) { OpenAndMeet(kind, FaultOptions()); }
  void OpenAndMeet(Kind kind, Options options) {
    kind_ = kind;
    dsn_ = "sqlite://" + dir_.File("app.db");
    if (kind == Kind::kPostgres) {
      database_ = PostgresServer::Shared().NewDatabase();
      dsn_ = PostgresServer::Shared().Dsn(database_);
    } else if (kind == Kind::kMariadb) {
      database_ = MariadbServer::Shared().NewDatabase();
      dsn_ = MariadbServer::Shared().Dsn(database_);
    }
    Open(dsn_, std::move(options));
    Write(10);
    Flush();
  }

  // Looks at the database soon again where nothing is to be flushed.
  Options Watchful() {
    Options options = FaultOptions();
    options.health_check_interval = Milliseconds(50);
    return options;
  }
  [[nodiscard]] const std::string& dsn() const { return dsn_; }
  [[nodiscard]] const std::string& database() const { return database_; }
  void OpenAgain(Options options) { Open(dsn_, std::move(options)); }

  // Statements, each ending with ";\n". SQLite does them all at once.
  void Sql(const std::string& script) {
    if (kind_ == Kind::kSqlite) {
      SQLite::Database database(dir_.File("app.db"), SQLite::OPEN_READWRITE, 10000);
      database.exec("BEGIN IMMEDIATE;\n" + script + "COMMIT;");
      return;
    }
    std::size_t at = 0;
    for (std::size_t end = 0; (end = script.find(";\n", at)) != std::string::npos; at = end + 2) {
      const std::string statement = script.substr(at, end - at);
      if (kind_ == Kind::kPostgres) {
        PostgresServer::Shared().Query(statement, database_);
      } else {
        MariadbServer::Shared().Query(statement, database_);
      }
    }
  }

  bool WaitForAlarm(const std::string& part) {
    return WaitUntilAlarm([&](const std::string& alarm) {
      return alarm.find(part) != std::string::npos;
    });
  }
  bool WaitForNoAlarm() {
    return WaitUntilAlarm([](const std::string& alarm) { return alarm.empty(); });
  }

 private:
  template <typename Condition>
  bool WaitUntilAlarm(Condition is_so) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!is_so(storage_->GetStats().alarm)) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(Milliseconds(5));
    }
    return true;
  }

  Kind kind_ = Kind::kPostgres;
  std::string database_;
  std::string dsn_;
};

struct Change {
  const char* name;
  Kind kind;
  const char* breaks;
  const char* mends;
  const char* code;   // of the first refusal
  const char* alarm = "";
};

}  // namespace taskwal

#include "storage/postgres/postgres_server.h"

#include <map>

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;

// reset_val: what holds for sessions that set nothing themselves.
constexpr const char* kAboutServer =
    "SELECT version(), coalesce((SELECT string_agg(name || '=' || reset_val, ', ' ORDER BY name) "
    "FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') "
    "AND reset_val = 'off'), '')";

std::string Milliseconds(milliseconds time) { return std::to_string(time.count()); }

std::map<std::string, std::string> SettingsFor(milliseconds timeout) {
  return {
      {"timezone", "UTC"},
      {"datestyle", "ISO"},
      // A commit is not one before it is on disk.
      {"synchronous_commit", "on"},
      // Before the watchdog's time, so that it is the server that says what took so long.
      {"statement_timeout", Milliseconds(timeout * 9 / 10)},
      {"lock_timeout", Milliseconds(timeout / 2)},
      // What a connection that was cut left open is ended by the server, and its locks with it.
      {"idle_in_transaction_session_timeout", Milliseconds(timeout)},
      {"client_connection_check_interval", "5000"},
      {"tcp_keepalives_idle", "30"},
      {"tcp_keepalives_interval", "10"},
      {"tcp_keepalives_count", "3"},
      // Compiling a statement takes longer than any of ours.
      {"jit", "off"},
  };
}

// One statement sets whatever of these this server knows and lets anybody set.
std::string SetAll(const std::map<std::string, std::string>& settings) {
  std::string values;
  for (const auto& [name, value] : settings) {
    if (!values.empty()) values += ", ";
    values += "('" + name + "', '" + value + "')";
  }
  // remote_apply promises more than "on".
  return "SELECT count(set_config(s.name, CASE s.setting WHEN 'remote_apply' THEN s.setting ELSE "
         "v.value END, false)) FROM (VALUES " + values + ") AS v (name, value) "
         "JOIN pg_settings s ON lower(s.name) = v.name WHERE s.context = 'user'";
}

}  // namespace

Result<std::string> PreparePostgresSession(PostgresConnection& connection, milliseconds timeout,
                                           PostgresFeatures* features) {
  return connection.Run("set up the session", [&]() -> Result<std::string> {
    PostgresRows about = connection.Query(kAboutServer);
    about.Step();
    if (about.Text().find("CockroachDB") != std::string::npos) {
      features->has_copy = false;  // a COPY among other statements cannot be relied on there
      features->has_collations = false;
    }
    std::string hazards = about.Text();
    connection.Script(SetAll(SettingsFor(timeout)));
    return hazards;
  });
}

}  // namespace taskwal::storage

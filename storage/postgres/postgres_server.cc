#include "storage/postgres/postgres_server.h"

#include <map>
#include <pqxx/except>

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
      {"lock_timeout", Milliseconds(timeout / 2)},
      // What a connection that was cut left open is ended by the server, and its locks with it.
      {"idle_in_transaction_session_timeout", Milliseconds(timeout)},
      // One that rests is wanted again.
      {"idle_session_timeout", "0"},
      // What compare-and-set and the guards of rows are made for: more costs conflicts. A migration
      // that waits for its lock has to see what came meanwhile.
      {"default_transaction_isolation", "read committed"},
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

void Probe(PostgresConnection& connection, const std::string& version,
           PostgresFeatures* features) {
  if (version.find("CockroachDB") != std::string::npos) {
    features->has_copy = false;  // a COPY among other statements cannot be relied on there
    features->has_collations = false;
    features->has_key_catalog = false;  // keys of parts of arrays are not in its dialect
  }
  try {
    connection.Query("SELECT pg_try_advisory_xact_lock_shared(0)");
  } catch (const pqxx::feature_not_supported&) {
    features->has_advisory_locks = false;
  } catch (const pqxx::undefined_function&) {
    features->has_advisory_locks = false;
  }
  features->is_probed = true;
}

}  // namespace

Result<std::string> PreparePostgresSession(PostgresConnection& connection, milliseconds timeout,
                                           PostgresFeatures* features) {
  return connection.RunRepeatedly("set up the session", [&]() -> Result<std::string> {
    // A role's may be too short for what asks about the server.
    connection.Script("SET statement_timeout = " + Milliseconds(StatementTime(timeout)));
    PostgresRows about = connection.Query(kAboutServer);
    about.Step();
    const std::string version = about.Text();
    std::string hazards = about.Text();
    connection.Script(SetAll(SettingsFor(timeout)));
    if (!features->is_probed) Probe(connection, version, features);
    return hazards;
  });
}

}  // namespace taskwal::storage

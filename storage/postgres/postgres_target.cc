#include "storage/postgres/postgres_target.h"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>

#include "storage/dsn.h"

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// What libpq and the server can count in milliseconds.
constexpr milliseconds kTimeoutMax{std::numeric_limits<std::int32_t>::max()};
constexpr seconds kConnectTimeoutMin{2};
constexpr seconds kConnectTimeoutMax{10};  // where the URI asks for none

using Settings = std::map<std::string, std::string>;

// libpq takes a password's unescaped '@' or '/' for the end of it, and what follows for a host, a
// port or a database: its complaint would quote that.
bool HoldsPartOfAPassword(const Settings& settings, const std::string& uri) {
  const auto of = [&settings](const char* key) {
    const auto found = settings.find(key);
    return found == settings.end() ? std::string() : found->second;
  };
  // A host may begin with an '@' (a socket in the abstract namespace): one that is encoded, or in a
  // parameter, is meant.
  const std::string_view plain = std::string_view(uri).substr(0, uri.find('?'));
  const auto ats = std::count(plain.begin(), plain.end(), '@');
  const bool has_bad_host = of("host").find('@') != std::string::npos && ats > 1;
  const bool has_bad_port = of("port").find_first_not_of("0123456789,") != std::string::npos;
  const bool has_bad_database =
      of("user").empty() && of("dbname").find('@') != std::string::npos && ats > 0;
  return has_bad_host || has_bad_port || has_bad_database;
}

Result<Settings> ParseUri(const std::string& uri, const std::string& name) {
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(uri.c_str(), &error), &PQconninfoFree);
  // It may quote the part that it cannot read, and that may be the password; so may the query be
  // where a parameter's name is mistyped.
  if (error != nullptr) PQfreemem(error);
  Settings settings;
  for (const PQconninfoOption* option = options.get();
       option != nullptr && option->keyword != nullptr; ++option) {
    if (option->val != nullptr) settings[option->keyword] = option->val;
  }
  if (options == nullptr || HoldsPartOfAPassword(settings, uri)) {
    return Status::InvalidArgument(
        name.substr(0, name.find('?')) +
        " is no connection URI of PostgreSQL: an unknown parameter, a password without \"@host\" "
        "behind it, or a character that must be percent-encoded (in a password '@' is %40, '/' "
        "%2F, ':' %3A, '?' %3F)?");
  }
  return settings;
}

// libpq takes the time per host and knows whole seconds only, at least two of them. Zero and less
// are no limit to it; nor may more than our own time be asked for, as nothing else ends the wait.
std::string ConnectTimeout(const Settings& settings, milliseconds timeout) {
  std::ptrdiff_t hosts = 1;
  for (const char* key : {"host", "hostaddr"}) {
    const auto found = settings.find(key);
    if (found == settings.end()) continue;
    hosts = std::max(hosts, std::count(found->second.begin(), found->second.end(), ',') + 1);
  }
  const auto whole =
      std::max(std::chrono::duration_cast<seconds>(timeout / hosts), kConnectTimeoutMin);
  const auto given = settings.find("connect_timeout");
  if (given != settings.end()) {
    char* end = nullptr;
    const long long wanted = std::strtoll(given->second.c_str(), &end, 10);
    // What is no number is for libpq to refuse.
    const bool is_number = end != given->second.c_str();
    if (!is_number || (wanted > 0 && wanted <= whole.count())) return given->second;
  }
  // One name may have several addresses, too, of which the first may be dead.
  const auto own = hosts == 1 ? std::max(whole / 2, kConnectTimeoutMin) : whole;
  return std::to_string(std::min(own, kConnectTimeoutMax).count());
}

std::vector<std::string> ListOf(const Settings& settings, const char* key, const char* variable) {
  const auto found = settings.find(key);
  const char* const usual = std::getenv(variable);
  std::string_view list = usual == nullptr ? "" : usual;
  if (found != settings.end()) list = found->second;
  std::vector<std::string> parts;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    parts.emplace_back(list.substr(0, end));
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

// libpq goes to the address where one is given beside a name.
std::vector<std::string> HostsOf(const Settings& settings) {
  std::vector<std::string> hosts = ListOf(settings, "host", "PGHOST");
  const std::vector<std::string> addresses = ListOf(settings, "hostaddr", "PGHOSTADDR");
  hosts.resize(std::max(hosts.size(), addresses.size()));
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (!addresses[i].empty()) hosts[i] = addresses[i];
  }
  return hosts;
}

std::string Quoted(const std::string& value) {
  std::string text = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') text += '\\';
    text += c;
  }
  return text + "'";
}

}  // namespace

Result<PostgresTarget> ParsePostgresTarget(const std::string& uri, milliseconds timeout) {
  PostgresTarget target;
  target.name = MaskDsn(uri);
  target.timeout = std::min(timeout, kTimeoutMax);
  auto parsed = ParseUri(uri, target.name);
  if (!parsed.ok()) return parsed.status();
  Settings settings = std::move(parsed).value();
  target.hosts = HostsOf(settings);
  settings["client_encoding"] = "UTF8";
  settings.try_emplace("fallback_application_name", "taskwal");
  settings["connect_timeout"] = ConnectTimeout(settings, target.timeout);
  settings.try_emplace("tcp_user_timeout", std::to_string(target.timeout.count()));
  for (const auto& [key, value] : settings) target.conninfo += key + "=" + Quoted(value) + " ";
  return target;
}

}  // namespace taskwal::storage

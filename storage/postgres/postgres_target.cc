#include "storage/postgres/postgres_target.h"

#include <libpq-fe.h>

#include <algorithm>
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

using Settings = std::map<std::string, std::string>;

Result<Settings> ParseUri(const std::string& uri, const std::string& name) {
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(uri.c_str(), &error), &PQconninfoFree);
  // It may quote the part that it cannot read, and that may be the password.
  if (error != nullptr) PQfreemem(error);
  if (options == nullptr) {
    return Status::InvalidArgument(
        name + " is no connection URI of PostgreSQL: an unknown parameter, or a character that "
               "must be percent-encoded?");
  }
  Settings settings;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) settings[option->keyword] = option->val;
  }
  return settings;
}

// libpq takes the time per host and knows whole seconds only, at least two of them.
std::string ConnectTimeout(const Settings& settings, milliseconds timeout) {
  std::ptrdiff_t hosts = 1;
  for (const char* key : {"host", "hostaddr"}) {
    const auto found = settings.find(key);
    if (found == settings.end()) continue;
    hosts = std::max(hosts, std::count(found->second.begin(), found->second.end(), ',') + 1);
  }
  const auto whole = std::chrono::duration_cast<seconds>(timeout / hosts);
  return std::to_string(std::clamp(whole, seconds(2), seconds(10)).count());
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
  settings["client_encoding"] = "UTF8";
  settings.try_emplace("fallback_application_name", "taskwal");
  settings.try_emplace("connect_timeout", ConnectTimeout(settings, timeout));
  settings.try_emplace("tcp_user_timeout", std::to_string(target.timeout.count()));
  for (const auto& [key, value] : settings) target.conninfo += key + "=" + Quoted(value) + " ";
  return target;
}

}  // namespace taskwal::storage

#include "storage/mysql/mysql_dsn.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace taskwal::storage {
namespace {

Status Wrong(std::string_view what) {
  return Status::InvalidArgument("mysql:// DSN: " + std::string(what));
}

std::optional<char> HexPair(std::string_view digits) {
  std::uint8_t value = 0;
  if (digits.size() != 2) return std::nullopt;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + 2, value, 16);
  if (error != std::errc() || end != digits.data() + 2) return std::nullopt;
  return static_cast<char>(value);
}

Result<std::string> Decode(std::string_view part, std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const auto byte = HexPair(text.substr(i + 1, 2));
      if (!byte) return Wrong("bad percent-encoding in the " + std::string(part));
      c = *byte;
      i += 2;
    }
    if (c == '\0') return Wrong("a NUL in the " + std::string(part));
    decoded += c;
  }
  return decoded;
}

Result<std::uint16_t> ParsePort(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) {
    return Wrong("the port is not a number from 1 to 65535");
  }
  return port;
}

// Where the '@' behind user and password is: the same as for MaskDsn, which hides what is before
// it. A password may hold an unescaped '/', '@' or '?'.
std::size_t UserEnd(std::string_view text) {
  const std::size_t at = text.substr(0, text.find('?')).rfind('@');
  if (at != std::string_view::npos) return at;
  const std::size_t first = text.find_first_of("@/");
  return first != std::string_view::npos && text[first] == '@' ? first : std::string_view::npos;
}

// user:password@
Status ParseUser(std::string_view text, MysqlTarget* target) {
  const std::size_t colon = text.find(':');
  TASKWAL_ASSIGN(target->user, Decode("user name", text.substr(0, colon)));
  if (colon == std::string_view::npos) return Status::Ok();
  TASKWAL_ASSIGN(target->password, Decode("password", text.substr(colon + 1)));
  return Status::Ok();
}

// host, host:port, [v6]:port, h1:p1,h2:p2
Status ParseHost(std::string_view text, MysqlTarget* target) {
  if (text.find(',') != std::string_view::npos) {
    TASKWAL_ASSIGN(target->host, Decode("host", text));
    return Status::Ok();
  }
  std::size_t colon = text.rfind(':');
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return Wrong("a '[' without ']' in the host");
    colon = bracket + 1 < text.size() && text[bracket + 1] == ':' ? bracket + 1
                                                                  : std::string_view::npos;
    target->host = std::string(text.substr(1, bracket - 1));
  } else {
    TASKWAL_ASSIGN(target->host, Decode("host", text.substr(0, colon)));
  }
  if (colon == std::string_view::npos) return Status::Ok();
  TASKWAL_ASSIGN(target->port, ParsePort(text.substr(colon + 1)));
  return Status::Ok();
}

class TlsOptions {
 public:
  // False where this is no TLS parameter.
  Result<bool> Take(const std::string& name, const std::string& value) {
    constexpr std::array<std::string_view, 8> kFiles = {
        "ssl_ca",  "ssl_capath",  "ssl_cert",   "ssl_key",
        "ssl_crl", "ssl_crlpath", "ssl_cipher", "tls_version"};
    if (std::find(kFiles.begin(), kFiles.end(), name) != kFiles.end()) {
      // The connector's own syntax has no way to write them.
      if (value.find_first_of("{}") != std::string::npos) return Wrong(name + " holds a brace");
      std::string option = name;
      std::replace(option.begin(), option.end(), '_', '-');
      text_ += option + "={" + value + "};";
      is_required_ = true;
      return true;
    }
    if (name == "ssl_verify_server_cert") {
      if (value != "0" && value != "1") return Wrong(name + " is 0 or 1");
      is_verified_ = value == "1";
      is_required_ = true;
      return true;
    }
    if (name == "ssl_mode") return TakeMode(value);
    return false;
  }

  // Certificate and name.
  [[nodiscard]] bool is_verified() const { return is_verified_; }
  [[nodiscard]] Result<std::string> Text() const {
    if (is_disabled_ && is_required_) return Wrong("ssl_mode=disabled beside TLS parameters");
    if (!is_required_) return text_;
    return text_ + "ssl-verify-server-cert=" + (is_verified_ ? "1" : "0") + ";ssl-enforce=1;";
  }

 private:
  Result<bool> TakeMode(std::string mode) {
    std::transform(mode.begin(), mode.end(), mode.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (mode == "disabled") {
      is_disabled_ = true;
    } else if (mode == "required") {
      is_required_ = true;
    } else if (mode == "verify_ca" || mode == "verify_identity") {
      is_required_ = is_verified_ = true;
    } else if (mode != "preferred") {
      return Wrong("ssl_mode is disabled, preferred, required, verify_ca or verify_identity");
    }
    return true;
  }

  std::string text_;
  bool is_disabled_ = false;
  bool is_required_ = false;
  bool is_verified_ = false;
};

// What does not look like a name may be the rest of a password.
std::string Shown(const std::string& name) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz_";
  return name.find_first_not_of(kLetters) == std::string::npos ? ": " + name : "";
}

Status ParseParameters(std::string_view text, MysqlTarget* target) {
  TlsOptions tls;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('&'), text.size());
    const std::string_view pair = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    TASKWAL_ASSIGN(std::string name, Decode("parameters", pair.substr(0, equals)));
    std::replace(name.begin(), name.end(), '-', '_');
    if (equals == std::string_view::npos) return Wrong("a parameter without value" + Shown(name));
    TASKWAL_ASSIGN(const std::string value, Decode("parameter " + name, pair.substr(equals + 1)));
    if (name == "unix_socket") {
      target->unix_socket = value;
      continue;
    }
    TASKWAL_ASSIGN(const bool is_tls, tls.Take(name, value));
    if (!is_tls) return Wrong("unknown parameter" + Shown(name));
  }
  TASKWAL_ASSIGN(target->tls, tls.Text());
  // A certificate is issued for the name; else the address spares looking for the right one.
  const bool is_by_tcp = target->host == "localhost" && target->port != 0;
  if (is_by_tcp && !tls.is_verified()) target->host = "127.0.0.1";
  return Status::Ok();
}

// With a port or in a list; alone it is the machine's own server behind its default socket.
bool MeansLocalhostByTcp(const MysqlTarget& target) {
  const std::vector<std::string> hosts = HostsOf(target);
  return (target.port != 0 || hosts.size() > 1) &&
         std::find(hosts.begin(), hosts.end(), "localhost") != hosts.end();
}

void AddQuoted(std::string* text, std::string_view name, std::string_view value) {
  *text += ' ';
  *text += name;
  *text += "='";
  for (const char c : value) {
    if (c == '\'' || c == '\\') *text += '\\';
    *text += c;
  }
  *text += '\'';
}

}  // namespace

Result<MysqlTarget> ParseMysqlDsn(std::string_view dsn) {
  const std::size_t scheme = dsn.find("://");
  if (scheme == std::string_view::npos) return Wrong("it does not begin with mysql://");
  std::string_view rest = dsn.substr(scheme + 3);
  MysqlTarget target;
  const std::size_t at = UserEnd(rest);
  if (at != std::string_view::npos) {
    TASKWAL_TRY(ParseUser(rest.substr(0, at), &target));
    rest.remove_prefix(at + 1);
  }
  const std::size_t question = std::min(rest.find('?'), rest.size());
  const std::string_view parameters = rest.substr(std::min(question + 1, rest.size()));
  rest = rest.substr(0, question);
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos || slash + 1 == rest.size()) {
    return Wrong("it names no database: mysql://user:password@host:port/database");
  }
  TASKWAL_TRY(ParseHost(rest.substr(0, slash), &target));
  TASKWAL_ASSIGN(target.database, Decode("database name", rest.substr(slash + 1)));
  TASKWAL_TRY(ParseParameters(parameters, &target));
  return target;
}

std::vector<std::string> HostsOf(const MysqlTarget& target) {
  std::vector<std::string> hosts;
  if (!target.unix_socket.empty()) return hosts;
  const bool is_list = target.host.find(',') != std::string::npos;
  std::string_view list = target.host;
  while (!list.empty()) {
    const std::size_t end = std::min(list.find(','), list.size());
    std::string_view host = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    if (host.starts_with('[')) {
      host = host.substr(1, std::min(host.find(']'), host.size()) - 1);
    } else if (is_list) {
      host = host.substr(0, host.find(':'));
    }
    hosts.emplace_back(host);
  }
  return hosts;
}

std::string SociConnectString(const MysqlTarget& target, std::chrono::milliseconds timeout) {
  const auto seconds = std::max<std::int64_t>(1, (timeout.count() + 999) / 1000);
  const bool is_local = !target.unix_socket.empty();
  // The hosts of a list are tried one after another, each for its share.
  const auto hosts = 1 + std::count(target.host.begin(), target.host.end(), ',');
  std::string text = "charset=utf8mb4 connect_timeout=" +
                     std::to_string(std::max<std::int64_t>(1, seconds / hosts));
  for (const char* name : {"read_timeout", "write_timeout"}) {
    text += ' ' + std::string(name) + '=' + std::to_string(seconds);
  }
  // SOCI knows but a few TLS options, and no protocol (1: TCP). The connector behind it takes all
  // of them in a connection string in the host's place, and the host as one of its parts.
  std::string host = is_local ? "localhost" : target.host;
  const bool is_by_tcp = MeansLocalhostByTcp(target);
  if (is_by_tcp || !target.tls.empty()) {
    host = "host={" + host + "};" + (is_by_tcp ? "protocol=1;" : "") + target.tls;
  }
  if (!host.empty()) AddQuoted(&text, "host", host);
  if (target.port != 0 && !is_local) text += " port=" + std::to_string(target.port);
  if (is_local) AddQuoted(&text, "unix_socket", target.unix_socket);
  if (!target.user.empty()) AddQuoted(&text, "user", target.user);
  if (!target.password.empty()) AddQuoted(&text, "password", target.password);
  AddQuoted(&text, "db", target.database);
  return text;
}

}  // namespace taskwal::storage

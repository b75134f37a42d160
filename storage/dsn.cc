#include "storage/dsn.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "base/json_text.h"

namespace taskwal::storage {
namespace {

constexpr std::string_view kForms =
    "memory:, sqlite://relative.db, sqlite:///absolute.db, postgresql://…, mysql://…";
constexpr std::string_view kMask = "***";

Status UnknownForm(std::string_view what) {
  return Status::InvalidArgument(std::string(what) + "; a database is named by one of " +
                                 std::string(kForms));
}

bool IsSchemeText(std::string_view text) {
  return !text.empty() && text.size() <= 20 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '-' || c == '.';
  });
}

Result<Dsn> ParseSqlite(std::string_view text, std::string_view path) {
  if (path.empty()) return UnknownForm("sqlite:// names no file");
  if (path == ":memory:") {
    return Status::InvalidArgument(
        "sqlite://:memory: is no file: use memory: for a database in memory");
  }
  return Dsn{Dsn::Kind::kSqlite, std::string(text), std::string(path)};
}

// What a '%' with two hexadecimal digits at the text's start stands for.
std::optional<char> PercentDecoded(std::string_view text) {
  std::uint8_t value = 0;
  if (text.size() < 3 || text[0] != '%') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data() + 1, text.data() + 3, value, 16);
  if (error != std::errc() || end != text.data() + 3) return std::nullopt;
  return static_cast<char>(value);
}

char LowerCase(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// password=…, sslpassword=…, in a query or a keyword string, up to the next of the separators: in
// whatever case and encoding, since a driver may read them so, and a refusal shows them.
std::string MaskParameters(std::string_view text, std::string_view separators) {
  constexpr std::string_view kName = "password=";
  std::string masked;
  std::string decoded;
  while (!text.empty()) {
    const auto byte = PercentDecoded(text);
    const std::size_t size = byte ? 3 : 1;
    decoded += LowerCase(byte.value_or(text[0]));
    masked += text.substr(0, size);
    text.remove_prefix(size);
    if (!decoded.ends_with(kName)) continue;
    masked += kMask;
    text.remove_prefix(std::min(text.find_first_of(separators), text.size()));
  }
  return masked;
}

// 5432; none at all is the default one.
bool IsPort(std::string_view text) {
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port);
  return text.empty() || (error == std::errc() && stop == end);
}

// "h1:1,[::1]:2,h3". A password whose "@host" was forgotten stands where a port would.
bool ArePlainHosts(std::string_view hosts) {
  while (!hosts.empty()) {
    const std::size_t end = std::min(hosts.find(','), hosts.size());
    const std::string_view host = hosts.substr(0, end);
    hosts.remove_prefix(std::min(end + 1, hosts.size()));
    const std::size_t bracket = host.starts_with('[') ? host.find(']') : std::string_view::npos;
    const std::size_t colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
    if (colon != std::string_view::npos && !IsPort(host.substr(colon + 1))) return false;
  }
  return true;
}

}  // namespace

Result<Dsn> ParseDsn(std::string_view text) {
  if (text.empty()) return UnknownForm("no database is named");
  if (!IsCleanText(text)) return UnknownForm("the name of the database is not UTF-8 text");
  if (text == "memory:") return Dsn{Dsn::Kind::kMemory, std::string(text), ""};
  const std::size_t colon = text.find("://");
  // What is no scheme is not shown: it could be a connection string with a password.
  if (colon == std::string_view::npos || !IsSchemeText(text.substr(0, colon))) {
    return UnknownForm("this is not the name of a database");
  }
  const std::string_view scheme = text.substr(0, colon);
  if (scheme == "sqlite") return ParseSqlite(text, text.substr(colon + 3));
  if (scheme == "postgresql" || scheme == "postgres") {
    return Dsn{Dsn::Kind::kPostgres, std::string(text), ""};
  }
  if (scheme == "mysql" || scheme == "mariadb") {
    return Dsn{Dsn::Kind::kMysql, std::string(text), ""};
  }
  return UnknownForm("unknown kind of database " + std::string(scheme) + "://");
}

std::string MaskDsn(std::string_view text) {
  std::string masked(text);
  const std::size_t scheme_end = masked.find("://");
  // A file name may hold anything, and no password; but a list with a comma is none.
  if (scheme_end == std::string::npos) return MaskParameters(masked, "& ");
  const std::size_t start = scheme_end + 3;
  if (masked.compare(0, scheme_end, "sqlite") == 0) {
    if (masked.find("://", start) == std::string::npos) return masked;
    return masked.substr(0, start) + MaskDsn(std::string_view(text).substr(start));
  }
  // A password may hold an unescaped '/' or '@': whatever is before the last '@' is hidden, unless
  // that '@' belongs to the query.
  const std::size_t query = std::min(masked.find('?', start), masked.size());
  std::size_t at = masked.rfind('@', query);
  if (at == std::string::npos || at < start) {
    // Or an unescaped '?'.
    at = masked.find_first_of("@/", start);
    if (at != std::string::npos && masked[at] != '@') at = std::string::npos;
  }
  const std::size_t password = masked.find(':', start);
  if (at != std::string::npos && password < at) {
    masked.replace(password + 1, at - password - 1, kMask);
    at = password + 1 + kMask.size();
  }
  // Where a password begins is known, but not where it ends, or what of a "host" is still its part.
  const std::size_t hosts = at == std::string::npos ? start : at + 1;
  const std::size_t hosts_end = std::min(masked.find_first_of("/?", hosts), masked.size());
  if (!ArePlainHosts(std::string_view(masked).substr(hosts, hosts_end - hosts))) {
    return masked.substr(0, masked.find(':', start) + 1) + std::string(kMask);
  }
  return MaskParameters(masked, "&");
}

}  // namespace taskwal::storage

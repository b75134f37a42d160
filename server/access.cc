#include "server/access.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "base/status_macros.h"

namespace taskwal::server {
namespace {

// "[::1]:80" and "::1" -> "::1"; "a:80" -> "a".
std::string_view HostOf(std::string_view text) {
  if (text.starts_with('[')) return text.substr(1, text.find(']') - 1);
  const std::size_t colon = text.rfind(':');
  if (colon != text.find(':')) return text;
  return text.substr(0, colon);
}

}  // namespace

Result<ListenAddress> ParseListenAddress(std::string_view text) {
  const auto refuse = [text] {
    return Status::InvalidArgument("\"" + std::string(text) +
                                   "\" is no ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:0");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return refuse();
  }
  ListenAddress address;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (host.empty() || port.empty() || error != std::errc{} || end != port.data() + port.size()) {
    return refuse();
  }
  address.host = std::string(host);
  return address;
}

bool IsLoopback(std::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6{};
  return ::inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Status CheckServerOptions(const ServerOptions& options) {
  TASKWAL_ASSIGN(const ListenAddress address, ParseListenAddress(options.listen));
  if (IsLoopback(address.host) || !options.token.empty()) return Status::Ok();
  return Status::InvalidArgument("listening on " + options.listen +
                                 " needs a token (server.token, or TASKWAL_TOKEN): anybody who "
                                 "reaches that address could write");
}

bool ShowsToken(std::string_view authorization, std::string_view token) {
  constexpr std::string_view kScheme = "bearer";
  const auto is_same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  const std::size_t blank = authorization.find(' ');
  const std::string_view scheme = authorization.substr(0, blank);
  if (blank == std::string_view::npos || token.empty() ||
      !std::equal(scheme.begin(), scheme.end(), kScheme.begin(), kScheme.end(), is_same)) {
    return false;
  }
  const std::size_t begin = authorization.find_first_not_of(' ', blank);
  const std::string_view shown =
      begin == std::string_view::npos ? std::string_view() : authorization.substr(begin);
  // Every byte shown is looked at: the time tells nothing of how many are right.
  std::size_t difference = shown.size() ^ token.size();
  for (std::size_t i = 0; i < shown.size(); ++i) {
    difference |=
        static_cast<unsigned char>(shown[i]) ^ static_cast<unsigned char>(token[i % token.size()]);
  }
  return difference == 0;
}

Status CheckSource(const RequestSource& source) {
  // Every browser sends the header; without it this is none.
  if (!source.host.empty() && !IsLoopback(HostOf(source.host))) {
    return Status::InvalidArgument("the Host header names no loopback address");
  }
  if (source.origin.empty()) return Status::Ok();
  const std::size_t scheme = source.origin.find("://");
  if (scheme != std::string_view::npos && source.origin.substr(scheme + 3) == source.host) {
    return Status::Ok();
  }
  return Status::InvalidArgument("a page of another site may not call");
}

}  // namespace taskwal::server

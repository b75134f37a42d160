// Who may call: addresses, tokens, and pages of other sites.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/server_options.h"
#include "taskwal/status.h"

namespace taskwal::server {

struct ListenAddress {
  std::string host;  // without the brackets of an IPv6 address
  std::uint16_t port = 0;
};

// "127.0.0.1:8080", "[::1]:0", "localhost:80". kInvalidArgument for anything else.
Result<ListenAddress> ParseListenAddress(std::string_view text);
// 127.0.0.0/8, ::1 and localhost.
bool IsLoopback(std::string_view host);
// kInvalidArgument: not a loopback address, and no token.
Status CheckServerOptions(const ServerOptions& options);

// Of an Authorization header. Takes as long whatever the first difference is.
bool ShowsToken(std::string_view authorization, std::string_view token);

// What a browser tells of where a request comes from.
struct RequestSource {
  std::string_view host;    // the Host header
  std::string_view origin;  // the Origin header; empty: not sent by a page
};
// Without a token anybody on this machine may call, but no page of another site that a browser on
// it shows, even if its name has been made to lead here: kInvalidArgument.
Status CheckSource(const RequestSource& source);

}  // namespace taskwal::server

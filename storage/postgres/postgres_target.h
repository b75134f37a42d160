// Where to connect to: a libpq URI with what taskwal adds to it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"

namespace taskwal::storage {

struct PostgresTarget {
  std::string name;        // the masked DSN, for messages
  std::string conninfo;    // for libpq; holds the password
  std::vector<std::string> hosts;  // names, addresses and sockets, of the URI or else of PGHOST
  std::chrono::milliseconds timeout{30000};  // of every call
};

// Whatever the URI says is kept (several hosts, TLS, its own timeouts); connect_timeout,
// tcp_user_timeout and the application's name are set where it says nothing.
// kInvalidArgument: libpq cannot read it; the message does not quote it.
Result<PostgresTarget> ParsePostgresTarget(const std::string& uri,
                                           std::chrono::milliseconds timeout);

}  // namespace taskwal::storage

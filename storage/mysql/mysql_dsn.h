// mysql://user:password@host:port/database?parameter=value&… as what SOCI's MySQL backend takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"

namespace taskwal::storage {

struct MysqlTarget {
  std::string host;        // may be a list: h1:3306,h2:3307, tried in turn
  std::uint16_t port = 0;  // 0: the library's default
  std::string user;        // empty: that of the process
  std::string password;
  std::string database;
  std::string unix_socket;
  // Connector options "ssl-ca={…};ssl-enforce=1"; empty: no TLS.
  std::string tls;
};

// Everything is percent-decoded. kInvalidArgument names what is wrong, never the password; unknown
// parameters are refused by name.
//   unix_socket                              the server's socket; host and port are not used
//   ssl_ca, ssl_capath, ssl_cert, ssl_key, ssl_crl, ssl_crlpath, ssl_cipher, tls_version
//   ssl_verify_server_cert                   1 or 0
//   ssl_mode                                 disabled, preferred, required, verify_ca,
//                                            verify_identity
// Any TLS parameter but ssl_mode=preferred means that the connection is encrypted or refused.
Result<MysqlTarget> ParseMysqlDsn(std::string_view dsn);

// Names or addresses without their ports; none where a socket is used.
std::vector<std::string> HostsOf(const MysqlTarget& target);

// What soci::session takes. Holds the password.
std::string SociConnectString(const MysqlTarget& target, std::chrono::milliseconds timeout);

}  // namespace taskwal::storage

// How the daemon listens. Plain values, fixed once started.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace taskwal::server {

struct ServerOptions {
  // ADDRESS:PORT; port 0 picks a free one. Anything but a loopback address needs a token.
  std::string listen = "127.0.0.1:8080";
  // What callers show as "Authorization: Bearer …"; empty: none is asked for (loopback only).
  std::string token;
  std::uint64_t max_body = 40u << 20;            // bytes of a request's body
  std::uint32_t threads = 16;                    // connections served at once; more wait
  std::chrono::milliseconds read_timeout{5000};  // a request that stalls for this long is given up
};

}  // namespace taskwal::server

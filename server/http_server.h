// The HTTP side of the daemon: address, token, limits, threads. Routes are the router's.
//
//   request ─▶ source, token ─▶ route ─▶ body within its limit ─▶ handler ─▶ answer
//                 401, 403      404, 405        413                 4xx, 5xx
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "server/router.h"
#include "server/server_options.h"
#include "taskwal/status.h"

namespace taskwal::server {

class HttpServer {
 public:
  // Binds; callers may connect from now on, and wait for Serve. The router outlives it.
  // kInvalidArgument: options that may not be; kUnavailable: the address cannot be had.
  // `idle`: a connection that rests for so long is closed.
  static Result<std::unique_ptr<HttpServer>> Bind(
      const ServerOptions& options, const Router& router,
      std::chrono::milliseconds idle = std::chrono::seconds(1));
  ~HttpServer();  // as Stop()

  // "http://127.0.0.1:8080", with the port that was picked.
  [[nodiscard]] const std::string& url() const;

  // Starts to answer, on threads of its own. kUnavailable when the system gives no more of them.
  Status Serve();
  // Takes no more connections, and closes those that rest.
  void End();
  // Behind End: true when the requests under way have been answered by then.
  bool AwaitEnd(std::chrono::steady_clock::time_point until);
  // Behind End: reads and writes nothing more. Handlers run on to their end.
  void Cut();
  // Ends, and waits for the requests under way.
  void Stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace taskwal::server

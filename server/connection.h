// One accepted socket, and what ends it: a caller that stalls or rests, or the server.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/posix_file.h"

namespace taskwal::server {

// What all connections of a server are told. Any thread.
class ConnectionEnds {
 public:
  ConnectionEnds();
  void EndResting();  // those that wait for a request
  void EndAll();      // nothing more is read or written
  [[nodiscard]] bool has_begun() const { return has_begun_.load(); }

 private:
  friend class Connection;
  std::atomic<bool> has_begun_{false};
  const UniqueFd resting_, all_;  // readable from then on
};

// Owns the socket; closed with it. One thread.
class Connection {
 public:
  // `stall`: a read or write that gets nowhere for so long fails. `ends` outlives it.
  Connection(int socket, const ConnectionEnds& ends, std::chrono::milliseconds stall);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // False when none begins within `idle`, or the connection is to end.
  bool AwaitRequest(std::chrono::milliseconds idle);
  [[nodiscard]] bool IsReadable() const;
  [[nodiscard]] bool IsWritable() const;
  // Bytes read; 0 at the end, negative when it failed.
  std::ptrdiff_t Read(std::span<char> into);
  // All of it, or false.
  bool Write(std::string_view bytes);

  struct Address {
    std::string host;
    int port = 0;
  };
  [[nodiscard]] Address remote() const;
  [[nodiscard]] Address local() const;
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  [[nodiscard]] bool Await(short events, std::chrono::milliseconds longest, bool is_resting) const;

  const UniqueFd socket_;
  const ConnectionEnds& ends_;
  const std::chrono::milliseconds stall_;
  // Read ahead: the head of a request is asked for byte by byte.
  std::array<char, 4096> buffer_;
  std::size_t at_ = 0, end_ = 0;
};

}  // namespace taskwal::server

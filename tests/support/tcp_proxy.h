// A network that misbehaves as told, between a client and a server on loopback: it refuses, cuts,
// delays, drips, swallows, answers half, and interferes with the next COMMIT that passes. It looks
// for plain text in what the client sends, so the connection must not be encrypted. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace taskwal {

// What becomes of the next COMMIT, once.
enum class CommitFault : std::uint8_t {
  kNone,
  kCutBefore,   // the server never gets it; both connections are cut
  kCutAfter,    // the server has answered, the client never learns what; cut
  kHold,        // the client's connection is cut, the server's stays; see ReleaseCommit
  kHalfAnswer,  // the first byte of the answer, then silence
};

class TcpProxy {
 public:
  explicit TcpProxy(std::uint16_t target_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  [[nodiscard]] std::uint16_t port() const;

  // New connections are closed at once; those that there are go on.
  void Refuse(bool on);
  // Connections are made and kept, and nothing passes, in either direction. What was swallowed
  // passes once it is off.
  void Blackhole(bool on);
  // Each piece is this late.
  void Delay(std::chrono::milliseconds delay);
  // What the server says passes a byte at a time, so far apart; 0 ends that.
  void Drip(std::chrono::milliseconds apart);
  void CutAll();
  // Cuts all, once, as soon as that many more bytes have come from either side.
  void CutAfter(std::uint64_t bytes);

  void OnCommit(CommitFault fault);
  // Until the fault has struck; false after 30 s.
  [[nodiscard]] bool WaitForCommitFault();
  // The COMMIT that was held reaches the server; returns once the server has answered it.
  void ReleaseCommit();

  [[nodiscard]] std::uint64_t connections() const;  // accepted so far
  [[nodiscard]] std::uint64_t cuts() const;         // times CutAfter struck

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace taskwal

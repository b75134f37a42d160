// What connections to servers have in common: work is done in calls. Each is bounded in time, turns
// every exception into a Status, and rolls back what was left open.
//
//   StartCall ─▶ LimitStatements ─▶ body ─▶ EndCall
//                    ▲               │ throws
//                    └── MayRepeat ◀─┴──▶ Caught ─▶ EndCall
//
// `Connection` derives from it and has these steps, for a friend; only LimitStatements and the body
// may throw.
#pragma once

#include <chrono>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

template <typename Connection>
class ConnectionCalls {
 public:
  // `body` returns Status or Result<T>.
  template <typename Body>
  auto Run(std::string_view what, Body body) -> decltype(body()) {
    return RunUpTo(1, self().timeout(), what, body);
  }
  // Within less than the time of every call: where the server can, it gives a statement up a little
  // before.
  template <typename Body>
  auto RunWithin(std::chrono::milliseconds time, std::string_view what, Body body)
      -> decltype(body()) {
    return RunUpTo(1, time, what, body);
  }
  // The same for what has no one behind it that would try again: where the server gave it up for
  // another transaction's sake (a deadlock, a serialization failure), it is done anew, within the
  // same time.
  template <typename Body>
  auto RunRepeatedly(std::string_view what, Body body) -> decltype(body()) {
    return RunUpTo(kAttemptsMax, self().timeout(), what, body);
  }

 private:
  static constexpr int kAttemptsMax = 5;

  Connection& self() { return static_cast<Connection&>(*this); }

  template <typename Body>
  auto RunUpTo(int attempts, std::chrono::milliseconds time, std::string_view what, Body& body)
      -> decltype(body()) {
    Status ready = self().StartCall(what, time);
    if (!ready.ok()) return ready;
    for (;;) {
      try {
        self().LimitStatements(time);
        auto result = body();
        self().EndCall();
        return result;
      } catch (...) {
        if (--attempts > 0 && self().MayRepeat()) continue;
        Status caught = self().Caught(what);
        self().EndCall();
        return caught;
      }
    }
  }
};

}  // namespace taskwal::storage

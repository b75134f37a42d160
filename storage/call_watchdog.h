// The last resort against a peer that never answers: shuts a socket down when a call's time has
// passed, so that the driver's blocked read or write returns with an error. Not every wait of a
// driver has a deadline of its own (a stopped server, a blackholed connection, a commit that waits
// for a standby).
//
// One thread serves all of the process; it starts with the first call, and sleeps until the next
// deadline or the next call. A CallWatchdog belongs to one call and its thread.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace taskwal::storage {

class CallWatchdog {
 public:
  // Armed for as long as it lives: at `deadline` the socket `fd` is shut down, once. The descriptor
  // must stay open until then; a negative one arms nothing.
  CallWatchdog(int fd, Monotonic deadline);
  ~CallWatchdog();
  CallWatchdog(const CallWatchdog&) = delete;
  CallWatchdog& operator=(const CallWatchdog&) = delete;

  // Whether the socket was shut down: what the driver reports then is a timeout.
  [[nodiscard]] bool has_fired() const;

 private:
  std::uint64_t call_;
};

}  // namespace taskwal::storage

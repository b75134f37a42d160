// What the private servers of tests have in common: started unprivileged, as direct children that
// die with the test, on ports that nobody else uses.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace taskwal {

// `command`, run as `user` where this process is root, and ending with this thread's process.
std::vector<std::string> Unprivileged(const std::string& user, std::vector<std::string> command);
// A loopback port that nobody listened on just now, outside of the range out of which the kernel
// gives connections theirs: so that a server may come back on it.
std::uint16_t FreePort();
// Whether a child of this process has ended; it is not reaped.
bool HasEnded(pid_t child);

}  // namespace taskwal

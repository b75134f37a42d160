// Sleeping that a stop ends.
#pragma once

#include <chrono>
#include <stop_token>

namespace taskwal::dag {

// False when `stop` was requested before the time had passed.
bool SleepUnlessStopped(std::chrono::nanoseconds duration, const std::stop_token& stop);

}  // namespace taskwal::dag

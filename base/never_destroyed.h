// What is used by database calls and by all that a shutdown may leave behind: such a thread goes on
// while the process ends, and finds it whole.
#pragma once

#include <utility>

namespace taskwal {

// The value, for as long as the process lives: `static const auto& kSql = NeverDestroyed(…);`
template <typename T>
const T& NeverDestroyed(T value) {
  return *new T(std::move(value));
}

}  // namespace taskwal

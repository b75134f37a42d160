// What is used by database calls and by all that a shutdown may leave behind: such a thread goes on
// while the process ends, and finds it whole.
#pragma once

#include <string>
#include <utility>

namespace taskwal {

// The value, for as long as the process lives: `static const auto& kSql = NeverDestroyed(…);`
template <typename T>
const T& NeverDestroyed(T value) {
  return *new T(std::move(value));
}

// Of a pointer that was kept, a std::string& would be to a copy that ends with the process.
inline const std::string& NeverDestroyed(const char* text) {
  return NeverDestroyed(std::string(text));
}

}  // namespace taskwal

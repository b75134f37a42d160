// A fuzzer's bytes, taken as values one after the other; zeros behind the end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace taskwal {

class FuzzInput {
 public:
  explicit FuzzInput(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  // As many as there are.
  std::span<const std::byte> Take(std::size_t size) {
    const auto taken = bytes_.first(std::min(size, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }
  template <typename T>
  T TakeValue() {
    T value{};
    const auto taken = Take(sizeof value);
    if (!taken.empty()) std::memcpy(&value, taken.data(), taken.size());
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace taskwal

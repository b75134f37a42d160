// Which of the user's callbacks are under way, so that a shutdown can name one that hangs. Any
// thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "taskwal/options.h"

namespace taskwal::pipeline {

class CallbackWatch {
 public:
  // `options` with every callback of a running storage noted while it runs. shared_ptr: a callback
  // that hangs is left behind, and its end is noted after all else is gone.
  static Options Over(const std::shared_ptr<CallbackWatch>& watch, Options options);

  // "on_flush", …
  [[nodiscard]] std::vector<std::string> Underway() const;

 private:
  enum Callback : std::size_t { kOnFlush, kOnPressure, kOnBreaker, kOnError, kCallbacks };

  template <typename Event>
  static void Note(const std::shared_ptr<CallbackWatch>& watch, Callback which,
                   std::function<void(const Event&)>* callback);

  std::array<std::atomic<std::uint32_t>, kCallbacks> underway_{};
};

}  // namespace taskwal::pipeline

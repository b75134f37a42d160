// Calls that may hang, each made on a thread of its own, so that its caller is back by its deadline
// or as soon as it is told to stop. What has not come back by then is left behind: it goes on until
// it returns. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/mutex.h"
#include "wal/log.h"

namespace taskwal::pipeline {

class BoundedCalls {
 public:
  // Under way at once; a further call waits, within its own time, for one of them to return.
  static constexpr std::uint32_t kUnderwayMax = 16;

  BoundedCalls();
  ~BoundedCalls();  // waits for what was left behind

  enum class Outcome : std::uint8_t {
    kBack,
    kOver,      // left behind, or not begun
    kNoThread,  // not begun: the system starts no more threads
  };

  // `answer` is given where it is back. What `call` uses is its own or outlives this, and it throws
  // nothing.
  template <typename Call>
  Outcome Run(const wal::Deadline& end, Call call,
              std::optional<std::invoke_result_t<Call>>* answer) {
    auto given = std::make_shared<std::optional<std::invoke_result_t<Call>>>();
    const Outcome outcome = RunUntil(
        end, [given, call = std::move(call)]() mutable { given->emplace(call()); });
    if (outcome == Outcome::kBack) *answer = std::move(*given);
    return outcome;
  }

  static bool IsOver(const wal::Deadline& end);

  // Whether by then nothing is under way.
  bool AwaitAll(std::chrono::steady_clock::time_point until);
  [[nodiscard]] bool IsUnderway() const;

 private:
  struct Shared;

  Outcome RunUntil(const wal::Deadline& end, std::function<void()> call);

  const std::shared_ptr<Shared> shared_;  // with the threads: one may be about to return
};

// Whether a call's time is limited at all.
inline bool IsBounded(const wal::Deadline& end) {
  return end.at != Monotonic::max() || end.stop.stop_possible();
}

}  // namespace taskwal::pipeline

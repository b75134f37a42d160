// The first SIGINT or SIGTERM as a stop request, as long as it lives. See StopSignal.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/posix_file.h"

namespace taskwal::cli {

class StopOnSignal {
 public:
  // `on_stop`: called before the request, on a thread of its own. `patience`: of late(), at most a
  // year.
  explicit StopOnSignal(std::function<void()> on_stop = {},
                        std::chrono::milliseconds patience = std::chrono::hours(24 * 366));
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  [[nodiscard]] std::stop_token token() const { return source_.get_token(); }
  // Requested later: once the patience has passed since the first signal, or at a second one where
  // that is minded (StopSignal::Minded).
  [[nodiscard]] std::stop_token late() const { return late_.get_token(); }
  // What is left of the patience; all of it before the first signal.
  [[nodiscard]] std::chrono::milliseconds patience_left() const EXCLUDES(mutex_);

 private:
  void Watch(const std::stop_token& over);
  void AwaitLate(const std::stop_token& over);

  const std::function<void()> on_stop_;
  const std::chrono::milliseconds patience_;
  std::stop_source source_;
  std::stop_source late_;
  mutable Mutex mutex_;
  std::optional<Monotonic> stopped_at_ GUARDED_BY(mutex_);
  UniqueFd over_;        // none where no descriptor is left: then it is looked again and again
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace taskwal::cli

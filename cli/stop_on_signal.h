// The first SIGINT or SIGTERM as a stop request, as long as it lives. See StopSignal.
#pragma once

#include <functional>
#include <stop_token>
#include <thread>

#include "base/posix_file.h"

namespace taskwal::cli {

class StopOnSignal {
 public:
  // `on_stop`: called before the request, on a thread of its own.
  explicit StopOnSignal(std::function<void()> on_stop = {});
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  [[nodiscard]] std::stop_token token() const { return source_.get_token(); }

 private:
  void Watch();

  const std::function<void()> on_stop_;
  std::stop_source source_;
  UniqueFd over_;
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace taskwal::cli

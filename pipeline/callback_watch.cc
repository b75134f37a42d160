#include "pipeline/callback_watch.h"

#include <utility>

namespace taskwal::pipeline {

template <typename Event>
void CallbackWatch::Note(const std::shared_ptr<CallbackWatch>& watch, Callback which,
                         std::function<void(const Event&)>* callback) {
  if (!*callback) return;
  *callback = [watch, which, inner = std::move(*callback)](const Event& event) {
    std::atomic<std::uint32_t>& underway = watch->underway_[which];
    struct Left {
      std::atomic<std::uint32_t>& underway;
      ~Left() { underway.fetch_sub(1); }
    };
    underway.fetch_add(1);
    const Left left{underway};  // by an exception, too
    inner(event);
  };
}

Options CallbackWatch::Over(const std::shared_ptr<CallbackWatch>& watch, Options options) {
  Note(watch, kOnFlush, &options.on_flush);
  Note(watch, kOnPressure, &options.on_pressure);
  Note(watch, kOnBreaker, &options.on_breaker);
  Note(watch, kOnError, &options.on_error);
  return options;
}

std::vector<std::string> CallbackWatch::Underway() const {
  static constexpr std::array<const char*, kCallbacks> kNames = {"on_flush", "on_pressure",
                                                                 "on_breaker", "on_error"};
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kCallbacks; ++i) {
    if (underway_[i].load() > 0) names.emplace_back(kNames[i]);
  }
  return names;
}

}  // namespace taskwal::pipeline

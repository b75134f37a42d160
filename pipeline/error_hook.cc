#include "pipeline/error_hook.h"

#include "base/logging.h"

namespace taskwal::pipeline {

void TellError(const Options& options, const ErrorEvent& event) {
  if (!options.on_error) return;
  try {
    options.on_error(event);
  } catch (...) {
    Logger().error("event=on_error_threw component={}", event.component);
  }
}

}  // namespace taskwal::pipeline

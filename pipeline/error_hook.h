// Options::on_error, called so that nothing it throws gets out.
#pragma once

#include "taskwal/options.h"

namespace taskwal::pipeline {

void TellError(const Options& options, const ErrorEvent& event);

}  // namespace taskwal::pipeline

// spdlog's asynchronous logger as a peer of append: each record one message of the same bytes,
// callers wait while its queue is full. It promises nothing for a kill, and no order.
#pragma once

#include <memory>
#include <string>

#include "bench/writer.h"
#include "taskwal/status.h"

namespace taskwal::bench {

// Writes to the file `path`, made anew.
Result<std::unique_ptr<Writer>> OpenSpdlog(const std::string& path);

}  // namespace taskwal::bench

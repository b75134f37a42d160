// quill, an asynchronous logger, as a peer of append: each record one message of the same bytes,
// callers wait while their thread's queue is full. It promises nothing for a kill, and no order.
// Only where its package is present when we are built.
#pragma once

#include <memory>
#include <string>

#include "bench/writer.h"
#include "taskwal/status.h"

namespace taskwal::bench {

constexpr bool HasQuill() {
#ifdef TASKWAL_HAVE_QUILL
  return true;
#else
  return false;
#endif
}

// Writes to the file `path`, made anew. One at a time in a process: its thread lives as long as the
// writer, so that it takes no time from what is measured next.
Result<std::unique_ptr<Writer>> OpenQuill(const std::string& path);

}  // namespace taskwal::bench

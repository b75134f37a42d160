// What append and commit are measured on: a log of ours, the reference, RocksDB.
#pragma once

#include <cstdint>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal::bench {

class Writer {
 public:
  virtual ~Writer() = default;
  // Serialises the activity (id and created_at are set) and appends it. The record's position, 0
  // when it failed (then health() says why). Any thread.
  virtual std::uint64_t Append(const Activity& activity) = 0;
  // Until everything up to `position` is on disk. False when it failed.
  virtual bool WaitDurable(std::uint64_t position) = 0;
  [[nodiscard]] virtual Status health() const = 0;
};

}  // namespace taskwal::bench

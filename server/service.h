// What all routes share: the storage and what the daemon counts itself. Any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stop_token>

#include "base/clock.h"
#include "server/router.h"
#include "taskwal/options.h"
#include "taskwal/task_storage.h"

namespace taskwal::server {

struct Service {
  Service(TaskStorage& its_storage, const Options& options, Clock& its_clock)
      : storage(its_storage),
        durability(options.durability),
        block_timeout(options.block_timeout),
        clock(its_clock),
        started(its_clock.Now()) {}

  TaskStorage& storage;
  const Durability durability;
  const std::chrono::milliseconds block_timeout;
  Clock& clock;
  const Monotonic started;

  // Of POST /api/v1/logs, since start.
  std::atomic<std::uint64_t> packets{0};
  std::atomic<std::uint64_t> messages{0};
  std::atomic<std::uint64_t> operations{0};
  // Requested when the daemon is to stop: writes are refused, and none waits for room any more.
  std::stop_source stopping;
};

// The service outlives the router.
void AddIngestRoutes(Router& router, Service& service);
void AddQueryRoutes(Router& router, Service& service);
void AddAdminRoutes(Router& router, Service& service);
void AddBufferRoutes(Router& router, Service& service);
void AddLetterRoutes(Router& router, Service& service);
void AddPageRoutes(Router& router);

}  // namespace taskwal::server

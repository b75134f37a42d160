// Options in one expression, for the few settings that most programs make:
//
//   OpenTaskStorage(dsn, OptionsBuilder().WithLog("app.wal").WithQueue(100000, 5000).Build());
//
// Everything else is a field of Options.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "taskwal/options.h"

namespace taskwal {

class OptionsBuilder {
 public:
  OptionsBuilder() = default;
  // Goes on from these.
  explicit OptionsBuilder(Options options) : options_(std::move(options)) {}

  OptionsBuilder& WithLog(std::string directory, Durability level = Durability::kDisk) {
    options_.wal_dir = std::move(directory);
    options_.durability = level;
    return *this;
  }
  // Records that may wait for the database (0: up to quota_bytes), and those of one transaction.
  OptionsBuilder& WithQueue(std::uint64_t max_size, std::uint32_t batch_size) {
    options_.max_unflushed_records = max_size;
    options_.batch_size = batch_size;
    return *this;
  }
  OptionsBuilder& WithWorkers(std::uint32_t connections) {
    options_.worker_count = connections;
    return *this;
  }
  OptionsBuilder& WithMetrics(bool collect) {
    options_.enable_metrics = collect;
    return *this;
  }
  OptionsBuilder& WithShutdownTimeout(std::chrono::milliseconds timeout) {
    options_.shutdown_timeout = timeout;
    return *this;
  }

  [[nodiscard]] Options Build() const { return options_; }

 private:
  Options options_;
};

}  // namespace taskwal

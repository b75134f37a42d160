// A log of ours under test, opened as the storage opens it. Segments are settled as soon as they
// are written, so that they recycle: the steady state of a log whose database keeps up.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "bench/writer.h"
#include "taskwal/options.h"
#include "wal/log.h"

namespace taskwal::bench {

Result<std::unique_ptr<wal::Log>> OpenProductLog(const std::string& directory,
                                                 const wal::LogOptions& options);

class ProductLog final : public Writer {
 public:
  static Result<std::unique_ptr<ProductLog>> Open(const std::string& directory, Durability level);
  ~ProductLog() override;

  std::uint64_t Append(const Activity& activity) override;
  bool WaitDurable(std::uint64_t position) override;
  [[nodiscard]] Status health() const override { return log_->health(); }
  [[nodiscard]] wal::LogStats stats() const { return log_->GetStats(); }

 private:
  ProductLog(std::unique_ptr<wal::Log> log, Durability level);

  const std::unique_ptr<wal::Log> log_;
  const Durability level_;
  std::jthread settling_;
};

}  // namespace taskwal::bench

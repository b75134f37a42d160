// The yardstick of append and commit: the simplest correct log writer. A record is serialised and
// checksummed by its caller, copied into a buffer under a mutex, and written by one flusher thread
// to a recycled zero-filled file; one commit in flight. No recovery, no segments, no kill safety:
// what the log does beyond it must not cost more than a little.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/file_system.h"
#include "base/mutex.h"
#include "bench/writer.h"

namespace taskwal::bench {

class ReferenceWriter final : public Writer {
 public:
  // Not durable: writes without ever syncing.
  static Result<std::unique_ptr<ReferenceWriter>> Open(const std::string& path, bool durable);
  ~ReferenceWriter() override;

  std::uint64_t Append(const Activity& activity) override EXCLUDES(mutex_);
  bool WaitDurable(std::uint64_t position) override EXCLUDES(mutex_);
  [[nodiscard]] Status health() const override EXCLUDES(mutex_);

 private:
  struct Buffer {
    std::vector<std::byte> bytes;
    std::size_t used = 0;
  };
  ReferenceWriter(std::unique_ptr<WritableFile> file, bool durable);
  void Run(const std::stop_token& stop) EXCLUDES(mutex_);
  bool IsDue() const REQUIRES(mutex_);
  Status WriteOut();

  const std::unique_ptr<WritableFile> file_;
  const bool durable_;
  Buffer writing_;                // the flusher's own
  std::uint64_t offset_ = 0;      // the flusher's own

  // Those who wait for a commit sleep on this word, so that none of them needs the mutex to wake;
  // where they are many, they stay awake, which is cheaper than waking them one by one.
  std::atomic<std::uint32_t> commits_{0};
  std::atomic<std::uint32_t> waiting_{0};
  std::atomic<std::uint64_t> settled_{0};  // written, or synced; a failure ends all waiting

  mutable Mutex mutex_;
  CondVar work_, room_;
  Buffer filling_ GUARDED_BY(mutex_);
  std::uint64_t next_ GUARDED_BY(mutex_) = 1;
  std::uint64_t wanted_ GUARDED_BY(mutex_) = 0;   // somebody waits for it
  bool asleep_ GUARDED_BY(mutex_) = false;
  Status status_ GUARDED_BY(mutex_);
  std::jthread flusher_;
};

}  // namespace taskwal::bench

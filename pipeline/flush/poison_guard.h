// Tells poison from a broken schema: a few refused rows among many are poison and may be lettered;
// when more than max(10, 1 %) are refused, nothing more is, until a whole batch has gone through
// again. Small batches are judged together, over 1,000 records: a schema broken while little is
// written would else send everything to the dead letters, one by one. One worker's; not
// thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>

namespace taskwal::pipeline {

class PoisonGuard {
 public:
  void StartBatch(std::uint64_t records) {
    if (records_ >= kWindow) {
      records_ = 0;
      letters_ = 0;
    }
    records_ += records;
    refused_in_batch_ = false;
  }
  // A row was refused for good: whether it may be lettered.
  bool MayLetter() {
    refused_in_batch_ = true;
    if (letters_ >= std::max<std::uint64_t>(10, records_ / 100)) is_tripped_ = true;
    return !is_tripped_;
  }
  void OnLettered() { ++letters_; }
  void EndBatch() {
    if (refused_in_batch_) return;
    if (is_tripped_) letters_ = 0;
    is_tripped_ = false;
  }
  [[nodiscard]] bool is_tripped() const { return is_tripped_; }

 private:
  static constexpr std::uint64_t kWindow = 1000;

  std::uint64_t records_ = 0;  // of the batches judged together
  std::uint64_t letters_ = 0;  // of these
  bool refused_in_batch_ = false;
  bool is_tripped_ = false;
};

}  // namespace taskwal::pipeline

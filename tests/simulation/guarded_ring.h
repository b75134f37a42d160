// The ring's memory as a point of preemption. Between a claim and the first store behind it the
// product calls nothing at which another thread might go on. So the memory is made read-only now
// and then: the store that meets that lets the others go on first, or is where the process dies.
#pragma once

#include <csignal>
#include <memory>
#include <span>

#include "base/file_system.h"
#include "tests/simulation/coverage.h"

namespace taskwal {

class GuardedRing final : public RingFile {
 public:
  GuardedRing(std::unique_ptr<RingFile> ring, Coverage& coverage);
  ~GuardedRing() override;

  std::span<std::byte> header() override { return ring_->header(); }
  std::byte* ring() override { return ring_->ring(); }
  [[nodiscard]] std::uint64_t ring_bytes() const override { return ring_->ring_bytes(); }

  // The next store into the ring that was made last is such a point.
  static void Arm();

 private:
  static void Meet(int signal, siginfo_t* info, void* context);
  void Protect(int protection);

  const std::unique_ptr<RingFile> ring_;
  Coverage& coverage_;
};

}  // namespace taskwal

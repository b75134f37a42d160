// taskwal/control.h over the parts of one storage. Any thread.
#pragma once

#include <functional>
#include <string_view>

#include "pipeline/admission/admission.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/targets/target_set.h"
#include "taskwal/control.h"

namespace taskwal::pipeline {

class StorageControl final : public Control {
 public:
  // All outlive it.
  StorageControl(Admission& admission, LoadGauge& gauge, TargetSet& targets,
                 std::function<Stats()> stats)
      : admission_(admission), gauge_(gauge), targets_(targets), stats_(std::move(stats)) {}

  Status SetRate(std::uint64_t records_per_second, std::uint64_t burst) override;
  Status SetPolicy(Overflow policy, std::uint32_t sample_one_in) override;
  Status SetBatchSize(std::optional<std::uint32_t> records) override;
  Status ResetBreaker(std::string_view target) override;
  Status SetWorkerCount(std::uint32_t workers) override;
  BufferSnapshot Buffer() override;
  BackpressureSnapshot Backpressure() override;
  FlowControlSnapshot FlowControl() override;

 private:
  Admission& admission_;
  LoadGauge& gauge_;
  TargetSet& targets_;
  const std::function<Stats()> stats_;
};

}  // namespace taskwal::pipeline

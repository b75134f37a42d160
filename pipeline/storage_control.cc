#include "pipeline/storage_control.h"

#include <string>

#include "base/status_macros.h"
#include "pipeline/option_fields.h"

namespace taskwal::pipeline {
namespace {

// Ranges as for the fields of the same meaning.
template <typename T>
Status CheckField(T Options::*field, T value) {
  Options options;
  options.*field = value;
  return CheckOptions(options);
}

}  // namespace

Status StorageControl::SetRate(std::uint64_t records_per_second, std::uint64_t burst) {
  Status checked = CheckField(&Options::rate_limit, records_per_second);
  if (checked.ok()) checked = CheckField(&Options::rate_burst, burst);
  if (checked.ok()) admission_.SetRate(records_per_second, burst);
  return checked;
}

Status StorageControl::SetPolicy(Overflow policy, std::uint32_t sample_one_in) {
  Status checked = CheckField(&Options::backpressure_strategy, policy);
  if (checked.ok()) checked = CheckField(&Options::sample_one_in, sample_one_in);
  if (checked.ok()) admission_.SetPolicy(policy, sample_one_in);
  return checked;
}

Status StorageControl::SetBatchSize(std::optional<std::uint32_t> records) {
  Status checked;
  if (records) checked = CheckField(&Options::batch_size, *records);
  if (!checked.ok()) return checked;
  for (const auto& target : targets_.targets()) target->flusher->PinBatchSize(records);
  return checked;
}

Status StorageControl::ResetBreaker(std::string_view name) {
  bool is_found = name.empty();
  for (const auto& target : targets_.targets()) {
    if (!name.empty() && target->name != name) continue;
    target->flusher->ResetBreaker();
    is_found = true;
  }
  if (is_found) return Status::Ok();
  return Status::NotFound("there is no target " + std::string(name));
}

Status StorageControl::SetWorkerCount(std::uint32_t workers) {
  TASKWAL_TRY(CheckField(&Options::worker_count, workers));
  Status set;
  for (const auto& target : targets_.targets()) {
    const Status of_one = target->flusher->SetWorkerCount(workers);
    if (set.ok()) set = of_one;
  }
  return set;
}

BufferSnapshot StorageControl::Buffer() {
  BufferSnapshot snapshot;
  snapshot.stats = stats_();
  snapshot.state = gauge_.state();
  for (const auto& target : targets_.targets()) {
    TargetFlow flow = target->flusher->Flow();
    flow.name = target->name;
    snapshot.targets.push_back(std::move(flow));
  }
  return snapshot;
}

BackpressureSnapshot StorageControl::Backpressure() {
  admission_.MaybeLook();
  return gauge_.Snapshot();
}

FlowControlSnapshot StorageControl::FlowControl() { return admission_.Snapshot(); }

}  // namespace taskwal::pipeline

#include "pipeline/admission/load_gauge.h"

#include <algorithm>
#include <vector>

namespace taskwal::pipeline {
namespace {

constexpr std::size_t kHistory = 60;
constexpr double kRelease = 0.7;           // of a threshold: below it the state is left
constexpr double kEmergencyFactor = 2;     // of a threshold other than that of errors
// The failed share is taken over at least so many attempts, older ones included: a single failure
// is no emergency, and one at each look is.
constexpr double kAttemptsMin = 20;
constexpr double kIdleFade = 0.5;          // at each look with nothing to do
// Arrivals ahead of what is applied matter once this share of the record threshold waits; of its
// default, where it is off.
constexpr double kInflowFloor = 0.1;
constexpr double kUsualFactor = 3;         // an adapting threshold lies at three times the usual
constexpr std::int32_t kShedFirst = 2, kShedMost = 4;

double PerSecond(std::uint64_t count, std::chrono::duration<double> time) {
  return time.count() > 0 ? static_cast<double>(count) / time.count() : 0;
}

double Against(double value, double threshold) { return threshold > 0 ? value / threshold : 0; }

}  // namespace

LoadGauge::LoadGauge(const Options& options)
    : options_(options),
      given_{static_cast<double>(options.pressure_records),
             static_cast<double>(options.pressure_latency.count())},
      in_force_(given_) {}

void LoadGauge::OnSettled(std::uint64_t records, std::uint64_t bytes) {
  settled_records_.fetch_add(records);
  settled_bytes_.fetch_add(bytes);
  if (when_settled_) when_settled_();
}

void LoadGauge::OnCommitted(std::chrono::nanoseconds duration) {
  MutexLock lock(mutex_);
  ++committed_;
  in_commits_ += duration;
  is_failing_ = false;
}

void LoadGauge::OnFailed() {
  MutexLock lock(mutex_);
  ++failed_;
  is_failing_ = true;
}

std::optional<PressureEvent> LoadGauge::Look(const LoadSample& sample, Monotonic now) {
  MutexLock lock(mutex_);
  LoadFigures figures = Measure(sample, now);
  const Scores scores = Judge(figures);
  figures.score = scores.pressure;
  const Pressure before = state();
  const Pressure next = NextState(scores);
  shed_up_to_.store(NextShedding(next, scores));
  state_.store(next);
  history_.push_back(figures);
  states_.push_back(next);
  if (history_.size() > kHistory) {
    history_.pop_front();
    states_.pop_front();
  }
  Adapt(next);
  if (next == before) return std::nullopt;
  ++changes_;
  return PressureEvent{before, next, scores.pressure, scores.signal};
}

// What was not measured since the last look stands as it was, as long as there is something to do
// or the last attempt failed: neither an open breaker nor idleness is proof that the database is
// well.
LoadFigures LoadGauge::Measure(const LoadSample& sample, Monotonic now) {
  LoadFigures figures;
  const auto attempts = static_cast<double>(committed_ + failed_);
  double kept = 1;
  if (attempts > 0) {
    kept = attempts_ > 0 ? std::clamp((kAttemptsMin - attempts) / attempts_, 0.0, 1.0) : 0;
  } else if (sample.pending == 0 && !is_failing_) {
    kept = kIdleFade;
  }
  attempts_ = attempts_ * kept + attempts;
  failures_ = failures_ * kept + static_cast<double>(failed_);
  if (committed_ > 0) {
    const std::chrono::duration<double, std::milli> spent = in_commits_;
    latency_ms_ = spent.count() / static_cast<double>(committed_);
  } else if (sample.pending == 0) {
    latency_ms_ = 0;
  }
  committed_ = failed_ = 0;
  in_commits_ = std::chrono::nanoseconds(0);
  figures.records = static_cast<double>(sample.pending);
  figures.bytes = static_cast<double>(sample.pending_bytes);
  figures.latency_ms = latency_ms_;
  figures.error_rate = failures_ / std::max(attempts_, kAttemptsMin);
  if (looked_at_) {
    const std::chrono::duration<double> passed = now - *looked_at_;
    const std::uint64_t arrived = sample.arrived - std::min(last_arrived_, sample.arrived);
    const std::uint64_t before = last_pending_ + arrived;
    figures.arrivals_per_second = PerSecond(arrived, passed);
    figures.applied_per_second = PerSecond(before - std::min(before, sample.pending), passed);
  }
  looked_at_ = now;
  last_arrived_ = sample.arrived;
  last_pending_ = sample.pending;
  return figures;
}

LoadGauge::Scores LoadGauge::Judge(const LoadFigures& figures) const {
  const double records = Against(figures.records, in_force_.records);
  const double latency = Against(figures.latency_ms, in_force_.latency_ms);
  const double errors = Against(figures.error_rate, options_.pressure_error_rate);
  const bool has_threshold = in_force_.records > 0;
  const double enough = has_threshold ? in_force_.records
                                      : static_cast<double>(Options().pressure_records);
  double inflow = 0;
  if (figures.records >= kInflowFloor * enough) {
    const double ratio = figures.arrivals_per_second / std::max(figures.applied_per_second, 1.0);
    inflow = Against(ratio, options_.pressure_inflow);
  }
  Scores scores;
  for (const auto& [score, signal] : {std::pair{records, "records"}, std::pair{latency, "latency"},
                                      std::pair{inflow, "inflow"}, std::pair{errors, "errors"}}) {
    if (score <= scores.pressure) continue;
    scores.pressure = score;
    scores.signal = signal;
  }
  scores.emergency = std::max(std::max({records, latency, inflow}) / kEmergencyFactor,
                              Against(figures.error_rate, options_.emergency_error_rate));
  return scores;
}

Pressure LoadGauge::NextState(const Scores& scores) const {
  const Pressure now = state();
  if (scores.emergency >= 1) return Pressure::kEmergency;
  if (now == Pressure::kEmergency && scores.emergency >= kRelease) return Pressure::kEmergency;
  if (scores.pressure >= 1) return Pressure::kPressure;
  if (now != Pressure::kNormal && scores.pressure >= kRelease) return Pressure::kPressure;
  return Pressure::kNormal;
}

// Further up as long as the emergency does not give way, back when it does.
std::int32_t LoadGauge::NextShedding(Pressure next, const Scores& scores) const {
  if (!options_.emergency_enabled || next != Pressure::kEmergency) return 0;
  const std::int32_t now = shed_up_to();
  if (now == 0) return kShedFirst;
  return std::clamp(now + (scores.emergency >= 1 ? 1 : -1), kShedFirst, kShedMost);
}

// Under pressure nothing is learnt: else what is too much would become what is usual.
void LoadGauge::Adapt(Pressure state) {
  if (!options_.adaptive_thresholds) return;
  const auto move = [&](double given, double usual, double* threshold) {
    const double target = state == Pressure::kNormal
                              ? std::clamp(kUsualFactor * usual, given / 2, given * 2)
                              : given;
    *threshold += (target - *threshold) * options_.recovery_factor;
  };
  move(given_.records, Usual(&LoadFigures::records), &in_force_.records);
  move(given_.latency_ms, Usual(&LoadFigures::latency_ms), &in_force_.latency_ms);
}

// The median of the looks at which all was well.
double LoadGauge::Usual(double LoadFigures::*figure) const {
  std::vector<double> values;
  for (std::size_t i = 0; i < history_.size(); ++i) {
    if (states_[i] == Pressure::kNormal) values.push_back(history_[i].*figure);
  }
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

BackpressureSnapshot LoadGauge::Snapshot() const {
  MutexLock lock(mutex_);
  BackpressureSnapshot snapshot;
  snapshot.state = state();
  snapshot.changes = changes_;
  if (!history_.empty()) snapshot.now = history_.back();
  snapshot.records_threshold = in_force_.records;
  snapshot.latency_threshold_ms = in_force_.latency_ms;
  snapshot.error_rate_threshold = options_.pressure_error_rate;
  snapshot.inflow_threshold = options_.pressure_inflow;
  snapshot.shed_up_to = shed_up_to();
  snapshot.history.assign(history_.begin(), history_.end());
  return snapshot;
}

}  // namespace taskwal::pipeline

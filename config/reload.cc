#include "config/reload.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/option_fields.h"

namespace taskwal::config {
namespace {

template <typename List>
bool Has(const List& list, std::string_view one) {
  return std::find(list.begin(), list.end(), one) != list.end();
}

// Keys that turn together.
struct Knob {
  std::vector<std::string_view> keys;
  // To the file's values where those keys have changed: `changed`. What others have turned stays
  // where the file says of it what it said. Null where it works without a log, too.
  Status (*turn)(const DaemonConfig& config, const std::vector<std::string>& changed,
                 Control& control);
};

constexpr std::string_view kRateLimit = "buffer.rate_limit";
constexpr std::string_view kPolicy = "buffer.backpressure_strategy";
constexpr std::string_view kSampleOneIn = "buffer.sample_one_in";
constexpr std::string_view kLogLevel = "log.level";

// A burst belongs to the rate that it was given with.
Status TurnRate(const DaemonConfig& config, const std::vector<std::string>& changed,
                Control& control) {
  const Options& file = config.options;
  return control.SetRate(
      Has(changed, kRateLimit) ? file.rate_limit : control.FlowControl().rate_limit,
      file.rate_burst);
}

Status TurnPolicy(const DaemonConfig& config, const std::vector<std::string>& changed,
                  Control& control) {
  const Options& file = config.options;
  const FlowControlSnapshot now = control.FlowControl();
  return control.SetPolicy(
      Has(changed, kPolicy) ? file.backpressure_strategy : now.policy,
      Has(changed, kSampleOneIn) ? file.sample_one_in : now.sample_one_in);
}

Status TurnWorkers(const DaemonConfig& config, const std::vector<std::string>& /*changed*/,
                   Control& control) {
  return control.SetWorkerCount(config.options.worker_count);
}

const std::vector<Knob>& Knobs() {
  static const std::vector<Knob> knobs{
      {{kRateLimit, "buffer.rate_burst"}, &TurnRate},
      {{kPolicy, kSampleOneIn}, &TurnPolicy},
      {{"worker_pool.num_workers"}, &TurnWorkers},
      {{kLogLevel}, nullptr},
  };
  return knobs;
}

bool IsSameTarget(const TargetOptions& a, const TargetOptions& b) {
  return a.name == b.name && a.dsn == b.dsn && a.weight == b.weight;
}

std::vector<std::string> Differences(const DaemonConfig& a, const DaemonConfig& b) {
  std::vector<std::string> paths;
  for (const ConfigKey& key : ConfigKeys()) {
    if (GetConfig(a, key) != GetConfig(b, key)) paths.push_back(key.path());
  }
  if (a.database != b.database) paths.emplace_back("database");
  const auto& of_a = a.options.targets;
  const auto& of_b = b.options.targets;
  if (!std::equal(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(), &IsSameTarget)) {
    paths.emplace_back("targets");
  }
  return paths;
}

// Those keys' values, as they are there.
Status CopyKeys(const std::vector<std::string>& paths, const DaemonConfig& from,
                DaemonConfig* to) {
  for (const ConfigKey& key : ConfigKeys()) {
    if (!Has(paths, key.path())) continue;
    const std::string value = GetConfig(from, key);
    TASKWAL_TRY(key.option.empty() ? key.set(to, value)
                                   : pipeline::SetOption(&to->options, key.option, value));
  }
  return Status::Ok();
}

}  // namespace

std::vector<std::string> RunTimeKeys() {
  std::vector<std::string> paths;
  for (const ConfigKey& key : ConfigKeys()) {
    const auto turns = [&](const Knob& knob) { return Has(knob.keys, key.path()); };
    if (std::any_of(Knobs().begin(), Knobs().end(), turns)) paths.push_back(key.path());
  }
  return paths;
}

void SetLogLevel(const std::string& level) {
  if (std::getenv("TASKWAL_LOG") == nullptr) {
    Logger().set_level(spdlog::level::from_str(level));
  }
}

Reloader::Reloader(std::string file, const DaemonConfig& read, const DaemonConfig& in_force)
    : file_(std::move(file)), in_force_(in_force), kept_(Differences(read, in_force)) {}

Result<ReloadReport> Reloader::Reload(Control* control) {
  TASKWAL_ASSIGN(DaemonConfig fresh, LoadConfig(file_));
  TASKWAL_TRY(CopyKeys(kept_, in_force_, &fresh));
  ReloadReport report{{}, Differences(in_force_, fresh)};
  for (const Knob& knob : Knobs()) {
    std::vector<std::string> turned;
    for (const std::string& path : report.need_restart) {
      if (Has(knob.keys, path)) turned.push_back(path);
    }
    if (turned.empty() || (knob.turn != nullptr && control == nullptr)) continue;
    if (knob.turn != nullptr) TASKWAL_TRY(knob.turn(fresh, turned, *control));
    TASKWAL_TRY(CopyKeys(turned, fresh, &in_force_));
    std::erase_if(report.need_restart, [&](const std::string& path) { return Has(turned, path); });
    report.applied.insert(report.applied.end(), turned.begin(), turned.end());
  }
  SetLogLevel(in_force_.log_level);
  return report;
}

}  // namespace taskwal::config

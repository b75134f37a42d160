// Every key there is, by group.
#include <charconv>

#include "base/status_macros.h"
#include "config/daemon_config.h"
#include "pipeline/option_fields.h"

namespace taskwal::config {
namespace {

constexpr std::string_view kLogLevels[] = {"debug", "info", "warn", "error", "off"};

Status SetListen(DaemonConfig* config, std::string_view value) {
  config->server.listen = std::string(value);
  return Status::Ok();
}
std::string GetListen(const DaemonConfig& config) { return config.server.listen; }

Status SetToken(DaemonConfig* config, std::string_view value) {
  config->server.token = std::string(value);
  return Status::Ok();
}
std::string GetToken(const DaemonConfig& config) { return config.server.token; }

Status SetMaxBody(DaemonConfig* config, std::string_view value) {
  TASKWAL_ASSIGN(config->server.max_body, pipeline::ParseSize(value));
  if (config->server.max_body >= 1024 && config->server.max_body <= (4096ull << 20)) {
    return Status::Ok();
  }
  return Status::InvalidArgument("must be 1KiB to 4GiB");
}
std::string GetMaxBody(const DaemonConfig& config) {
  return std::to_string(config.server.max_body);
}

// A whole number within the bounds, or what it must be.
Result<std::uint64_t> ReadCount(std::string_view text, std::uint64_t low, std::uint64_t high) {
  std::uint64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, count);
  if (read.ec == std::errc{} && read.ptr == end && count >= low && count <= high) return count;
  return Status::InvalidArgument("must be a whole number from " + std::to_string(low) + " to " +
                                 std::to_string(high));
}

Status SetMaxSegments(DaemonConfig* config, std::string_view value) {
  TASKWAL_ASSIGN(config->max_segments, ReadCount(value, 0, 1'000'000));
  return Status::Ok();
}
std::string GetMaxSegments(const DaemonConfig& config) {
  return std::to_string(config.max_segments);
}

Status SetThreads(DaemonConfig* config, std::string_view value) {
  TASKWAL_ASSIGN(const std::uint64_t threads, ReadCount(value, 1, 1024));
  config->server.threads = static_cast<std::uint32_t>(threads);
  return Status::Ok();
}
std::string GetThreads(const DaemonConfig& config) { return std::to_string(config.server.threads); }

Status SetReadTimeout(DaemonConfig* config, std::string_view value) {
  TASKWAL_ASSIGN(config->server.read_timeout, pipeline::ParseDuration(value));
  if (config->server.read_timeout >= std::chrono::milliseconds(10) &&
      config->server.read_timeout <= std::chrono::hours(1)) {
    return Status::Ok();
  }
  return Status::InvalidArgument("must be 10ms to 1h");
}
std::string GetReadTimeout(const DaemonConfig& config) {
  return pipeline::FormatDuration(config.server.read_timeout);
}

Status SetLogLevel(DaemonConfig* config, std::string_view value) {
  for (const std::string_view level : kLogLevels) {
    if (level == value) {
      config->log_level = std::string(value);
      return Status::Ok();
    }
  }
  return Status::InvalidArgument("must be debug, info, warn, error or off");
}
std::string GetLogLevel(const DaemonConfig& config) { return config.log_level; }

std::vector<ConfigKey> LogKeys() {
  return {
      {"wal", "dir", "wal_dir"},
      {"wal", "enabled", "wal_enabled"},
      {"wal", "durability", "durability"},
      {"wal", "ring_size", "ring_bytes"},
      {"wal", "segment_size", "segment_bytes"},
      {"wal", "segment_records", "max_segment_size"},
      {"wal", "frame_size", "frame_bytes"},
      {"wal", "compression", "compression"},
      {"wal", "sync_lanes", "sync_lanes"},
      {"wal", "io_uring", "io_uring"},
      {"wal", "sync_interval", "sync_interval"},
      {"wal", "quota", "quota_bytes"},
      {"wal", "max_segments", "", &SetMaxSegments, &GetMaxSegments},
      {"wal", "retention_size", "retention_bytes"},
      {"wal", "retention_age", "segment_retention"},
      {"wal", "partitions", "partitions"},
      {"buffer", "size", "max_unflushed_records"},
      {"buffer", "bytes", "max_unflushed_bytes"},
      {"buffer", "max_record_size", "max_record_bytes"},
      {"buffer", "backpressure_strategy", "backpressure_strategy"},
      {"buffer", "block_timeout", "block_timeout"},
      {"buffer", "sample_one_in", "sample_one_in"},
      {"buffer", "waiting_room", "waiting_room"},
      {"buffer", "rate_limit", "rate_limit"},
      {"buffer", "rate_burst", "rate_burst"},
      {"buffer", "rate_window", "rate_window"},
      {"buffer", "min_activity_level", "min_activity_level"},
      {"buffer", "protect_terminal_status", "protect_terminal_status"},
  };
}

std::vector<ConfigKey> FlushKeys() {
  return {
      {"worker_pool", "num_workers", "worker_count"},
      {"worker_pool", "queue_size", "memory_bytes"},
      {"worker_pool", "job_timeout", "batch_timeout"},
      {"worker_pool", "work_stealing", "work_stealing"},
      {"worker_pool", "flush_records", "max_buffer_size"},
      {"worker_pool", "flush_interval", "flush_interval"},
      {"worker_pool", "flush_linger", "flush_linger"},
      {"worker_pool", "batch_size", "batch_size"},
      {"worker_pool", "batch_bytes", "batch_bytes"},
      {"worker_pool", "target_latency", "target_latency"},
      {"worker_pool", "batch_size_min", "batch_size_min"},
      {"worker_pool", "batch_size_max", "batch_size_max"},
      {"worker_pool", "batch_adjustment", "batch_adjustment"},
      {"worker_pool", "batch_evaluation_interval", "batch_evaluation_interval"},
      {"worker_pool", "throughput_target", "throughput_target"},
      {"connection_pool", "max_open_conns", "max_open_conns"},
      {"connection_pool", "max_idle_conns", "max_idle_conns"},
      {"connection_pool", "conn_max_lifetime", "conn_max_lifetime"},
      {"retry", "max_retries", "max_flush_retries"},
      {"retry", "strategy", "backoff_strategy"},
      {"retry", "initial_backoff", "initial_backoff"},
      {"retry", "max_backoff", "max_backoff"},
      {"retry", "multiplier", "backoff_multiplier"},
      {"retry", "jitter", "backoff_jitter"},
      {"circuit_breaker", "failure_threshold", "breaker_failures"},
      {"circuit_breaker", "error_rate", "breaker_error_rate"},
      {"circuit_breaker", "min_requests", "breaker_min_requests"},
      {"circuit_breaker", "interval", "breaker_window"},
      {"circuit_breaker", "timeout", "breaker_open_time"},
      {"circuit_breaker", "max_requests", "breaker_trials"},
      {"circuit_breaker", "trial_interval", "breaker_trial_interval"},
      {"dead_letter", "enabled", "dead_letter_enabled"},
      {"dead_letter", "max_size", "dead_letter_count_max"},
      {"dead_letter", "max_bytes", "dead_letter_bytes_max"},
      {"dead_letter", "max_age", "dead_letter_age_max"},
  };
}

std::vector<ConfigKey> LifeKeys() {
  return {
      {"reliability", "database_timeout", "database_timeout"},
      {"reliability", "health_check_interval", "health_check_interval"},
      {"reliability", "enable_recovery", "enable_recovery"},
      {"reliability", "recovery_timeout", "recovery_timeout"},
      {"reliability", "shutdown_timeout", "shutdown_timeout"},
      {"reliability", "monitoring_interval", "monitoring_interval"},
      {"reliability", "pressure_records", "pressure_records"},
      {"reliability", "pressure_latency", "pressure_latency"},
      {"reliability", "pressure_error_rate", "pressure_error_rate"},
      {"reliability", "pressure_inflow", "pressure_inflow"},
      {"reliability", "adaptive_thresholds", "adaptive_thresholds"},
      {"reliability", "recovery_factor", "recovery_factor"},
      {"reliability", "emergency_enabled", "emergency_enabled"},
      {"reliability", "emergency_throttle", "emergency_throttle"},
      {"reliability", "emergency_error_rate", "emergency_error_rate"},
      {"server", "listen", "", &SetListen, &GetListen},
      {"server", "token", "", &SetToken, &GetToken},
      {"server", "max_body", "", &SetMaxBody, &GetMaxBody},
      {"server", "threads", "", &SetThreads, &GetThreads},
      {"server", "read_timeout", "", &SetReadTimeout, &GetReadTimeout},
      {"log", "level", "", &SetLogLevel, &GetLogLevel},
      {"log", "metrics", "enable_metrics"},
      {"log", "metrics_interval", "metrics_interval"},
  };
}

}  // namespace

std::string ConfigKey::path() const { return std::string(group) + "." + std::string(name); }

const std::vector<ConfigKey>& ConfigKeys() {
  static const std::vector<ConfigKey> keys = [] {
    std::vector<ConfigKey> all;
    for (const auto& part : {LogKeys(), FlushKeys(), LifeKeys()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return keys;
}

const std::vector<DeclinedKey>& DeclinedKeys() {
  static const std::vector<DeclinedKey> keys = {
      {"buffer.type",
       "there is one buffer, the log's, and it outlives its process; wal.durability: memory is for "
       "records that need not"},
      {"dead_letter.dir",
       "dead letters are a part of the log, which brings again what has none: they are in "
       "dead-letters, below wal.dir"},
  };
  return keys;
}

std::string GetConfig(const DaemonConfig& config, const ConfigKey& key) {
  return key.option.empty() ? key.get(config) : pipeline::GetOption(config.options, key.option);
}

}  // namespace taskwal::config

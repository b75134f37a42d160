// The daemon's configuration: one YAML file of groups and keys, each mapped onto a field of Options
// or of the daemon. docs/OPERATIONS.md has the table, examples/config/annotated.yaml every key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/server_options.h"
#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::config {

struct DaemonConfig {
  Options options;       // targets included, their DSNs as written
  std::string database;  // the one DSN, as written (@FILE too); empty where there are targets
  // Sets options.quota_bytes to so many segments; 0: not given.
  std::uint64_t max_segments = 0;
  server::ServerOptions server;
  std::string log_level = "info";
};

// A key of a group. Those that map onto a field of Options have its name.
struct ConfigKey {
  std::string_view group;
  std::string_view name;
  std::string_view option;  // as in pipeline/option_fields.h; empty: of the daemon
  Status (*set)(DaemonConfig* config, std::string_view value) = nullptr;  // where option is empty
  std::string (*get)(const DaemonConfig& config) = nullptr;

  [[nodiscard]] std::string path() const;  // "wal.segment_size"
};

const std::vector<ConfigKey>& ConfigKeys();

// A key that files of such tools often have, and that would break a promise here: refused, with
// what to say instead.
struct DeclinedKey {
  std::string_view path;
  std::string_view why;
};

const std::vector<DeclinedKey>& DeclinedKeys();
// Value as the file would say it.
std::string GetConfig(const DaemonConfig& config, const ConfigKey& key);

// kInvalidArgument names file and line: a key that is unknown (and the nearest one) or given
// twice, a value of the wrong type or out of bounds. kNotFound: no such file.
Result<DaemonConfig> LoadConfig(const std::string& file);
Result<DaemonConfig> ParseConfig(std::string_view text, const std::string& file);

}  // namespace taskwal::config

// Parses configuration files. What is taken can be shown, every key of it. In half of the cases
// keys that there are, with some value or their own, are put into a file or make a new one, instead
// of its bytes being changed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "config/daemon_config.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

namespace {

constexpr std::string_view kValues[] = {"0",     "1",    "16",      "64MiB", "500ms", "24h",
                                        "true",  "off",  "process", "auto",  "[]",    "\"\"",
                                        "1e999", "-1",   "0.5",     "{}"};

// Puts the key into its group, which is made where there is none.
std::string WithKey(std::string text, const taskwal::config::ConfigKey& key,
                    std::string_view value) {
  const std::string line = std::string(key.name) + ": " + std::string(value) + "\n";
  if (key.group.empty()) return line + text;
  const std::string group = std::string(key.group) + ":\n";
  const std::size_t found = text.find(group);
  if (found == std::string::npos) return group + "  " + line + text;
  return text.insert(found + group.size(), "  " + line);
}

std::string ValueFor(const taskwal::config::ConfigKey& key, taskwal::Random& random) {
  static const taskwal::config::DaemonConfig defaults;
  if (random.OneIn(8)) return std::string(kValues[random.Below(std::size(kValues))]);
  const std::string value = taskwal::config::GetConfig(defaults, key);
  return value == "0" ? "1" : value;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned int seed) {
  taskwal::Random random(seed);
  if (random.OneIn(2)) return LLVMFuzzerMutate(data, size, size_max);
  const auto& keys = taskwal::config::ConfigKeys();
  const bool is_new = random.OneIn(2);
  std::string text(reinterpret_cast<const char*>(data), is_new ? 0 : size);
  for (int left = is_new ? 8 : 1; left > 0; --left) {
    const auto& key = keys[random.Below(keys.size())];
    text = WithKey(std::move(text), key, ValueFor(key, random));
  }
  const std::size_t taken = std::min(text.size(), size_max);
  std::memcpy(data, text.data(), taken);
  return taken;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = taskwal::config::ParseConfig(text, "fuzz.yaml");
  if (!config.ok()) {
    TASKWAL_CHECK(!config.status().message().empty());
    return 0;
  }
  for (const auto& key : taskwal::config::ConfigKeys()) {
    static_cast<void>(taskwal::config::GetConfig(*config, key));
  }
  return 0;
}

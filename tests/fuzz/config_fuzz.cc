// Parses configuration files. What is taken can be shown, every key of it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "config/daemon_config.h"

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

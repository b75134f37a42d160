// Writes workflows for tests: WfFormat as real engines write it, with everything that is odd in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace taskwal {

enum class WfVersion : std::uint8_t { k14, k15 };

struct WfFormatOptions {
  std::size_t fan_out = 1000;     // one task, then these, then one that waits for all
  WfVersion version = WfVersion::k15;
  std::string executed_at = "20200404T002403+0000";
  double runtime_seconds = 0.25;  // of every task
};

// The spellings of executedAt that real files have.
std::vector<std::string> DateForms();
// fan_out + 2 tasks; some edges are given as parents, some as children, some as both.
std::string MakeWfFormat(const WfFormatOptions& options);
// The ids it uses: the n-th of the fan, with spaces, quotes, slashes, other scripts, 255 bytes, …
std::string OddId(std::size_t n);

}  // namespace taskwal

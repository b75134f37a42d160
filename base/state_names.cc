// The words of taskwal/stats.h and taskwal/control.h.
#include <array>
#include <string_view>

#include "taskwal/control.h"
#include "taskwal/stats.h"

namespace taskwal {
namespace {

constexpr std::array<std::string_view, 4> kOverflows = {"block", "drop_oldest", "drop_newest",
                                                        "sample"};
constexpr std::array<std::string_view, 3> kPressures = {"normal", "pressure", "emergency"};
constexpr std::array<std::string_view, kDropReasons> kReasons = {"newest", "oldest",  "sampled",
                                                                 "shed",   "timeout", "too_large"};

template <std::size_t kSize, typename Enum>
std::string_view NameIn(const std::array<std::string_view, kSize>& names, Enum value) {
  const auto index = static_cast<std::size_t>(value);
  return index < kSize ? names[index] : "unknown";
}

}  // namespace

std::string_view OverflowName(Overflow policy) { return NameIn(kOverflows, policy); }
std::string_view PressureName(Pressure state) { return NameIn(kPressures, state); }
std::string_view DropReasonName(DropReason reason) { return NameIn(kReasons, reason); }

}  // namespace taskwal

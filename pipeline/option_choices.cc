#include "pipeline/option_choices.h"

#include <array>
#include <string>

namespace taskwal {
namespace {

constexpr std::array<std::string_view, 3> kBackoffs = {"exponential", "linear", "constant"};

template <std::size_t kSize, typename Enum>
std::string_view NameIn(const std::array<std::string_view, kSize>& names, Enum value) {
  const auto index = static_cast<std::size_t>(value);
  return index < kSize ? names[index] : "unknown";
}

template <typename Enum, std::size_t kSize>
Result<Enum> ParseIn(const std::array<std::string_view, kSize>& names, std::string_view text) {
  std::string all;
  for (std::size_t i = 0; i < kSize; ++i) {
    if (names[i] == text) return static_cast<Enum>(i);
    all += (i == 0 ? "" : i + 1 == kSize ? " or " : ", ") + std::string(names[i]);
  }
  return Status::InvalidArgument("\"" + std::string(text) + "\" is not " + all);
}

}  // namespace

namespace pipeline {

std::string_view BackoffName(Backoff strategy) { return NameIn(kBackoffs, strategy); }
Result<Overflow> ParseOverflow(std::string_view text) {
  const std::array names = {OverflowName(Overflow::kBlock), OverflowName(Overflow::kDropOldest),
                            OverflowName(Overflow::kDropNewest), OverflowName(Overflow::kSample)};
  return ParseIn<Overflow>(names, text);
}
Result<Backoff> ParseBackoff(std::string_view text) { return ParseIn<Backoff>(kBackoffs, text); }

}  // namespace pipeline
}  // namespace taskwal

#include "base/nearest_name.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

namespace taskwal {
namespace {

// Levenshtein's distance, where a swap of two neighbours counts one: a row at a time.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::vector<std::size_t> next(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    next[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      next[j + 1] = std::min({row[j] + (a[i] == b[j] ? 0 : 1), next[j] + 1, row[j + 1] + 1});
      const bool is_swap = i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j];
      if (is_swap) next[j + 1] = std::min(next[j + 1], before[j - 1] + 1);
    }
    before.swap(row);
    row.swap(next);
  }
  return row.back();
}

}  // namespace

std::string_view NearestName(std::string_view name, std::span<const std::string_view> known) {
  const auto nearest =
      std::min_element(known.begin(), known.end(), [name](std::string_view a, std::string_view b) {
        return EditDistance(name, a) < EditDistance(name, b);
      });
  return nearest == known.end() ? std::string_view() : *nearest;
}

std::string DidYouMean(std::string_view name, std::span<const std::string_view> known,
                       std::string_view prefix) {
  const std::string_view nearest = NearestName(name, known);
  const std::size_t slips_max = std::max<std::size_t>(1, name.size() / 3);
  if (nearest.empty() || EditDistance(name, nearest) > slips_max) return {};
  return "; did you mean \"" + std::string(prefix) + std::string(nearest) + "\"?";
}

}  // namespace taskwal

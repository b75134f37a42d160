#include "bench/comparison.h"

#include <algorithm>
#include <cmath>

namespace taskwal::bench {

Status CheckGoesOn(const Settings& settings) {
  return settings.stop.stop_requested() ? Status::Unavailable("stopped before the end")
                                        : Status::Ok();
}

void Comparison::Add(double our, double their) {
  ours.push_back(our);
  if (!yardstick.empty()) theirs.push_back(their);
}

std::vector<double> Comparison::ratios() const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    ratios.push_back(theirs[i] > 0 ? ours[i] / theirs[i] : 0);
  }
  return ratios;
}

bool Comparison::is_met() const {
  const double figure = MedianOf(yardstick.empty() ? ours : ratios());
  switch (goal.kind) {
    case Goal::Kind::kAtLeast:
      return figure >= goal.bound;
    case Goal::Kind::kAtMost:
      return figure <= goal.bound;
    case Goal::Kind::kNone:
      break;
  }
  return true;
}

double MedianOf(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double Percentile(std::vector<double>* values, double fraction) {
  if (values->empty()) return 0;
  std::sort(values->begin(), values->end());
  const auto rank = static_cast<std::size_t>(fraction * static_cast<double>(values->size()));
  return (*values)[std::min(rank, values->size() - 1)];
}

}  // namespace taskwal::bench

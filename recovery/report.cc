#include "recovery/report.h"

#include <algorithm>

namespace taskwal::recovery {

bool ScanReport::damaged() const {
  return !lost.empty() || std::any_of(findings.begin(), findings.end(),
                                      [](const Finding& f) { return IsDamage(f.verdict); });
}

}  // namespace taskwal::recovery

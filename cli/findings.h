// What a scan of a log found, as `verify` and `inspect` tell it.
#pragma once

#include <string>
#include <vector>

#include "recovery/report.h"

namespace taskwal::cli {

std::string RangeText(const wal::LsnRange& range);  // "LSN 3", "LSN 3-7"
std::string FindingLine(const recovery::Finding& finding);
// A JSON array. What stands in a damaged file may end up in a detail; the text is UTF-8 in any
// case.
std::string FindingsJson(const std::vector<recovery::Finding>& findings);

}  // namespace taskwal::cli

// One GET of a daemon's HTTP interface.
#pragma once

#include <string>

#include "taskwal/status.h"

namespace taskwal::cli {

// `url`: "http://host:port", with or without a path, which `path` is put behind. A token that is
// not empty is sent as bearer. kInvalidArgument: no such URL. kUnavailable: no answer, or none of
// 200; the message says which.
Result<std::string> HttpGet(const std::string& url, const std::string& path,
                            const std::string& token);

}  // namespace taskwal::cli

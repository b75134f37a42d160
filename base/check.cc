#include "base/check.h"

#include <cstdlib>

#include "base/logging.h"

namespace taskwal {

void CheckFailed(const char* file, int line, const char* expression) {
  Logger().critical("check failed file={} line={} expression=\"{}\"", file, line, expression);
  Logger().flush();
  std::abort();
}

}  // namespace taskwal

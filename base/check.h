// TASKWAL_CHECK guards against bugs in our own code. It stays on in release and is never reachable
// by input, disk contents or a database.
#pragma once

namespace taskwal {

[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);

}  // namespace taskwal

#define TASKWAL_CHECK(expression)                                                  \
  do {                                                                             \
    if (!(expression)) [[unlikely]]                                                \
      ::taskwal::CheckFailed(__FILE__, __LINE__, #expression);                     \
  } while (false)

// Passing a Status up. For .cc files only.
#pragma once

#include "taskwal/status.h"

#define TASKWAL_CONCAT_INNER(a, b) a##b
#define TASKWAL_CONCAT(a, b) TASKWAL_CONCAT_INNER(a, b)

// TASKWAL_TRY(expr): returns from the function when the Status of `expr` is not OK.
#define TASKWAL_TRY(expr)                                    \
  do {                                                       \
    ::taskwal::Status taskwal_try_status = (expr);           \
    if (!taskwal_try_status.ok()) return taskwal_try_status; \
  } while (false)

// TASKWAL_ASSIGN(auto x, expr): the value of the Result, or returns its Status.
#define TASKWAL_ASSIGN(declaration, expr) \
  TASKWAL_ASSIGN_IMPL(TASKWAL_CONCAT(taskwal_result_, __LINE__), declaration, expr)
#define TASKWAL_ASSIGN_IMPL(result, declaration, expr) \
  auto result = (expr);                                \
  if (!result.ok()) return result.status();            \
  declaration = std::move(result).value()

namespace taskwal {

// Drops a failure on purpose; `why` says why that is right.
inline void IgnoreStatus(const Status& /*status*/, const char* /*why*/) {}

}  // namespace taskwal

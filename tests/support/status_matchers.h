// Assertions on Status and Result.
//   ASSERT_OK(log.Close());
//   ASSERT_OK_AND_ASSIGN(auto file, fs.OpenReadable(path));
//   EXPECT_THAT(fs.Stat(path), StatusIs(StatusCode::kNotFound));
//   EXPECT_THAT(fs.Lock(path), StatusIs(StatusCode::kUnavailable, HasSubstr("process")));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <utility>

#include "taskwal/status.h"

namespace taskwal {

inline const Status& StatusOf(const Status& status) { return status; }
template <typename T>
const Status& StatusOf(const Result<T>& result) {
  return result.status();
}

template <typename T>
::testing::AssertionResult IsOk(const T& outcome) {
  if (StatusOf(outcome).ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << StatusOf(outcome).ToString();
}

// Found by GoogleTest when it prints a value.
inline void PrintTo(const Status& status, std::ostream* out) { *out << status.ToString(); }
inline void PrintTo(StatusCode code, std::ostream* out) { *out << StatusCodeName(code); }
template <typename T>
void PrintTo(const Result<T>& result, std::ostream* out) {
  *out << (result.ok() ? "a value" : result.status().ToString());
}

MATCHER_P(StatusIs, code, "") { return StatusOf(arg).code() == code; }

MATCHER_P2(StatusIs, code, message, "") {
  return StatusOf(arg).code() == code &&
         ::testing::ExplainMatchResult(message, StatusOf(arg).message(), result_listener);
}

}  // namespace taskwal

#define EXPECT_OK(expression) EXPECT_TRUE(::taskwal::IsOk(expression))
#define ASSERT_OK(expression) ASSERT_TRUE(::taskwal::IsOk(expression))

#define TASKWAL_TEST_CONCAT_INNER(a, b) a##b
#define TASKWAL_TEST_CONCAT(a, b) TASKWAL_TEST_CONCAT_INNER(a, b)
#define ASSERT_OK_AND_ASSIGN(declaration, expression) \
  ASSERT_OK_AND_ASSIGN_IMPL(TASKWAL_TEST_CONCAT(outcome_, __LINE__), declaration, expression)
#define ASSERT_OK_AND_ASSIGN_IMPL(outcome, declaration, expression) \
  auto outcome = (expression);                                      \
  ASSERT_OK(outcome);                                               \
  declaration = std::move(outcome).value()

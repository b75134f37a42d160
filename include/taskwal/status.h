// Status and Result: how every taskwal call reports failure. No exception leaves the library.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace taskwal {

// Each code names the caller's next move. Never branch on the message text.
enum class StatusCode : std::uint8_t {
  kOk = 0,
  kInvalidArgument,  // fix the call
  kNotFound,         // nothing there
  kOverloaded,       // slow down and try again; nothing of the call was kept
  kUnavailable,      // retry with backoff
  kInDoubt,          // it has an LSN and may still take effect: read, then decide
  kRejected,         // this row can never be taken: dead-letter it
  kFenced,           // stop: another owner has taken over, or this directory is a copy
  kCorruption,       // damage found and reported; `taskwal recover --salvage` may bring more
  kIoError,          // the log is read-only
  kClosed,           // stop: the object is closed
};

// "kOverloaded" and so on.
std::string_view StatusCodeName(StatusCode code);

// A code and a one-line message: what was attempted, where, and the OS or SQL code. Never holds a
// password or a payload. Copyable, movable, usable from any thread once built. OK allocates
// nothing.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }
  static Status InvalidArgument(std::string m) {
    return {StatusCode::kInvalidArgument, std::move(m)};
  }
  static Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status Overloaded(std::string m) { return {StatusCode::kOverloaded, std::move(m)}; }
  static Status Unavailable(std::string m) { return {StatusCode::kUnavailable, std::move(m)}; }
  static Status InDoubt(std::string m, std::uint64_t lsn) {
    Status s{StatusCode::kInDoubt, std::move(m)};
    s.lsn_ = lsn;
    return s;
  }
  static Status Rejected(std::string m) { return {StatusCode::kRejected, std::move(m)}; }
  static Status Fenced(std::string m) { return {StatusCode::kFenced, std::move(m)}; }
  static Status Corruption(std::string m) { return {StatusCode::kCorruption, std::move(m)}; }
  static Status IoError(std::string m) { return {StatusCode::kIoError, std::move(m)}; }
  static Status Closed(std::string m) { return {StatusCode::kClosed, std::move(m)}; }

  [[nodiscard]] bool ok() const { return code_ == StatusCode::kOk; }
  [[nodiscard]] StatusCode code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }
  // The LSN that a kInDoubt call was given; 0 with every other code.
  [[nodiscard]] std::uint64_t lsn() const { return lsn_; }
  // "kOverloaded: the log is full", or "ok".
  [[nodiscard]] std::string ToString() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::uint64_t lsn_ = 0;
  std::string message_;
};

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}              // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {       // NOLINT(google-explicit-constructor)
    if (status_.ok()) status_ = Status(StatusCode::kInvalidArgument, "Result made of an OK status");
  }

  [[nodiscard]] bool ok() const { return value_.has_value(); }
  [[nodiscard]] const Status& status() const { return status_; }

  // Only when ok(); anything else is a bug in the caller (undefined).
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace taskwal

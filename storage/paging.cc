#include "storage/paging.h"

#include <charconv>

#include "storage/backend.h"

namespace taskwal::storage {
namespace {

constexpr std::size_t kTimeDigits = 16;
constexpr std::string_view kDigits = "0123456789abcdef";

std::optional<std::uint8_t> ByteAt(std::string_view hex) {
  std::uint8_t value = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + 2, value, 16);
  if (error != std::errc() || end != hex.data() + 2) return std::nullopt;
  return value;
}

}  // namespace

// Hexadecimal throughout: 16 digits of the time in microseconds, then the id's bytes. An id may
// hold anything; the token is safe in a shell and in a URL.
std::string MakePageToken(Time created_at, std::string_view id) {
  const auto micros = static_cast<std::uint64_t>(created_at.time_since_epoch().count());
  std::string token(kTimeDigits, '0');
  for (std::size_t i = 0; i < kTimeDigits; ++i) token[i] = kDigits[(micros >> (60 - 4 * i)) & 15];
  for (const char c : id) {
    const auto byte = static_cast<std::uint8_t>(c);
    token += kDigits[byte >> 4];
    token += kDigits[byte & 15];
  }
  return token;
}

std::optional<std::pair<Time, std::string>> ParsePageToken(std::string_view token) {
  if (token.size() < kTimeDigits || token.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < token.size(); i += 2) {
    const auto byte = ByteAt(token.substr(i, 2));
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
  }
  std::uint64_t micros = 0;
  for (std::size_t i = 0; i < kTimeDigits / 2; ++i) {
    micros = micros << 8 | static_cast<std::uint8_t>(bytes[i]);
  }
  return std::pair(Time(std::chrono::microseconds(static_cast<std::int64_t>(micros))),
                   bytes.substr(kTimeDigits / 2));
}

Result<PageStart> ParsePaging(const Paging& paging) {
  if (paging.limit < 1 || paging.limit > kPageLimitMax) {
    return Status::InvalidArgument("limit " + std::to_string(paging.limit) +
                                   " is not within 1 to 10,000");
  }
  if (paging.after.empty()) return PageStart();
  auto start = ParsePageToken(paging.after);
  if (!start) return Status::InvalidArgument("the page token is none that a query gave");
  return PageStart(std::move(start));
}

std::vector<TaskStatus> TerminalOf(std::span<const TaskStatus> statuses) {
  if (statuses.empty()) {
    return {TaskStatus::kCompleted, TaskStatus::kFailed, TaskStatus::kCancelled};
  }
  std::vector<TaskStatus> terminal;
  for (const TaskStatus status : statuses) {
    if (IsTerminal(status)) terminal.push_back(status);
  }
  return terminal;
}

}  // namespace taskwal::storage

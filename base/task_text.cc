// Names and times of the data model (taskwal/task.h) as text.
#include <algorithm>
#include <array>
#include <span>

#include "base/time_text.h"
#include "taskwal/task.h"

namespace taskwal {
namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_days;
using std::chrono::year;

constexpr std::array<std::string_view, 5> kStatusNames = {"pending", "running", "completed",
                                                          "failed", "cancelled"};
constexpr std::array<std::string_view, 5> kLevelNames = {"debug", "info", "warn", "error", "fatal"};

// RFC 3339 has four digits for a year.
constexpr Time kTimeMin = sys_days(year(0) / 1 / 1);
constexpr Time kTimeMax = sys_days(year(9999) / 12 / 31) + days(1) - microseconds(1);

std::string_view NameAt(std::span<const std::string_view> names, std::size_t index) {
  return index < names.size() ? names[index] : "unknown";
}

template <typename Enum>
std::optional<Enum> FindName(std::span<const std::string_view> names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

// `width` digits ending before `end`.
void PutDigits(char* end, std::int64_t value, int width) {
  for (int i = 0; i < width; ++i) {
    *--end = static_cast<char>('0' + value % 10);
    value /= 10;
  }
}

// Eats a text from the left; turns bad at the first mismatch and stays bad.
class TimeReader {
 public:
  explicit TimeReader(std::string_view text) : left_(text) {}

  int Digits(std::size_t count, int min, int max) {
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) value = value * 10 + Digit();
    if (value < min || value > max) ok_ = false;
    return value;
  }
  char OneOf(std::string_view allowed) {
    if (left_.empty() || allowed.find(left_[0]) == std::string_view::npos) {
      ok_ = false;
      return 0;
    }
    const char c = left_[0];
    left_.remove_prefix(1);
    return c;
  }
  // ".123456789" as microseconds; zero when there is no dot.
  microseconds Fraction() {
    if (left_.empty() || left_[0] != '.') return microseconds(0);
    left_.remove_prefix(1);
    std::int64_t value = 0;
    std::size_t count = 0;
    for (; count < 9 && (count == 0 || NextIsDigit()); ++count) {
      const int digit = Digit();
      if (count < 6) value = value * 10 + digit;
    }
    for (; count < 6; ++count) value *= 10;
    return microseconds(value);
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool AtEnd() const { return ok_ && left_.empty(); }

 private:
  [[nodiscard]] bool NextIsDigit() const {
    return !left_.empty() && left_[0] >= '0' && left_[0] <= '9';
  }
  int Digit() {
    const char c = OneOf("0123456789");
    return c == 0 ? 0 : c - '0';
  }

  std::string_view left_;
  bool ok_ = true;
};

minutes ReadZone(TimeReader& text) {
  const char sign = text.OneOf("Zz+-");
  if (!text.ok() || sign == 'Z' || sign == 'z') return minutes(0);
  const hours whole(text.Digits(2, 0, 23));
  text.OneOf(":");
  const minutes offset = whole + minutes(text.Digits(2, 0, 59));
  return sign == '-' ? -offset : offset;
}

}  // namespace

std::string_view TaskStatusName(TaskStatus status) {
  return NameAt(kStatusNames, static_cast<std::size_t>(status));
}

std::optional<TaskStatus> ParseTaskStatus(std::string_view name) {
  return FindName<TaskStatus>(kStatusNames, name);
}

std::string_view LevelName(Level level) {
  return NameAt(kLevelNames, static_cast<std::size_t>(level));
}

std::optional<Level> ParseLevel(std::string_view name) {
  return FindName<Level>(kLevelNames, name);
}

void PutTime(Time time, TimeText* text) {
  time = std::clamp(time, kTimeMin, kTimeMax);
  const sys_days day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::int64_t micros = (time - day).count();
  const std::int64_t second = micros / 1000000;
  char* at = text->data();
  std::copy_n("0000-00-00T00:00:00.000000Z", text->size(), at);
  PutDigits(at + 4, static_cast<int>(date.year()), 4);
  PutDigits(at + 7, static_cast<unsigned>(date.month()), 2);
  PutDigits(at + 10, static_cast<unsigned>(date.day()), 2);
  PutDigits(at + 13, second / 3600, 2);
  PutDigits(at + 16, second / 60 % 60, 2);
  PutDigits(at + 19, second % 60, 2);
  PutDigits(at + 26, micros % 1000000, 6);
}

std::string FormatTime(Time time) {
  TimeText text;
  PutTime(time, &text);
  return {text.data(), text.size() - 1};
}

std::optional<Time> ParseTime(std::string_view text) {
  TimeReader in(text);
  const year y(in.Digits(4, 0, 9999));
  in.OneOf("-");
  const std::chrono::month m(static_cast<unsigned>(in.Digits(2, 1, 12)));
  in.OneOf("-");
  const std::chrono::day d(static_cast<unsigned>(in.Digits(2, 1, 31)));
  in.OneOf("Tt ");
  microseconds of_day = hours(in.Digits(2, 0, 23));
  in.OneOf(":");
  of_day += minutes(in.Digits(2, 0, 59));
  in.OneOf(":");
  of_day += seconds(in.Digits(2, 0, 60));  // 60: a leap second, told as the second after it
  of_day += in.Fraction();
  const minutes zone = ReadZone(in);
  const std::chrono::year_month_day date(y, m, d);
  if (!in.AtEnd() || !date.ok()) return std::nullopt;
  const Time time = sys_days(date) + of_day - zone;
  if (time < kTimeMin || time > kTimeMax) return std::nullopt;
  return time;
}

}  // namespace taskwal

#include "pipeline/option_fields.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <variant>

#include "base/nearest_name.h"
#include "base/status_macros.h"
#include "pipeline/option_choices.h"
#include "pipeline/option_table.h"

namespace taskwal::pipeline {
namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr std::uint64_t kKiB = 1u << 10;
constexpr std::uint64_t kMiB = 1u << 20;
constexpr std::uint64_t kTiB = 1ull << 40;
constexpr std::uint64_t kSecond = 1000;
constexpr std::uint64_t kHour = 3600 * kSecond;
constexpr std::uint64_t kYear = 366 * 24 * kHour;

const OptionEntry* FindEntry(std::string_view name) {
  const auto& entries = OptionTable();
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const OptionEntry& e) { return e.field.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

const std::vector<std::string_view>& Names() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> all;
    for (const OptionEntry& entry : OptionTable()) all.push_back(entry.field.name);
    return all;
  }();
  return names;
}

// The number that opens `text`, which is moved past it.
std::optional<std::uint64_t> TakeNumber(std::string_view* text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc()) return std::nullopt;
  text->remove_prefix(static_cast<std::size_t>(end - text->data()));
  return value;
}

std::optional<std::uint64_t> ParseCount(std::string_view text) {
  const auto value = TakeNumber(&text);
  return text.empty() ? value : std::nullopt;
}

struct Unit {
  std::string_view name;
  std::uint64_t scale;
};

constexpr std::array kDurationUnits = {Unit{"h", kHour}, Unit{"m", 60 * kSecond},
                                       Unit{"s", kSecond}, Unit{"ms", 1}};
constexpr std::array kByteUnits = {Unit{"TiB", kTiB}, Unit{"GiB", 1024 * kMiB}, Unit{"MiB", kMiB},
                                   Unit{"KiB", kKiB}};

// "64MiB", "64mb", "64m" and "67108864" are the same: units are powers of 1,024, in either case.
std::optional<std::uint64_t> ParseBytes(std::string_view text) {
  const auto value = TakeNumber(&text);
  if (!value) return std::nullopt;
  std::string unit(text);
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (unit.empty() || unit == "b") return value;
  for (const Unit& u : kByteUnits) {
    const char letter = static_cast<char>(std::tolower(static_cast<unsigned char>(u.name[0])));
    if (unit[0] != letter || !(unit.size() == 1 || unit.substr(1) == "b" || unit.substr(1) == "ib"))
      continue;
    if (*value > std::numeric_limits<std::uint64_t>::max() / u.scale) return std::nullopt;
    return *value * u.scale;
  }
  return std::nullopt;
}

// The largest unit that divides the value.
template <std::size_t kSize>
std::string WithUnit(std::uint64_t value, const std::array<Unit, kSize>& units,
                     std::string_view smallest) {
  for (const Unit& u : units) {
    if (value != 0 && value % u.scale == 0) {
      return std::to_string(value / u.scale) + std::string(u.name);
    }
  }
  return std::to_string(value) + (value == 0 ? std::string() : std::string(smallest));
}

std::optional<bool> ParseBool(std::string_view text) {
  if (text == "true" || text == "on" || text == "yes" || text == "1") return true;
  if (text == "false" || text == "off" || text == "no" || text == "0") return false;
  return std::nullopt;
}

std::optional<double> ParseFactor(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::string FormatFactor(double value) {
  char text[32];
  const auto result = std::to_chars(text, text + sizeof text, value);
  return {text, result.ptr};
}

std::string FormatNumber(std::uint64_t value, std::string_view unit) {
  if (unit == "bytes") return WithUnit(value, kByteUnits, "");
  if (unit == "duration") return FormatDuration(Milliseconds(value));
  return std::to_string(value);
}

// Takes a value of the member's type out of text; false where it does not fit.
struct Setter {
  Options* options;
  std::string_view unit;
  std::string_view text;

  bool operator()(std::string Options::*member) const {
    options->*member = std::string(text);
    return true;
  }
  bool operator()(bool Options::*member) const { return Store(member, ParseBool(text)); }
  bool operator()(double Options::*member) const { return Store(member, ParseFactor(text)); }
  bool operator()(Durability Options::*member) const {
    return StoreResult(member, ParseDurability(text));
  }
  bool operator()(Overflow Options::*member) const {
    return StoreResult(member, ParseOverflow(text));
  }
  bool operator()(Backoff Options::*member) const {
    return StoreResult(member, ParseBackoff(text));
  }
  bool operator()(Level Options::*member) const { return Store(member, ParseLevel(text)); }
  bool operator()(Milliseconds Options::*member) const {
    return StoreResult(member, ParseDuration(text));
  }
  bool operator()(std::uint64_t Options::*member) const {
    return Store(member, unit == "bytes" ? ParseBytes(text) : ParseCount(text));
  }
  bool operator()(std::uint32_t Options::*member) const {
    const auto value = ParseCount(text);
    if (!value || *value > std::numeric_limits<std::uint32_t>::max()) return false;
    options->*member = static_cast<std::uint32_t>(*value);
    return true;
  }

 private:
  template <typename T>
  bool Store(T Options::*member, std::optional<T> value) const {
    if (value) options->*member = *value;
    return value.has_value();
  }
  template <typename T>
  bool StoreResult(T Options::*member, Result<T> value) const {
    if (value.ok()) options->*member = *value;
    return value.ok();
  }
};

struct Getter {
  const Options& options;
  std::string_view unit;

  std::string operator()(std::string Options::*member) const { return options.*member; }
  std::string operator()(bool Options::*member) const { return options.*member ? "true" : "false"; }
  std::string operator()(double Options::*member) const { return FormatFactor(options.*member); }
  std::string operator()(Durability Options::*member) const {
    return std::string(DurabilityName(options.*member));
  }
  std::string operator()(Overflow Options::*member) const {
    return std::string(OverflowName(options.*member));
  }
  std::string operator()(Backoff Options::*member) const {
    return std::string(BackoffName(options.*member));
  }
  std::string operator()(Level Options::*member) const {
    return std::string(LevelName(options.*member));
  }
  std::string operator()(Milliseconds Options::*member) const {
    return FormatDuration(options.*member);
  }
  template <typename T>
  std::string operator()(T Options::*member) const {
    return FormatNumber(options.*member, unit);
  }
};

struct InBounds {
  const Options& options;
  std::uint64_t low, high;

  bool operator()(std::string Options::*) const { return true; }
  bool operator()(bool Options::*) const { return true; }
  bool operator()(Durability Options::*member) const {
    return options.*member <= Durability::kDisk;
  }
  bool operator()(Overflow Options::*member) const { return options.*member <= Overflow::kSample; }
  bool operator()(Backoff Options::*member) const { return options.*member <= Backoff::kConstant; }
  bool operator()(Level Options::*member) const { return options.*member <= Level::kFatal; }
  bool operator()(Milliseconds Options::*member) const {
    const auto count = (options.*member).count();
    return count >= 0 && Within(static_cast<std::uint64_t>(count));
  }
  bool operator()(double Options::*member) const {
    return options.*member >= static_cast<double>(low) &&
           options.*member <= static_cast<double>(high);
  }
  template <typename T>
  bool operator()(T Options::*member) const {
    return Within(options.*member);
  }

 private:
  [[nodiscard]] bool Within(std::uint64_t value) const { return value >= low && value <= high; }
};

std::string_view Expected(std::string_view unit) {
  if (unit == "bytes") return "a size such as 64MiB";
  if (unit == "duration") return "a duration such as 500ms, 30s or 2m";
  if (unit == "on/off") return "true or false";
  if (unit == "level") return "memory, process or disk";
  if (unit == "policy") return "block, drop_oldest, drop_newest or sample";
  if (unit == "growth") return "exponential, linear or constant";
  if (unit == "severity") return "debug, info, warn, error or fatal";
  if (unit == "factor") return "a number such as 2.0";
  return "a whole number";
}

}  // namespace

const std::vector<OptionField>& OptionFields() {
  static const std::vector<OptionField> fields = [] {
    std::vector<OptionField> all;
    for (const OptionEntry& entry : OptionTable()) all.push_back(entry.field);
    return all;
  }();
  return fields;
}

std::string GetOption(const Options& options, std::string_view name) {
  const OptionEntry* entry = FindEntry(name);
  if (entry == nullptr) return {};
  return std::visit(Getter{options, entry->field.unit}, entry->member);
}

Status SetOption(Options* options, std::string_view name, std::string_view value) {
  const OptionEntry* entry = FindEntry(name);
  if (entry == nullptr) {
    return Status::InvalidArgument("there is no option \"" + std::string(name) + "\"" +
                                   DidYouMean(name, Names()));
  }
  if (!std::visit(Setter{options, entry->field.unit, value}, entry->member)) {
    return Status::InvalidArgument(std::string(name) + "=" + std::string(value) + ": expected " +
                                   std::string(Expected(entry->field.unit)));
  }
  return Status::Ok();
}

Status CheckOptions(const Options& options) {
  for (const OptionEntry& entry : OptionTable()) {
    if (std::visit(InBounds{options, entry.low, entry.high}, entry.member)) continue;
    const std::string_view unit = entry.field.unit;
    return Status::InvalidArgument(
        std::string(entry.field.name) + " is " + GetOption(options, entry.field.name) +
        ", must be " + FormatNumber(entry.low, unit) + " to " + FormatNumber(entry.high, unit));
  }
  if (options.wal_enabled &&
      (options.wal_dir.empty() || options.wal_dir.find('\0') != std::string::npos)) {
    return Status::InvalidArgument("wal_dir must name a directory");
  }
  if (options.max_backoff < options.initial_backoff) {
    return Status::InvalidArgument("max_backoff is " + FormatDuration(options.max_backoff) +
                                   ", must be at least initial_backoff (" +
                                   FormatDuration(options.initial_backoff) + ")");
  }
  if (options.batch_size_max < options.batch_size_min) {
    return Status::InvalidArgument("batch_size_max is " + std::to_string(options.batch_size_max) +
                                   ", must be at least batch_size_min (" +
                                   std::to_string(options.batch_size_min) + ")");
  }
  return Status::Ok();
}

Result<std::uint64_t> ParseSize(std::string_view text) {
  if (const auto bytes = ParseBytes(text)) return *bytes;
  return Status::InvalidArgument("\"" + std::string(text) +
                                 "\" is no size: write 65536, 64KiB, 64MiB or 1GiB");
}

Result<Milliseconds> ParseDuration(std::string_view text) {
  const auto refuse = [text] {
    return Status::InvalidArgument("\"" + std::string(text) +
                                   "\" is no duration: write 500ms, 30s, 2m, 1h or 0");
  };
  if (text == "0") return Milliseconds(0);
  constexpr std::uint64_t kMax = 1000 * kYear;
  std::uint64_t total = 0;
  std::string_view rest = text;
  if (rest.empty()) return refuse();
  while (!rest.empty()) {
    const auto value = TakeNumber(&rest);
    const auto name = rest.substr(0, rest.find_first_of("0123456789"));
    const auto unit = std::find_if(kDurationUnits.begin(), kDurationUnits.end(),
                                   [&](const Unit& u) { return u.name == name; });
    if (!value || unit == kDurationUnits.end() || *value > kMax / unit->scale) return refuse();
    total += *value * unit->scale;
    if (total > kMax) return refuse();
    rest.remove_prefix(name.size());
  }
  return Milliseconds(total);
}

std::string FormatDuration(Milliseconds duration) {
  if (duration.count() < 0) return std::to_string(duration.count()) + "ms";
  return WithUnit(static_cast<std::uint64_t>(duration.count()), kDurationUnits, "ms");
}

Result<Durability> ParseDurability(std::string_view text) {
  for (const Durability level : {Durability::kMemory, Durability::kProcess, Durability::kDisk}) {
    if (DurabilityName(level) == text) return level;
  }
  return Status::InvalidArgument("\"" + std::string(text) +
                                 "\" is no durability level: memory, process or disk");
}

std::string_view DurabilityName(Durability level) {
  switch (level) {
    case Durability::kMemory:
      return "memory";
    case Durability::kProcess:
      return "process";
    case Durability::kDisk:
      return "disk";
  }
  return "unknown";
}

}  // namespace taskwal::pipeline

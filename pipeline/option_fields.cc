#include "pipeline/option_fields.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <variant>

#include "base/status_macros.h"

namespace taskwal::pipeline {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Member = std::variant<std::string Options::*, bool Options::*, Durability Options::*,
                            std::uint32_t Options::*, std::uint64_t Options::*,
                            Milliseconds Options::*, double Options::*>;

constexpr std::uint64_t kKiB = 1u << 10;
constexpr std::uint64_t kMiB = 1u << 20;
constexpr std::uint64_t kTiB = 1ull << 40;
constexpr std::uint64_t kSecond = 1000;
constexpr std::uint64_t kHour = 3600 * kSecond;
constexpr std::uint64_t kYear = 366 * 24 * kHour;

// Bounds are in the field's own unit: bytes, records, milliseconds.
struct Entry {
  OptionField field;
  Member member;
  std::uint64_t low = 0;
  std::uint64_t high = 0;
};

const std::vector<Entry>& LogEntries() {
  static const std::vector<Entry> entries = {
      {{"wal_dir", "text", "log directory, made when absent"}, &Options::wal_dir},
      {{"wal_enabled", "on/off", "off: every call goes straight to the database"},
       &Options::wal_enabled},
      {{"durability", "level", "of calls that do not say: memory, process or disk"},
       &Options::durability},
      {{"ring_bytes", "bytes", "log buffer, rounded up to a power of two"},
       &Options::ring_bytes,
       4 * kKiB,
       4096 * kMiB},
      {{"segment_bytes", "bytes", "size at which a segment file rolls"},
       &Options::segment_bytes,
       16 * kKiB,
       64 * 1024 * kMiB},
      {{"max_segment_size", "count", "records at which a segment file rolls; 0: bytes decide"},
       &Options::max_segment_size,
       0,
       std::numeric_limits<std::uint64_t>::max()},
      {{"frame_bytes", "bytes", "records gathered per write, at most"},
       &Options::frame_bytes,
       512,
       32 * kMiB},
      {{"compression", "on/off", "zstd frames"}, &Options::compression},
      {{"sync_lanes", "count", "commits in flight at once"}, &Options::sync_lanes, 1, 8},
      {{"io_uring", "on/off", "write and sync through io_uring where the kernel allows it"},
       &Options::io_uring},
      {{"sync_interval", "duration",
        "longest time a process-level record stays unsynced; 0: on demand"},
       &Options::sync_interval,
       0,
       kHour},
      {{"quota_bytes", "bytes", "unflushed log on disk, beyond it calls wait"},
       &Options::quota_bytes,
       64 * kKiB,
       1024 * kTiB},
      {{"retention_bytes", "bytes", "flushed segments kept"},
       &Options::retention_bytes,
       0,
       1024 * kTiB},
      {{"segment_retention", "duration", "age up to which flushed segments are kept"},
       &Options::segment_retention,
       0,
       100 * kYear},
      {{"partitions", "count", "of a new log; fixed afterwards"}, &Options::partitions, 1, 1024},
      {{"block_timeout", "duration", "wait for room in the log; 0: do not wait"},
       &Options::block_timeout,
       0,
       kYear},
  };
  return entries;
}

const std::vector<Entry>& FlushEntries() {
  static const std::vector<Entry> entries = {
      {{"max_buffer_size", "count", "records that start a flush before flush_interval"},
       &Options::max_buffer_size,
       1,
       100'000'000},
      {{"flush_interval", "duration", "longest wait of a batch flushed by time"},
       &Options::flush_interval,
       0,
       kHour},
      {{"flush_linger", "duration", "nothing flushed for this long: flush at once"},
       &Options::flush_linger,
       0,
       kHour},
      {{"batch_size", "count", "records per database transaction, at most"},
       &Options::batch_size,
       1,
       10'000'000},
      {{"batch_bytes", "bytes", "bytes per database transaction, at most"},
       &Options::batch_bytes,
       1,
       1024 * kMiB},
      {{"worker_count", "count", "database connections that flush (SQLite: always 1)"},
       &Options::worker_count,
       1,
       256},
      {{"memory_bytes", "bytes", "bound of the flusher's memory"},
       &Options::memory_bytes,
       kMiB,
       kTiB},
      {{"max_flush_retries", "count", "of a batch with refused rows, before it is bisected"},
       &Options::max_flush_retries,
       0,
       1000},
      {{"initial_backoff", "duration", "after a transient error, doubling up to max_backoff"},
       &Options::initial_backoff,
       1,
       kHour},
      {{"max_backoff", "duration", "longest pause between attempts"},
       &Options::max_backoff,
       1,
       kHour},
      {{"backoff_multiplier", "factor", "growth of the pause"},
       &Options::backoff_multiplier,
       1,
       1000},
      {{"backoff_jitter", "on/off", "pauses are spread by chance"}, &Options::backoff_jitter},
      {{"breaker_failures", "count", "consecutive failures that open the circuit breaker"},
       &Options::breaker_failures,
       1,
       1'000'000},
      {{"breaker_open_time", "duration", "until an open breaker lets one trial through"},
       &Options::breaker_open_time,
       1,
       24 * kHour},
      {{"database_timeout", "duration", "deadline of every database call"},
       &Options::database_timeout,
       1,
       24 * kHour},
      {{"dead_letter_count_max", "count", "dead letters kept, beyond it the breaker opens"},
       &Options::dead_letter_count_max,
       0,
       std::numeric_limits<std::uint64_t>::max()},
  };
  return entries;
}

const std::vector<Entry>& LifeEntries() {
  static const std::vector<Entry> entries = {
      {{"enable_recovery", "on/off", "off: refuse to open a log with unflushed records"},
       &Options::enable_recovery},
      {{"recovery_timeout", "duration", "longest wait for the database at open"},
       &Options::recovery_timeout,
       0,
       kYear},
      {{"shutdown_timeout", "duration", "closing drains for this long"},
       &Options::shutdown_timeout,
       0,
       kYear},
      {{"enable_metrics", "on/off", "log a line with the main counters now and then"},
       &Options::enable_metrics},
      {{"metrics_interval", "duration", "period of that line"},
       &Options::metrics_interval,
       1,
       kYear},
  };
  return entries;
}

const std::vector<Entry>& Entries() {
  static const std::vector<Entry> entries = [] {
    std::vector<Entry> all;
    for (const auto* part : {&LogEntries(), &FlushEntries(), &LifeEntries()}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }();
  return entries;
}

const Entry* FindEntry(std::string_view name) {
  const auto& entries = Entries();
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry& e) { return e.field.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

// Levenshtein's distance, one row at a time.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({replaced, row[j] + 1, row[j + 1] + 1}));
    }
  }
  return row.back();
}

std::string_view NearestName(std::string_view name) {
  const auto& entries = Entries();
  return std::min_element(entries.begin(), entries.end(),
                          [&](const Entry& a, const Entry& b) {
                            return EditDistance(name, a.field.name) <
                                   EditDistance(name, b.field.name);
                          })
      ->field.name;
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
  if (unit == "factor") return "a number such as 2.0";
  return "a whole number";
}

}  // namespace

const std::vector<OptionField>& OptionFields() {
  static const std::vector<OptionField> fields = [] {
    std::vector<OptionField> all;
    for (const Entry& entry : Entries()) all.push_back(entry.field);
    return all;
  }();
  return fields;
}

std::string GetOption(const Options& options, std::string_view name) {
  const Entry* entry = FindEntry(name);
  if (entry == nullptr) return {};
  return std::visit(Getter{options, entry->field.unit}, entry->member);
}

Status SetOption(Options* options, std::string_view name, std::string_view value) {
  const Entry* entry = FindEntry(name);
  if (entry == nullptr) {
    return Status::InvalidArgument("there is no option \"" + std::string(name) +
                                   "\"; did you mean \"" + std::string(NearestName(name)) + "\"?");
  }
  if (!std::visit(Setter{options, entry->field.unit, value}, entry->member)) {
    return Status::InvalidArgument(std::string(name) + "=" + std::string(value) + ": expected " +
                                   std::string(Expected(entry->field.unit)));
  }
  return Status::Ok();
}

Status CheckOptions(const Options& options) {
  for (const Entry& entry : Entries()) {
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
  return Status::Ok();
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

#include "storage/column_type.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string>

namespace taskwal::storage {
namespace {

constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kAsciiBytesMax = 36;  // of a log's id; names and texts are longer

// How a type's width is found; the widths are those of ColumnNeed.
enum class Measure : std::uint8_t {
  kPlain,     // always that of the table
  kSized,     // "varchar(10)"; without a size that of the table
  kDecimal,   // "numeric(10,2)"
  kFraction,  // "timestamp(3)"
  kNone,      // it keeps a part of each value only
};

struct TypeName {
  std::string_view begins;
  ColumnKind kind;
  Measure measure;
  std::uint64_t width;  // of PostgreSQL, or of both
  std::uint64_t mysql_width;
};

using K = ColumnKind;
using M = Measure;

// Of all databases. The first one that fits counts: the longer name stands before the shorter.
constexpr TypeName kTypeNames[] = {
    {"json", K::kJson, M::kPlain, kAny, kAny},
    {"timestamp", K::kTime, M::kFraction, 6, 0},
    {"datetime", K::kTime, M::kFraction, 6, 0},
    {"date", K::kTime, M::kNone, 0, 0},
    {"time", K::kTime, M::kNone, 0, 0},
    {"year", K::kTime, M::kNone, 0, 0},
    {"uuid", K::kId, M::kPlain, kAny, kAny},
    {"int", K::kNumber, M::kPlain, 32, 32},
    {"bigint", K::kNumber, M::kPlain, 64, 64},
    {"smallint", K::kNumber, M::kPlain, 16, 16},
    {"mediumint", K::kNumber, M::kPlain, 24, 24},
    {"tinyint", K::kNumber, M::kPlain, 8, 8},
    {"numeric", K::kNumber, M::kDecimal, kAny, kAny},
    {"decimal", K::kNumber, M::kDecimal, kAny, kAny},
    {"real", K::kNumber, M::kPlain, 24, 53},
    {"double", K::kNumber, M::kPlain, 53, 53},
    {"float", K::kNumber, M::kPlain, 24, 24},
    {"bool", K::kNumber, M::kPlain, 1, 8},
    {"bit", K::kNumber, M::kSized, 1, 1},
    {"text", K::kText, M::kPlain, kAny, 65535},
    {"tinytext", K::kText, M::kPlain, 255, 255},
    {"mediumtext", K::kText, M::kPlain, (1u << 24) - 1, (1u << 24) - 1},
    {"longtext", K::kText, M::kPlain, kAny, kAny},
    {"character varying", K::kText, M::kSized, kAny, kAny},
    {"varchar", K::kText, M::kSized, kAny, kAny},
    {"varbinary", K::kText, M::kSized, kAny, kAny},
    // Of one length: they fill up what is shorter, or drop the spaces at its end.
    {"char", K::kText, M::kNone, 0, 0},
    {"binary", K::kText, M::kNone, 0, 0},
    {"bytea", K::kText, M::kPlain, kAny, kAny},
    {"blob", K::kText, M::kPlain, kAny, 65535},
    {"tinyblob", K::kText, M::kPlain, 255, 255},
    {"mediumblob", K::kText, M::kPlain, (1u << 24) - 1, (1u << 24) - 1},
    {"longblob", K::kText, M::kPlain, kAny, kAny},
};

std::string Lowered(std::string_view type) {
  std::string text(type);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

// The number behind `mark`.
std::optional<std::uint64_t> NumberAfter(std::string_view type, char mark) {
  const std::size_t at = type.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  std::uint64_t number = 0;
  const char* const end = type.data() + type.size();
  const auto [stop, error] = std::from_chars(type.data() + at + 1, end, number);
  if (error != std::errc()) return std::nullopt;
  return number;
}

// In bits: as many as any number of so many digits has.
std::uint64_t DecimalWidth(std::string_view type) {
  const auto digits = NumberAfter(type, '(');
  if (!digits) return kAny;
  const std::uint64_t whole = *digits - std::min(*digits, NumberAfter(type, ',').value_or(0));
  if (whole >= 19) return 64;
  return whole >= 10 ? 32 : 3 * whole;
}

std::uint64_t WidthOf(DatabaseKind database, std::string_view type, const TypeName& name) {
  const std::uint64_t own = database == DatabaseKind::kMysql ? name.mysql_width : name.width;
  switch (name.measure) {
    case Measure::kPlain: return own;
    case Measure::kSized:
    case Measure::kFraction: return NumberAfter(type, '(').value_or(own);
    case Measure::kDecimal: return DecimalWidth(type);
    case Measure::kNone: break;
  }
  return 0;
}

const TypeName* Find(std::string_view type) {
  if (type.starts_with("interval")) return nullptr;
  for (const TypeName& name : kTypeNames) {
    if (type.starts_with(name.begins)) return &name;
  }
  return nullptr;
}

// As text a value needs this many bytes.
std::uint64_t WidthAsText(const ColumnNeed& need) {
  switch (need.kind) {
    case ColumnKind::kText:
    case ColumnKind::kJson: break;
    case ColumnKind::kNumber:
    case ColumnKind::kCount: return 20;
    case ColumnKind::kTime: return 32;
    case ColumnKind::kId: return 36;
  }
  return need.width;
}

bool IsNarrower(DatabaseKind database, std::string_view type, const TypeName& name,
                const ColumnNeed& need) {
  if (name.measure == Measure::kNone) return true;
  const std::uint64_t width = WidthOf(database, type, name);
  if (name.kind == ColumnKind::kText) {
    // A character set is told where it has not every character: states, levels, log ids, numbers
    // and times are short, and ASCII.
    const std::uint64_t wanted = WidthAsText(need);
    const bool is_ascii = wanted <= kAsciiBytesMax;
    return width < wanted ||
           (!is_ascii && type.find(" character set ") != std::string_view::npos);
  }
  const bool has_sign = type.find(" unsigned") == std::string_view::npos;
  if (need.kind == ColumnKind::kNumber && !has_sign) return true;
  // MySQL's has no time before 1970 and may change by itself.
  if (database == DatabaseKind::kMysql && type.starts_with("timestamp")) return true;
  return width < need.width;
}

}  // namespace

ColumnFit FitOf(DatabaseKind database, std::string_view type, const ColumnNeed& need) {
  const std::string text = Lowered(type);
  const TypeName* const name = Find(text);
  if (name == nullptr) return ColumnFit::kFits;
  if (text.ends_with("[]")) return ColumnFit::kOtherKind;
  const ColumnKind kind = need.kind == ColumnKind::kCount ? ColumnKind::kNumber : need.kind;
  // Text takes everything, and is what JSON, times and ids are made of in some databases.
  if (name->kind != kind && name->kind != ColumnKind::kText) return ColumnFit::kOtherKind;
  if (database == DatabaseKind::kSqlite) return ColumnFit::kFits;
  return IsNarrower(database, text, *name, need) ? ColumnFit::kNarrower : ColumnFit::kFits;
}

}  // namespace taskwal::storage

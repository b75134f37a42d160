#include "storage/mysql/mysql_bulk.h"

#include <mysql.h>

#include <algorithm>
#include <utility>

namespace taskwal::storage {
namespace {

using Type = MysqlRows::Type;
using std::chrono::days;
using std::chrono::microseconds;

// One statement's bytes: more would not be faster, and is memory on both sides.
constexpr std::size_t kStatementBytesMax = 4u << 20;
// Room for the statement's own text and the protocol.
constexpr std::size_t kPacketOverhead = 16u << 10;
// Each row of a union is a query of its own to the server's parser.
constexpr std::size_t kUnionRowsMax = 200;
constexpr std::size_t kLongDataPieceMax = 1u << 20;
constexpr std::size_t kLongDataMin = 64u << 10;

Time TimeAt(std::int64_t micros) { return Time(microseconds(micros)); }

MYSQL_TIME DriverTime(Time time) {
  const auto day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss<microseconds> of_day(time - day);
  MYSQL_TIME value{};
  value.year = static_cast<unsigned>(static_cast<int>(date.year()));
  value.month = static_cast<unsigned>(date.month());
  value.day = static_cast<unsigned>(date.day());
  value.hour = static_cast<unsigned>(of_day.hours().count());
  value.minute = static_cast<unsigned>(of_day.minutes().count());
  value.second = static_cast<unsigned>(of_day.seconds().count());
  value.second_part = static_cast<unsigned long>(of_day.subseconds().count());
  value.time_type = MYSQL_TIMESTAMP_DATETIME;
  return value;
}

}  // namespace

class BulkWrite::Bulk {
 public:
  Bulk(MysqlConnection& connection, BulkSql sql, MysqlRows rows)
      : connection_(connection), sql_(std::move(sql)), rows_(std::move(rows)),
        uses_arrays_(connection.capabilities().array_binding) {
    const auto packet = static_cast<std::size_t>(connection.capabilities().packet_bytes_max);
    row_bytes_max_ = packet > 2 * kPacketOverhead ? packet - kPacketOverhead : packet / 2;
    if (uses_arrays_) TranslateTimes();
  }

  void Run() {
    for (std::size_t begin = 0; begin < rows_.size();) {
      const std::size_t end = EndOf(begin);
      if (end == begin) {
        ExecuteInPieces(begin);
        begin += 1;
        continue;
      }
      if (uses_arrays_) {
        ExecuteArray(begin, end);
      } else {
        ExecuteText(begin, end);
      }
      begin = end;
    }
  }

 private:
  // Escaping at most doubles a row; quotes, names and digits come on top.
  [[nodiscard]] std::size_t SentBytes(std::size_t row) const {
    if (uses_arrays_) return rows_.BytesOf(row);
    return 2 * rows_.BytesOf(row) + 32 * rows_.columns().size() + sql_.row_end.size();
  }

  // Behind the last row of the next statement; `begin` itself where not even one row fits.
  [[nodiscard]] std::size_t EndOf(std::size_t begin) const {
    const std::size_t bytes_max = std::min(row_bytes_max_, kStatementBytesMax);
    const std::size_t count_max = uses_arrays_ || sql_.names.empty() ? rows_.size() : kUnionRowsMax;
    std::size_t bytes = SentBytes(begin);
    if (bytes > row_bytes_max_) return begin;
    std::size_t end = begin + 1;
    while (end < rows_.size() && end - begin < count_max &&
           bytes + SentBytes(end) <= bytes_max) {
      bytes += SentBytes(end++);
    }
    return end;
  }

  // --- array binding

  void TranslateTimes() {
    times_.resize(rows_.columns().size());
    time_pointers_.resize(times_.size());
    for (std::size_t c = 0; c < times_.size(); ++c) {
      const MysqlRows::Column& column = rows_.columns()[c];
      if (column.type != Type::kTime) continue;
      times_[c].reserve(column.numbers.size());
      time_pointers_[c].reserve(column.numbers.size());
      for (const std::int64_t micros : column.numbers) {
        time_pointers_[c].push_back(&times_[c].emplace_back(DriverTime(TimeAt(micros))));
      }
    }
  }

  // The driver only reads what it is given here.
  template <typename T>
  static T* Mutable(const T* data) {
    return const_cast<T*>(data);
  }

  void ExecuteArray(std::size_t begin, std::size_t end) {
    MYSQL_STMT* statement = connection_.Prepared(sql_.prepared);
    std::vector<MYSQL_BIND> binds(sql_.parameters.size());
    for (std::size_t i = 0; i < binds.size(); ++i) {
      binds[i] = ArrayOf(sql_.parameters[i], begin);
    }
    auto count = static_cast<unsigned int>(end - begin);
    mysql_stmt_attr_set(statement, STMT_ATTR_ARRAY_SIZE, &count);
    Execute(statement, binds);
  }

  MYSQL_BIND ArrayOf(std::size_t c, std::size_t begin) {
    const MysqlRows::Column& column = rows_.columns()[c];
    MYSQL_BIND bind{};
    // Non-zero is STMT_INDICATOR_NULL.
    bind.u.indicator = Mutable(column.is_null.data() + begin);
    switch (column.type) {
      case Type::kBytes:
      case Type::kText:
        bind.buffer_type = MYSQL_TYPE_STRING;
        bind.buffer = Mutable(column.texts.data() + begin);
        bind.length = Mutable(column.lengths.data() + begin);
        break;
      case Type::kInt:
        bind.buffer_type = MYSQL_TYPE_LONGLONG;
        bind.buffer = Mutable(column.numbers.data() + begin);
        break;
      case Type::kTime:
        bind.buffer_type = MYSQL_TYPE_DATETIME;
        bind.buffer = time_pointers_[c].data() + begin;
        break;
    }
    return bind;
  }

  void Execute(MYSQL_STMT* statement, std::vector<MYSQL_BIND>& binds) {
    if (mysql_stmt_bind_param(statement, binds.data()) != 0 ||
        mysql_stmt_execute(statement) != 0) {
      connection_.Throw(statement);
    }
  }

  // --- one row beyond the packet limit: the limit then holds for each of its values alone

  void ExecuteInPieces(std::size_t row) {
    MYSQL_STMT* statement = connection_.Prepared(sql_.prepared);
    std::vector<MYSQL_BIND> binds(sql_.parameters.size());
    std::vector<MYSQL_TIME> times(binds.size());
    for (std::size_t i = 0; i < binds.size(); ++i) {
      binds[i] = ValueOf(sql_.parameters[i], row, &times[i]);
    }
    unsigned int count = 0;
    mysql_stmt_attr_set(statement, STMT_ATTR_ARRAY_SIZE, &count);
    if (mysql_stmt_bind_param(statement, binds.data()) != 0) connection_.Throw(statement);
    for (std::size_t i = 0; i < binds.size(); ++i) SendLongData(statement, i, row);
    if (mysql_stmt_execute(statement) != 0) connection_.Throw(statement);
  }

  MYSQL_BIND ValueOf(std::size_t c, std::size_t row, MYSQL_TIME* time) {
    const MysqlRows::Column& column = rows_.columns()[c];
    MYSQL_BIND bind{};
    if (column.is_null[row] != 0) {
      bind.buffer_type = MYSQL_TYPE_NULL;
      return bind;
    }
    switch (column.type) {
      case Type::kBytes:
      case Type::kText:
        bind.buffer_type = MYSQL_TYPE_STRING;
        bind.buffer = Mutable(column.texts[row]);
        bind.buffer_length = column.lengths[row];
        bind.length = Mutable(&column.lengths[row]);
        break;
      case Type::kInt:
        bind.buffer_type = MYSQL_TYPE_LONGLONG;
        bind.buffer = Mutable(&column.numbers[row]);
        break;
      case Type::kTime:
        *time = DriverTime(TimeAt(column.numbers[row]));
        bind.buffer_type = MYSQL_TYPE_DATETIME;
        bind.buffer = time;
        break;
    }
    return bind;
  }

  void SendLongData(MYSQL_STMT* statement, std::size_t parameter, std::size_t row) {
    const MysqlRows::Column& column = rows_.columns()[sql_.parameters[parameter]];
    if (column.texts.empty() || column.is_null[row] != 0) return;
    const std::size_t size = column.lengths[row];
    if (size < kLongDataMin) return;
    const std::size_t limit = connection_.capabilities().packet_bytes_max;
    if (size > limit) {
      throw MysqlError(kMysqlPacketTooLarge, "a value of " + std::to_string(size) + " bytes");
    }
    const std::size_t piece_max = std::min(kLongDataPieceMax, limit / 2);
    for (std::size_t at = 0; at < size; at += piece_max) {
      const std::size_t piece = std::min(piece_max, size - at);
      if (mysql_stmt_send_long_data(statement, static_cast<unsigned>(parameter),
                                    column.texts[row] + at, piece) != 0) {
        connection_.Throw(statement);
      }
    }
  }

  // --- many rows as text

  void ExecuteText(std::size_t begin, std::size_t end) {
    const bool is_union = !sql_.names.empty();
    std::string text = sql_.head;
    for (std::size_t row = begin; row < end; ++row) {
      if (row > begin) text += is_union ? " UNION ALL " : ", ";
      text += is_union ? "SELECT " : "(";
      for (std::size_t c = 0; c < rows_.columns().size(); ++c) {
        if (c > 0) text += ", ";
        AppendLiteral(&text, rows_.columns()[c], row);
        if (is_union) text += " AS " + sql_.names[c];
      }
      if (!is_union) text += sql_.row_end;
    }
    text += sql_.tail;
    connection_.Execute(text);
  }

  void AppendLiteral(std::string* text, const MysqlRows::Column& column, std::size_t row) {
    if (column.is_null[row] != 0) {
      *text += "NULL";
      return;
    }
    switch (column.type) {
      case Type::kBytes:
        *text += "_binary";
        [[fallthrough]];
      case Type::kText:
        connection_.AppendQuoted(text, {column.texts[row], column.lengths[row]});
        break;
      case Type::kInt:
        *text += std::to_string(column.numbers[row]);
        break;
      case Type::kTime:
        *text += '\'' + MysqlTimeText(TimeAt(column.numbers[row])) + '\'';
        break;
    }
  }

  MysqlConnection& connection_;
  const BulkSql sql_;
  const MysqlRows rows_;
  const bool uses_arrays_;
  std::size_t row_bytes_max_ = 0;
  // By column; arrays of times are arrays of pointers to the driver.
  std::vector<std::vector<MYSQL_TIME>> times_;
  std::vector<std::vector<MYSQL_TIME*>> time_pointers_;
};

BulkWrite::BulkWrite(MysqlConnection& connection, BulkSql sql, MysqlRows rows)
    : bulk_(std::make_unique<Bulk>(connection, std::move(sql), std::move(rows))) {}

BulkWrite::~BulkWrite() = default;
BulkWrite::BulkWrite(BulkWrite&& other) noexcept = default;
BulkWrite& BulkWrite::operator=(BulkWrite&& other) noexcept = default;

void BulkWrite::Execute() { bulk_->Run(); }

}  // namespace taskwal::storage

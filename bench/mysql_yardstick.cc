// MySQL and MariaDB through the bare client library; SOCI only connects.
#include <mysql.h>
#include <soci/mysql/soci-mysql.h>
#include <soci/soci.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

#include "base/clock.h"
#include "base/status_macros.h"
#include "bench/bare_server.h"
#include "bench/row_cells.h"
#include "storage/backend.h"
#include "storage/mysql/mysql_dsn.h"
#include "storage/mysql/mysql_result.h"

namespace taskwal::bench {
namespace {

constexpr std::size_t kMultiRows = 500;  // of one INSERT
constexpr std::chrono::seconds kTimeout{60};

MYSQL_TIME DriverTime(Time time) {
  using std::chrono::days;
  const auto day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss<std::chrono::microseconds> of_day(time - day);
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

// --- columns as the driver binds them. Text is borrowed from the rows

class BoundColumns {
 public:
  BoundColumns(std::size_t columns, std::size_t rows) : columns_(columns), rows_(rows) {}

  void operator()(std::string_view text) {
    Column& column = Next(MYSQL_TYPE_STRING, false);
    column.texts.push_back(text.empty() ? "" : text.data());
    column.lengths.push_back(text.size());
  }
  void operator()(std::int64_t number) {
    Next(MYSQL_TYPE_LONGLONG, false).numbers.push_back(number);
  }
  void operator()(Time time) {
    Next(MYSQL_TYPE_DATETIME, false).times.push_back(DriverTime(time));
  }
  void operator()(const std::optional<std::string>& text) {
    if (text) return (*this)(std::string_view(*text));
    Column& column = Next(MYSQL_TYPE_STRING, true);
    column.texts.push_back("");
    column.lengths.push_back(0);
  }
  void operator()(const std::optional<Time>& time) {
    Next(MYSQL_TYPE_DATETIME, !time).times.push_back(DriverTime(time.value_or(Time{})));
  }

  // Valid as long as this and the rows. For one row: plain values.
  std::vector<MYSQL_BIND> Binds() {
    std::vector<MYSQL_BIND> binds;
    for (Column& column : columns_) {
      MYSQL_BIND& bind = binds.emplace_back();
      std::memset(&bind, 0, sizeof bind);
      bind.buffer_type = column.type;
      if (rows_ == 1) {
        BindOne(column, &bind);
        continue;
      }
      bind.u.indicator = column.is_null.data();
      bind.length = column.lengths.data();
      for (MYSQL_TIME& time : column.times) column.time_pointers.push_back(&time);
      if (column.type == MYSQL_TYPE_STRING) {
        bind.buffer = column.texts.data();
      } else if (column.type == MYSQL_TYPE_LONGLONG) {
        bind.buffer = column.numbers.data();
      } else {
        bind.buffer = column.time_pointers.data();
      }
    }
    return binds;
  }

 private:
  struct Column {
    enum_field_types type = MYSQL_TYPE_STRING;
    std::vector<const char*> texts;
    std::vector<unsigned long> lengths;
    std::vector<std::int64_t> numbers;
    std::vector<MYSQL_TIME> times;
    std::vector<MYSQL_TIME*> time_pointers;
    std::vector<char> is_null;
  };

  static void BindOne(Column& column, MYSQL_BIND* bind) {
    if (column.is_null[0] != 0) {
      bind->buffer_type = MYSQL_TYPE_NULL;
    } else if (column.type == MYSQL_TYPE_STRING) {
      bind->buffer = const_cast<char*>(column.texts[0]);
      bind->length = column.lengths.data();
      bind->buffer_length = column.lengths[0];
    } else if (column.type == MYSQL_TYPE_LONGLONG) {
      bind->buffer = column.numbers.data();
    } else {
      bind->buffer = column.times.data();
    }
  }

  Column& Next(enum_field_types type, bool is_null) {
    Column& column = columns_[next_];
    next_ = next_ + 1 == columns_.size() ? 0 : next_ + 1;
    column.type = type;
    if (column.is_null.empty()) column.is_null.reserve(rows_);
    column.is_null.push_back(is_null ? 1 : 0);
    return column;
  }

  std::vector<Column> columns_;
  const std::size_t rows_;
  std::size_t next_ = 0;
};

// --- rows as lines for LOAD DATA

class FileLines {
 public:
  void operator()(std::string_view text) {
    for (const char c : text) {
      if (c == '\\' || c == '\t' || c == '\n') lines_ += '\\';
      lines_ += c;
    }
    lines_ += '\t';
  }
  void operator()(std::int64_t number) { (*this)(std::string_view(std::to_string(number))); }
  void operator()(Time time) { (*this)(std::string_view(storage::MysqlTimeText(time))); }
  void operator()(const std::optional<std::string>& text) {
    if (text) return (*this)(std::string_view(*text));
    lines_ += "\\N\t";
  }
  void operator()(const std::optional<Time>& time) {
    if (time) return (*this)(*time);
    lines_ += "\\N\t";
  }
  void EndRow() { lines_.back() = '\n'; }

  // The driver reads them as if they were a file.
  void ServeTo(MYSQL* mysql) {
    mysql_set_local_infile_handler(
        mysql,
        [](void** handle, const char*, void* self) {
          *handle = self;
          return 0;
        },
        [](void* self, char* into, unsigned int size) {
          return static_cast<FileLines*>(self)->Read(into, size);
        },
        [](void*) {}, [](void*, char*, unsigned int) { return 0; }, this);
  }

 private:
  int Read(char* into, unsigned int size) {
    const std::size_t count = std::min<std::size_t>(size, lines_.size() - at_);
    std::memcpy(into, lines_.data() + at_, count);
    at_ += count;
    return static_cast<int>(count);
  }

  std::string lines_;
  std::size_t at_ = 0;
};

// --- rows as literals

class Literals {
 public:
  explicit Literals(MYSQL* mysql) : mysql_(mysql) {}

  void operator()(std::string_view text) {
    Separate();
    const std::size_t at = text_.size();
    text_.resize(at + 2 * text.size() + 3);
    text_[at] = '\'';
    const unsigned long length =
        mysql_real_escape_string(mysql_, text_.data() + at + 1, text.data(), text.size());
    text_[at + 1 + length] = '\'';
    text_.resize(at + length + 2);
  }
  void operator()(std::int64_t number) {
    Separate();
    text_ += std::to_string(number);
  }
  void operator()(Time time) { (*this)(std::string_view(storage::MysqlTimeText(time))); }
  void operator()(const std::optional<std::string>& text) {
    if (text) return (*this)(std::string_view(*text));
    AddNull();
  }
  void operator()(const std::optional<Time>& time) {
    if (time) return (*this)(*time);
    AddNull();
  }
  std::string& text() { return text_; }

 private:
  void Separate() {
    if (text_.back() != '(') text_ += ", ";
  }
  void AddNull() {
    Separate();
    text_ += "NULL";
  }

  MYSQL* mysql_;
  std::string text_;
};

// --- statements

template <typename Row>
std::string InsertInto() {
  using Table = TableOf<Row>;
  return "INSERT INTO " + std::string(Table::kName) + " (" + Joined(Table::kColumns) +
         (Table::kHasWalId ? ", wal_id) VALUES " : ") VALUES ");
}

// Behind the last value of a row.
template <typename Row>
std::string EndOfRow() {
  return TableOf<Row>::kHasWalId ? ", " + std::string(kRowsWalId) + ")" : ")";
}

template <typename Row>
std::string EndOfInsert() {
  if (!TableOf<Row>::kHasWalId) return "";
  std::string sql = " ON DUPLICATE KEY UPDATE wal_id = VALUES(wal_id)";
  for (const std::string_view name : TableOf<Row>::kColumns) {
    if (name == "id" || name.starts_with("created_")) continue;
    sql += ", " + std::string(name) + " = VALUES(" + std::string(name) + ")";
  }
  return sql;
}

template <typename Row>
std::string PreparedInsert() {
  std::string values = "(?";
  for (std::size_t c = 1; c < TableOf<Row>::kColumns.size(); ++c) values += ", ?";
  return InsertInto<Row>() + values + EndOfRow<Row>() + EndOfInsert<Row>();
}

class MysqlConnection final : public BareConnection {
 public:
  static Result<std::unique_ptr<MysqlConnection>> Open(const storage::MysqlTarget& target) {
    std::unique_ptr<MysqlConnection> opened(new MysqlConnection());
    try {
      opened->session_ = std::make_unique<soci::session>(
          soci::mysql, storage::SociConnectString(target, kTimeout) + " local_infile=1");
    } catch (const std::exception& e) {
      return Status::Unavailable(std::string("bare MySQL: ") + e.what());
    }
    auto* backend = static_cast<soci::mysql_session_backend*>(opened->session_->get_backend());
    opened->mysql_ = backend->conn_;
    TASKWAL_TRY(opened->Run("SET SESSION sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00'"));
    TASKWAL_TRY(opened->Run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"));
    TASKWAL_TRY(opened->Run("SET NAMES utf8mb4 COLLATE utf8mb4_bin"));
    return opened;
  }

  ~MysqlConnection() override {
    for (const auto& [sql, statement] : prepared_) mysql_stmt_close(statement);
  }

  Status Run(std::string_view sql) {
    return mysql_real_query(mysql_, sql.data(), sql.size()) == 0 ? Status::Ok() : Failure();
  }

  // Of the first row.
  Result<std::uint64_t> Number(std::string_view sql, unsigned column) {
    TASKWAL_TRY(Run(sql));
    const std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)> result(
        mysql_store_result(mysql_), &mysql_free_result);
    const MYSQL_ROW row = result == nullptr ? nullptr : mysql_fetch_row(result.get());
    if (row == nullptr || row[column] == nullptr) return Failure();
    return std::strtoull(row[column], nullptr, 10);
  }

  std::vector<BulkWay<Activity>> ActivityWays() override { return Ways<Activity>(); }
  std::vector<BulkWay<Task>> TaskWays() override { return Ways<Task>(); }

  Status Insert(const Activity& activity) override { return One(activity); }
  Status Upsert(const Task& task) override { return One(task); }

  Status UpdateStatus(const std::string& id, TaskStatus status) override {
    BoundColumns values(3, 1);
    values(TaskStatusName(status));
    values(Clock::Real().WallNow());
    values(std::string_view(id));
    return RunPrepared("UPDATE dag_tasks SET status = ?, error = '', updated_at = ? WHERE id = ?",
                       values, 0);
  }

 private:
  MysqlConnection() = default;

  Status Failure() const {
    return Status::Unavailable(std::string("bare MySQL: ") + mysql_error(mysql_));
  }

  template <typename Row>
  std::vector<BulkWay<Row>> Ways() {
    using Rows = std::span<const Row>;
    std::vector<BulkWay<Row>> ways;
    if (mariadb_connection(mysql_)) {
      ways.push_back({"array binding", [this](Rows rows) { return ArrayBinding(rows); }});
    }
    const auto takes_files = Number("SELECT @@local_infile", 0);
    if (takes_files.ok() && *takes_files == 1) {
      ways.push_back({"LOAD DATA LOCAL", [this](Rows rows) { return LoadData(rows); }});
    }
    ways.push_back({"multi-row INSERT", [this](Rows rows) { return MultiRow(rows); }});
    return ways;
  }

  template <typename Row>
  Status One(const Row& row) {
    static const std::string sql = PreparedInsert<Row>();
    BoundColumns values(TableOf<Row>::kColumns.size(), 1);
    TakeCells(row, values);
    return RunPrepared(sql, values, 0);
  }

  template <typename Row>
  Status ArrayBinding(std::span<const Row> rows) {
    static const std::string sql = PreparedInsert<Row>();
    BoundColumns values(TableOf<Row>::kColumns.size(), rows.size());
    for (const Row& row : rows) TakeCells(row, values);
    TASKWAL_TRY(Run("START TRANSACTION"));
    // One row alone is bound as plain values.
    const std::size_t array = rows.size() > 1 ? rows.size() : 0;
    TASKWAL_TRY(RunPrepared(sql, values, static_cast<unsigned>(array)));
    return Run("COMMIT");
  }

  Status RunPrepared(const std::string& sql, BoundColumns& values, unsigned array) {
    MYSQL_STMT*& statement = prepared_[sql];
    if (statement == nullptr) {
      statement = mysql_stmt_init(mysql_);
      if (mysql_stmt_prepare(statement, sql.data(), sql.size()) != 0) return Failure();
    }
    std::vector<MYSQL_BIND> binds = values.Binds();
    mysql_stmt_attr_set(statement, STMT_ATTR_ARRAY_SIZE, &array);
    if (mysql_stmt_bind_param(statement, binds.data()) != 0 ||
        mysql_stmt_execute(statement) != 0) {
      return Status::Unavailable(std::string("bare MySQL: ") + mysql_stmt_error(statement));
    }
    return Status::Ok();
  }

  template <typename Row>
  Status LoadData(std::span<const Row> rows) {
    using Table = TableOf<Row>;
    FileLines lines;
    for (const Row& row : rows) {
      TakeCells(row, lines);
      lines.EndRow();
    }
    lines.ServeTo(mysql_);
    std::string sql = "LOAD DATA LOCAL INFILE 'rows' REPLACE INTO TABLE " +
                      std::string(Table::kName) + " CHARACTER SET utf8mb4 (" +
                      Joined(Table::kColumns) + ")";
    if (Table::kHasWalId) sql += " SET wal_id = " + std::string(kRowsWalId);
    TASKWAL_TRY(Run(sql));
    if (mysql_warning_count(mysql_) == 0) return Status::Ok();
    return Status::IoError("bare MySQL: LOAD DATA changed or skipped rows");
  }

  template <typename Row>
  Status MultiRow(std::span<const Row> rows) {
    TASKWAL_TRY(Run("START TRANSACTION"));
    while (!rows.empty()) {
      const auto some = rows.first(std::min(kMultiRows, rows.size()));
      rows = rows.subspan(some.size());
      Literals literals(mysql_);
      std::string& sql = literals.text();
      sql = InsertInto<Row>();
      for (const Row& row : some) {
        sql += &row == some.data() ? "(" : ", (";
        TakeCells(row, literals);
        sql += EndOfRow<Row>();
      }
      sql += EndOfInsert<Row>();
      TASKWAL_TRY(Run(sql));
    }
    return Run("COMMIT");
  }

  std::unique_ptr<soci::session> session_;
  MYSQL* mysql_ = nullptr;  // of session_
  std::map<std::string, MYSQL_STMT*> prepared_;
};

// The DSN with another database.
std::string InDatabase(const std::string& dsn, const std::string& database) {
  const std::size_t end = std::min(dsn.find('?', dsn.find("://") + 3), dsn.size());
  return dsn.substr(0, dsn.rfind('/', end) + 1) + database + dsn.substr(end);
}

class MysqlServer final : public BareServer {
 public:
  MysqlServer(std::unique_ptr<MysqlConnection> connection, storage::MysqlTarget target,
              std::string dsn)
      : connection_(std::move(connection)), target_(std::move(target)), dsn_(std::move(dsn)) {}
  ~MysqlServer() override { IgnoreStatus(Drop(), "the benchmark is over"); }

  [[nodiscard]] const std::string& dsn() const override { return dsn_; }

  Status Reset() override {
    TASKWAL_TRY(Drop());
    TASKWAL_TRY(connection_->Run("CREATE DATABASE " + target_.database));
    TASKWAL_ASSIGN(const auto backend, storage::MakeBackend(dsn_, {}));
    return backend->Connect().status();
  }

  Result<std::unique_ptr<BareConnection>> Connect() override {
    TASKWAL_ASSIGN(auto connection, MysqlConnection::Open(target_));
    return std::unique_ptr<BareConnection>(std::move(connection));
  }

  // The engine's commits: the end of each statement inside a transaction is counted with them.
  Result<std::uint64_t> Commits() override {
    return connection_->Number("SHOW GLOBAL STATUS LIKE 'Handler_commit'", 1);
  }

 private:
  Status Drop() { return connection_->Run("DROP DATABASE IF EXISTS " + target_.database); }

  const std::unique_ptr<MysqlConnection> connection_;
  const storage::MysqlTarget target_;  // with our own database
  const std::string dsn_;
};

}  // namespace

Result<std::unique_ptr<BareServer>> OpenMysql(const std::string& dsn) {
  TASKWAL_ASSIGN(storage::MysqlTarget target, storage::ParseMysqlDsn(dsn));
  TASKWAL_ASSIGN(auto connection, MysqlConnection::Open(target));
  target.database = "taskwal_bench_" + std::to_string(::getpid());
  const std::string ours = InDatabase(dsn, target.database);
  auto server = std::make_unique<MysqlServer>(std::move(connection), std::move(target), ours);
  TASKWAL_TRY(server->Reset());
  return std::unique_ptr<BareServer>(std::move(server));
}

}  // namespace taskwal::bench

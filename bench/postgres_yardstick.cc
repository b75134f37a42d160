// PostgreSQL through bare libpq.
#include <libpq-fe.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/status_macros.h"
#include "bench/bare_server.h"
#include "bench/row_cells.h"
#include "storage/backend.h"

namespace taskwal::bench {
namespace {

constexpr std::size_t kPieceBytes = 64u << 10;  // of a COPY
constexpr std::size_t kMultiRows = 500;         // of one INSERT
constexpr Time kPostgresEpoch = std::chrono::sys_days(std::chrono::year(2000) / 1 / 1);

struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct Clear {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Connection = std::unique_ptr<PGconn, Finish>;
using Answer = std::unique_ptr<PGresult, Clear>;

Status Failure(PGconn* connection) {
  return Status::Unavailable(std::string("bare PostgreSQL: ") + PQerrorMessage(connection));
}

Status Check(PGconn* connection, const Answer& answer) {
  const ExecStatusType status = PQresultStatus(answer.get());
  const bool is_good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  return is_good ? Status::Ok() : Failure(connection);
}

Status Execute(PGconn* connection, const std::string& sql) {
  return Check(connection, Answer(PQexec(connection, sql.c_str())));
}

Result<Connection> ConnectTo(const std::string& dsn) {
  Connection connection(PQconnectdb(dsn.c_str()));
  if (PQstatus(connection.get()) != CONNECTION_OK) return Failure(connection.get());
  PQsetNoticeProcessor(connection.get(), [](void*, const char*) {}, nullptr);
  TASKWAL_TRY(Execute(connection.get(),
                      "SET synchronous_commit = on; SET timezone = 'UTC'; SET jit = off"));
  return connection;
}

// --- rows as text for COPY

class CopyLines {
 public:
  void operator()(std::string_view text) {
    for (const char c : text) {
      if (c == '\\' || c == '\t' || c == '\n' || c == '\r') {
        lines_ += '\\';
        lines_ += c == '\t' ? 't' : c == '\n' ? 'n' : c == '\r' ? 'r' : c;
      } else {
        lines_ += c;
      }
    }
    lines_ += '\t';
  }
  void operator()(std::int64_t number) { (*this)(std::string_view(std::to_string(number))); }
  void operator()(Time time) { (*this)(std::string_view(FormatTime(time))); }
  template <typename T>
  void operator()(const std::optional<T>& value) {
    if (!value) {
      lines_ += "\\N\t";
    } else if constexpr (std::is_same_v<T, std::string>) {
      (*this)(std::string_view(*value));
    } else {
      (*this)(*value);
    }
  }
  void EndRow() { lines_.back() = '\n'; }
  std::string& lines() { return lines_; }

 private:
  std::string lines_;
};

// --- rows as text parameters of a prepared statement

class TextValues {
 public:
  void operator()(std::string_view text) {
    starts_.push_back(static_cast<std::ptrdiff_t>(bytes_.size()));
    bytes_ += text;
    bytes_ += '\0';
  }
  void operator()(std::int64_t number) { (*this)(std::string_view(std::to_string(number))); }
  void operator()(Time time) { (*this)(std::string_view(FormatTime(time))); }
  template <typename T>
  void operator()(const std::optional<T>& value) {
    if (!value) {
      starts_.push_back(-1);
    } else if constexpr (std::is_same_v<T, std::string>) {
      (*this)(std::string_view(*value));
    } else {
      (*this)(*value);
    }
  }
  // Valid until the next call of anything.
  const std::vector<const char*>& pointers() {
    pointers_.clear();
    for (const std::ptrdiff_t start : starts_) {
      pointers_.push_back(start < 0 ? nullptr : bytes_.data() + start);
    }
    return pointers_;
  }

 private:
  std::string bytes_;
  std::vector<std::ptrdiff_t> starts_;
  std::vector<const char*> pointers_;
};

// --- columns as arrays in the binary format, for unnest

class BinaryArrays {
 public:
  explicit BinaryArrays(std::size_t rows) : rows_(rows) {}

  void operator()(std::string_view text) {
    std::string& column = NextColumn(kText);
    AppendInt(&column, static_cast<std::int32_t>(text.size()));
    column += text;
  }
  void operator()(std::int64_t number) { AddLong(kBigint, number); }
  void operator()(Time time) { AddLong(kTimestamp, (time - kPostgresEpoch).count()); }
  void operator()(const std::optional<std::string>& json) {
    std::string& column = NextColumn(kJson);
    AppendInt(&column, json ? static_cast<std::int32_t>(json->size()) : std::int32_t{-1});
    if (json) column += *json;
  }
  void operator()(const std::optional<Time>& time) {
    if (time) return (*this)(*time);
    AppendInt(&NextColumn(kTimestamp), std::int32_t{-1});
  }
  void EndRow() { next_ = 0; }
  [[nodiscard]] const std::vector<std::string>& columns() const { return columns_; }

 private:
  // Object identifiers of built-in types.
  static constexpr std::int32_t kText = 25, kBigint = 20, kTimestamp = 1184, kJson = 114;

  template <typename Int>
  static void AppendInt(std::string* bytes, Int value) {
    const auto bits = static_cast<std::make_unsigned_t<Int>>(value);
    std::array<char, sizeof(Int)> out;
    for (std::size_t i = 0; i < sizeof(Int); ++i) {
      out[i] = static_cast<char>(bits >> (8 * (sizeof(Int) - 1 - i)) & 0xff);
    }
    bytes->append(out.data(), out.size());
  }

  void AddLong(std::int32_t type, std::int64_t value) {
    std::string& column = NextColumn(type);
    AppendInt(&column, std::int32_t{8});
    AppendInt(&column, value);
  }

  std::string& NextColumn(std::int32_t type) {
    if (next_ == columns_.size()) {
      std::string& column = columns_.emplace_back();
      column.reserve(32 * rows_);
      for (const std::int32_t field : {1, 1, type, static_cast<std::int32_t>(rows_), 1}) {
        AppendInt(&column, field);
      }
    }
    return columns_[next_++];
  }

  const std::size_t rows_;
  std::vector<std::string> columns_;
  std::size_t next_ = 0;
};

// --- statements

std::string OnConflict() {
  std::string sql = " ON CONFLICT (id) DO UPDATE SET wal_id = excluded.wal_id";
  for (const std::string_view name : kTaskColumnNames) {
    if (name == "id" || name.starts_with("created_")) continue;
    sql += ", " + std::string(name) + " = excluded." + std::string(name);
  }
  return sql;
}

template <typename Row>
std::string InsertInto() {
  using Table = TableOf<Row>;
  return "INSERT INTO " + std::string(Table::kName) + " (" + Joined(Table::kColumns) +
         (Table::kHasWalId ? ", wal_id) " : ") ");
}

template <typename Row>
std::string InsertRows(std::size_t rows) {
  using Table = TableOf<Row>;
  std::string sql = InsertInto<Row>() + "VALUES ";
  for (std::size_t row = 0, parameter = 0; row < rows; ++row) {
    sql += row > 0 ? ", (" : "(";
    for (std::size_t c = 0; c < Table::kColumns.size(); ++c) {
      sql += (c > 0 ? ", $" : "$") + std::to_string(++parameter);
    }
    sql += Table::kHasWalId ? ", " + std::string(kRowsWalId) + ")" : ")";
  }
  return Table::kHasWalId ? sql + OnConflict() : sql;
}

std::string UnnestTasks() {
  constexpr std::array<std::string_view, 19> kTypes = {
      "text", "text", "text", "text", "text", "text", "json", "text", "text", "bigint", "bigint",
      "bigint", "timestamptz", "timestamptz", "timestamptz", "timestamptz", "bigint", "bigint",
      "text"};
  std::string sql = InsertInto<Task>() + "SELECT n.*, " + std::string(kRowsWalId) +
                    "::uuid FROM unnest(";
  for (std::size_t c = 0; c < kTypes.size(); ++c) {
    sql += (c > 0 ? ", $" : "$") + std::to_string(c + 1) + "::" + std::string(kTypes[c]) + "[]";
  }
  return sql + ") AS n" + OnConflict();
}

class PostgresConnection final : public BareConnection {
 public:
  explicit PostgresConnection(Connection connection) : connection_(std::move(connection)) {}

  Status Prepare() {
    const std::string columns = Joined(kTaskColumnNames);
    TASKWAL_TRY(Run("CREATE TEMPORARY TABLE stage ON COMMIT DELETE ROWS AS SELECT " + columns +
                    " FROM dag_tasks WITH NO DATA"));
    TASKWAL_TRY(Prepare("insert", InsertRows<Activity>(1)));
    TASKWAL_TRY(Prepare("upsert", InsertRows<Task>(1)));
    TASKWAL_TRY(Prepare("upsert_many", InsertRows<Task>(kMultiRows)));
    TASKWAL_TRY(Prepare("unnest", UnnestTasks()));
    TASKWAL_TRY(Prepare("from_stage", InsertInto<Task>() + "SELECT " + columns + ", " +
                                          std::string(kRowsWalId) + " FROM stage" + OnConflict()));
    return Prepare("status", "UPDATE dag_tasks SET status = $2, error = '', updated_at = $3 "
                             "WHERE id = $1");
  }

  std::vector<BulkWay<Activity>> ActivityWays() override {
    return {{"COPY", [this](std::span<const Activity> rows) {
               return Copy(TableOf<Activity>::kName, rows);
             }}};
  }

  std::vector<BulkWay<Task>> TaskWays() override {
    using Rows = std::span<const Task>;
    return {{"COPY into a staging table", [this](Rows rows) { return Stage(rows); }},
            {"unnest", [this](Rows rows) { return Unnest(rows); }},
            {"multi-row INSERT", [this](Rows rows) { return MultiRow(rows); }}};
  }

  Status Insert(const Activity& activity) override { return One("insert", activity); }
  Status Upsert(const Task& task) override { return One("upsert", task); }

  Status UpdateStatus(const std::string& id, TaskStatus status) override {
    TextValues values;
    values(std::string_view(id));
    values(TaskStatusName(status));
    values(Clock::Real().WallNow());
    return RunPrepared("status", values);
  }

 private:
  Status Run(const std::string& sql) { return Execute(connection_.get(), sql); }

  Status Prepare(const char* name, const std::string& sql) {
    return Check(connection_.get(),
                 Answer(PQprepare(connection_.get(), name, sql.c_str(), 0, nullptr)));
  }

  Status RunPrepared(const char* name, TextValues& values) {
    const auto& pointers = values.pointers();
    return Check(connection_.get(),
                 Answer(PQexecPrepared(connection_.get(), name, static_cast<int>(pointers.size()),
                                       pointers.data(), nullptr, nullptr, 0)));
  }

  template <typename Row>
  Status One(const char* name, const Row& row) {
    TextValues values;
    TakeCells(row, values);
    return RunPrepared(name, values);
  }

  template <typename Row>
  Status Copy(std::string_view table, std::span<const Row> rows) {
    TASKWAL_TRY(BeginCopy("COPY " + std::string(table) + " (" + Joined(TableOf<Row>::kColumns) +
                          ") FROM STDIN"));
    CopyLines text;
    text.lines().reserve(2 * kPieceBytes);
    for (const Row& row : rows) {
      TakeCells(row, text);
      text.EndRow();
      if (text.lines().size() >= kPieceBytes) TASKWAL_TRY(Send(&text.lines()));
    }
    TASKWAL_TRY(Send(&text.lines()));
    if (PQputCopyEnd(connection_.get(), nullptr) != 1) return Failure(connection_.get());
    Status status = Check(connection_.get(), Answer(PQgetResult(connection_.get())));
    while (Answer rest{PQgetResult(connection_.get())}) continue;
    return status;
  }

  Status BeginCopy(const std::string& sql) {
    const Answer begun(PQexec(connection_.get(), sql.c_str()));
    if (PQresultStatus(begun.get()) != PGRES_COPY_IN) return Failure(connection_.get());
    return Status::Ok();
  }

  Status Send(std::string* lines) {
    const int sent =
        PQputCopyData(connection_.get(), lines->data(), static_cast<int>(lines->size()));
    lines->clear();
    return sent == 1 ? Status::Ok() : Failure(connection_.get());
  }

  Status Stage(std::span<const Task> rows) {
    TASKWAL_TRY(Run("BEGIN"));
    TASKWAL_TRY(Copy("stage", rows));
    TextValues none;
    TASKWAL_TRY(RunPrepared("from_stage", none));
    return Run("COMMIT");
  }

  Status Unnest(std::span<const Task> rows) {
    BinaryArrays arrays(rows.size());
    for (const Task& row : rows) {
      TakeCells(row, arrays);
      arrays.EndRow();
    }
    std::vector<const char*> values;
    std::vector<int> lengths;
    for (const std::string& column : arrays.columns()) {
      values.push_back(column.data());
      lengths.push_back(static_cast<int>(column.size()));
    }
    const std::vector<int> formats(values.size(), 1);
    return Check(connection_.get(),
                 Answer(PQexecPrepared(connection_.get(), "unnest", static_cast<int>(values.size()),
                                       values.data(), lengths.data(), formats.data(), 0)));
  }

  Status MultiRow(std::span<const Task> rows) {
    TASKWAL_TRY(Run("BEGIN"));
    for (; rows.size() >= kMultiRows; rows = rows.subspan(kMultiRows)) {
      TextValues values;
      for (const Task& row : rows.first(kMultiRows)) TakeCells(row, values);
      TASKWAL_TRY(RunPrepared("upsert_many", values));
    }
    for (const Task& row : rows) TASKWAL_TRY(One("upsert", row));
    return Run("COMMIT");
  }

  const Connection connection_;
};

// The URI with a schema as the only place of its tables, behind whatever else it sets.
std::string InSchema(std::string uri, const std::string& schema) {
  const std::string setting = "-csearch_path%3D" + schema;
  const std::size_t parameters = uri.find('?');
  if (parameters == std::string::npos) return uri + "?options=" + setting;
  const std::size_t options = uri.find("options=", parameters);
  if (options == std::string::npos) return uri + "&options=" + setting;
  return uri.insert(std::min(uri.find('&', options), uri.size()), "%20" + setting);
}

class PostgresServer final : public BareServer {
 public:
  PostgresServer(Connection connection, std::string schema, std::string dsn)
      : connection_(std::move(connection)), schema_(std::move(schema)), dsn_(std::move(dsn)) {}
  ~PostgresServer() override { IgnoreStatus(Drop(), "the benchmark is over"); }

  [[nodiscard]] const std::string& dsn() const override { return dsn_; }

  Status Reset() override {
    TASKWAL_TRY(Drop());
    TASKWAL_TRY(Execute(connection_.get(), "CREATE SCHEMA " + schema_));
    TASKWAL_ASSIGN(const auto backend, storage::MakeBackend(dsn_, {}));
    return backend->Connect().status();
  }

  Result<std::unique_ptr<BareConnection>> Connect() override {
    TASKWAL_ASSIGN(Connection connection, ConnectTo(dsn_));
    auto bare = std::make_unique<PostgresConnection>(std::move(connection));
    TASKWAL_TRY(bare->Prepare());
    return std::unique_ptr<BareConnection>(std::move(bare));
  }

  // A session hands its counts in when it ends.
  Result<std::uint64_t> Commits() override {
    constexpr int kTriesMax = 500;
    for (int tries = 0; tries < kTriesMax; ++tries) {
      TASKWAL_ASSIGN(const std::uint64_t others,
                     Number("SELECT count(*) FROM pg_stat_activity WHERE datname = "
                            "current_database() AND pid <> pg_backend_pid() "
                            "AND backend_type = 'client backend'"));
      if (others == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return Number("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()");
  }

 private:
  Status Drop() {
    return Execute(connection_.get(), "DROP SCHEMA IF EXISTS " + schema_ + " CASCADE");
  }

  Result<std::uint64_t> Number(const char* sql) {
    const Answer answer(PQexec(connection_.get(), sql));
    TASKWAL_TRY(Check(connection_.get(), answer));
    return std::strtoull(PQgetvalue(answer.get(), 0, 0), nullptr, 10);
  }

  const Connection connection_;
  const std::string schema_;
  const std::string dsn_;
};

}  // namespace

Result<std::unique_ptr<BareServer>> OpenPostgres(const std::string& dsn) {
  TASKWAL_ASSIGN(Connection connection, ConnectTo(dsn));
  const std::string schema = "taskwal_bench_" + std::to_string(::getpid());
  auto server =
      std::make_unique<PostgresServer>(std::move(connection), schema, InSchema(dsn, schema));
  TASKWAL_TRY(server->Reset());
  return std::unique_ptr<BareServer>(std::move(server));
}

}  // namespace taskwal::bench

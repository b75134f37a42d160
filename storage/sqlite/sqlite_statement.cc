#include "storage/sqlite/sqlite_statement.h"

#include <SQLiteCpp/Column.h>
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>

#include <algorithm>
#include <stdexcept>

#include "base/check.h"
#include "base/never_destroyed.h"

namespace taskwal::storage {
namespace {

// NUL-terminated and alive for ever, so that SQLite may borrow them.
template <typename Enum, std::string_view (*kNameOf)(Enum)>
const std::string& NameText(Enum value) {
  static const auto& kTexts = NeverDestroyed([] {
    std::array<std::string, 5> texts;
    for (std::size_t i = 0; i < texts.size(); ++i) texts[i] = kNameOf(static_cast<Enum>(i));
    return texts;
  }());
  return kTexts.at(static_cast<std::size_t>(value));
}

}  // namespace

SqliteStatement::SqliteStatement(const SQLite::Database& db, const std::string& sql)
    : statement_(std::make_unique<SQLite::Statement>(db, sql)) {}
SqliteStatement::~SqliteStatement() = default;

SqliteStatement& SqliteStatement::Start() {
  Reset();
  bound_ = 0;
  times_ = 0;
  return *this;
}

SqliteStatement& SqliteStatement::Bind(const std::string& text) {
  statement_->bindNoCopy(++bound_, text);
  return *this;
}

SqliteStatement& SqliteStatement::Bind(const std::optional<std::string>& text) {
  return text ? Bind(*text) : BindNull();
}

SqliteStatement& SqliteStatement::Bind(std::int64_t value) {
  statement_->bind(++bound_, value);
  return *this;
}

SqliteStatement& SqliteStatement::Bind(std::uint64_t value) {
  return Bind(static_cast<std::int64_t>(value));
}

SqliteStatement& SqliteStatement::Bind(Time time) {
  TASKWAL_CHECK(times_ < time_texts_.size());
  TimeText& text = time_texts_[times_++];
  PutTime(time, &text);
  statement_->bindNoCopy(++bound_, text.data());
  return *this;
}

SqliteStatement& SqliteStatement::Bind(const std::optional<Time>& time) {
  return time ? Bind(*time) : BindNull();
}

SqliteStatement& SqliteStatement::Bind(TaskStatus status) {
  return Bind(NameText<TaskStatus, &TaskStatusName>(status));
}

SqliteStatement& SqliteStatement::Bind(Level level) {
  return Bind(NameText<Level, &taskwal::LevelName>(level));
}

SqliteStatement& SqliteStatement::BindNull() {
  statement_->bind(++bound_);
  return *this;
}

std::uint64_t SqliteStatement::Run() { return static_cast<std::uint64_t>(statement_->exec()); }

bool SqliteStatement::Step() {
  read_ = 0;
  return statement_->executeStep();
}

// The code of a failed step was thrown by that step; reset would only repeat it.
void SqliteStatement::Reset() { statement_->tryReset(); }

std::string SqliteStatement::Text() { return statement_->getColumn(read_++).getString(); }

std::int64_t SqliteStatement::Int() { return statement_->getColumn(read_++).getInt64(); }

std::optional<std::string> SqliteStatement::OptionalText() {
  if (!statement_->isColumnNull(read_)) return Text();
  ++read_;
  return std::nullopt;
}

Time SqliteStatement::Moment() {
  const std::optional<Time> time = OptionalMoment();
  if (!time) throw std::runtime_error("a time that must be there is NULL");
  return *time;
}

std::optional<Time> SqliteStatement::OptionalMoment() {
  const std::optional<std::string> text = OptionalText();
  if (!text) return std::nullopt;
  const std::optional<Time> time = ParseTime(*text);
  if (!time) throw std::runtime_error("a stored time is not RFC 3339 text");
  return time;
}

TaskStatus SqliteStatement::StatusName() {
  const std::optional<TaskStatus> status = ParseTaskStatus(Text());
  if (!status) throw std::runtime_error("a stored status is none of the known ones");
  return *status;
}

Level SqliteStatement::LevelName() {
  const std::optional<Level> level = ParseLevel(Text());
  if (!level) throw std::runtime_error("a stored level is none of the known ones");
  return *level;
}

Uuid SqliteStatement::Id() {
  const std::string text = Text();
  if (text.empty()) return {};
  const std::optional<Uuid> id = Uuid::Parse(text);
  if (!id) throw std::runtime_error("a stored identity is not a uuid");
  return *id;
}

}  // namespace taskwal::storage

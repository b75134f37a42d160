#include "storage/sqlite/sqlite_row_table.h"

#include <sqlite3.h>

#include <stdexcept>
#include <vector>

namespace taskwal::storage {
namespace {

struct RowTable {
  sqlite3_vtab base{};
  const SqliteRowSource* source = nullptr;
};

struct RowCursor {
  sqlite3_vtab_cursor base{};
  const SqliteRowSource* source = nullptr;
  std::size_t row = 0;
  std::vector<TimeText> times;  // one per column: a row's texts stand until the next row
};

// SQLite hands out what it was given: the first member.
RowTable* TableOf(sqlite3_vtab* base) { return reinterpret_cast<RowTable*>(base); }
RowCursor* CursorOf(sqlite3_vtab_cursor* base) { return reinterpret_cast<RowCursor*>(base); }

int Connect(sqlite3* db, void* source, int, const char* const*, sqlite3_vtab** made, char**) {
  const auto* rows = static_cast<const SqliteRowSource*>(source);
  const std::string schema = "CREATE TABLE rows (" + rows->columns() + ")";
  const int declared = sqlite3_declare_vtab(db, schema.c_str());
  if (declared != SQLITE_OK) return declared;
  auto* table = new RowTable;
  table->source = rows;
  *made = &table->base;
  return SQLITE_OK;
}

int Disconnect(sqlite3_vtab* table) {
  delete TableOf(table);
  return SQLITE_OK;
}

// There is one way to read it: from the first row to the last.
int FindBestIndex(sqlite3_vtab*, sqlite3_index_info*) { return SQLITE_OK; }

int Open(sqlite3_vtab* table, sqlite3_vtab_cursor** made) {
  auto* cursor = new RowCursor;
  cursor->source = TableOf(table)->source;
  cursor->times.resize(cursor->source->width());
  *made = &cursor->base;
  return SQLITE_OK;
}

int Close(sqlite3_vtab_cursor* cursor) {
  delete CursorOf(cursor);
  return SQLITE_OK;
}

int Begin(sqlite3_vtab_cursor* cursor, int, const char*, int, sqlite3_value**) {
  CursorOf(cursor)->row = 0;
  return SQLITE_OK;
}

int Next(sqlite3_vtab_cursor* cursor) {
  ++CursorOf(cursor)->row;
  return SQLITE_OK;
}

int IsAtEnd(sqlite3_vtab_cursor* base) {
  const RowCursor* cursor = CursorOf(base);
  return cursor->row >= cursor->source->rows() ? 1 : 0;
}

int Column(sqlite3_vtab_cursor* base, sqlite3_context* context, int column) {
  RowCursor* cursor = CursorOf(base);
  const auto index = static_cast<std::size_t>(column);
  SqliteCell cell(context, &cursor->times[index]);
  cursor->source->Put(cursor->row, index, cell);
  return SQLITE_OK;
}

int RowNumber(sqlite3_vtab_cursor* cursor, sqlite3_int64* number) {
  *number = static_cast<sqlite3_int64>(CursorOf(cursor)->row);
  return SQLITE_OK;
}

// Without xCreate it is there by its name alone, in every connection that knows the module.
const sqlite3_module kModule = [] {
  sqlite3_module module{};
  module.xConnect = Connect;
  module.xDisconnect = Disconnect;
  module.xBestIndex = FindBestIndex;
  module.xOpen = Open;
  module.xClose = Close;
  module.xFilter = Begin;
  module.xNext = Next;
  module.xEof = IsAtEnd;
  module.xColumn = Column;
  module.xRowid = RowNumber;
  return module;
}();

void PutText(sqlite3_context* context, std::string_view text) {
  sqlite3_result_text(context, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}

}  // namespace

void SqliteCell::Put(const std::string& text) { PutText(context_, text); }

void SqliteCell::Put(const std::optional<std::string>& text) {
  if (text) Put(*text);
}

void SqliteCell::Put(std::int64_t value) { sqlite3_result_int64(context_, value); }

void SqliteCell::Put(Time time) {
  PutTime(time, time_);
  PutText(context_, {time_->data(), time_->size() - 1});
}

void SqliteCell::Put(const std::optional<Time>& time) {
  if (time) Put(*time);
}

void SqliteCell::Put(TaskStatus status) { PutText(context_, TaskStatusName(status)); }

void SqliteCell::Put(Level level) { PutText(context_, LevelName(level)); }

void AddRowTable(sqlite3* db, const std::string& name, const SqliteRowSource& source) {
  // SQLite has no const for what it only hands back.
  auto* borrowed = const_cast<SqliteRowSource*>(&source);
  if (sqlite3_create_module_v2(db, name.c_str(), &kModule, borrowed, nullptr) != SQLITE_OK) {
    throw std::runtime_error("cannot add the table " + name + ": " + sqlite3_errmsg(db));
  }
}

}  // namespace taskwal::storage

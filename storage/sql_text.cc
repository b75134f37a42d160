#include "storage/sql_text.h"

#include <algorithm>

namespace taskwal::storage {
namespace {

// No stored time is at or behind this, so an upper bound there says nothing; as text it could not
// be told.
constexpr Time kTimeEnd = std::chrono::sys_days(std::chrono::year(10000) / 1 / 1);

// The part of a query behind FROM. Each value is used once, in order, wherever `conditions` is.
class Filter {
 public:
  explicit Filter(const Dialect& dialect) : dialect_(dialect) {}

  void Add(std::string_view condition) {
    conditions_ += " AND ";
    conditions_ += condition;
  }
  // `comparison` ends where the value goes: "dag_id = ".
  void Add(std::string_view comparison, const std::optional<std::string>& value) {
    if (!value) return;
    Add(std::string(comparison) + Value(*value));
  }
  void AddRange(std::string_view column, const std::optional<Time>& from,
                const std::optional<Time>& until) {
    const std::string name(column);
    if (from) Add(name + " >= ", dialect_.time_text(*from));
    if (until && *until < kTimeEnd) Add(name + " < ", dialect_.time_text(*until));
  }
  // The page's start bounds one side of created_at for the index; the range's own bound there is
  // kept as a mere filter, or the database might begin at it and read all earlier pages again.
  void AddPage(const Paging& paging, const PageStart& start, const std::optional<Time>& from,
               const std::optional<Time>& until) {
    const std::string filtered = NoIndex("created_at");
    AddRange(start && !paging.newest_first ? filtered : "created_at", from, std::nullopt);
    AddRange(start && paging.newest_first ? filtered : "created_at", std::nullopt, until);
    if (!start) return;
    const std::string time = dialect_.time_text(start->first);
    const std::string beyond = paging.newest_first ? " < " : " > ";
    if (dialect_.compares_rows) {
      const std::string from_time = Value(time);
      Add("(created_at, id)" + beyond + "(" + from_time + ", " + Value(start->second) + ")");
      return;
    }
    Add(std::string("created_at") + (paging.newest_first ? " <= " : " >= ") + Value(time));
    const std::string inside = "(created_at" + beyond + Value(time);
    Add(inside + " OR id" + beyond + Value(start->second) + ")");
  }

  [[nodiscard]] std::string NoIndex(std::string_view condition) const {
    return std::string(dialect_.no_index) + std::string(condition);
  }

  // One row more than the page holds tells whether another page follows. Several `arms` (each an
  // AND on top of the filter) are merged in order, each read through its own index range.
  [[nodiscard]] SqlText Page(std::string_view columns, std::string_view table,
                             const std::vector<std::string>& arms, const Paging& paging) const {
    const bool repeats = dialect_.placeholder == Dialect::Placeholder::kQuestion;
    const std::string order = OrderOf(paging);
    SqlText text;
    for (const std::string& arm : arms) {
      std::string select = "SELECT " + std::string(columns) + " FROM " + std::string(table) +
                           " WHERE " + conditions_ + arm;
      if (dialect_.limits_arms && arms.size() > 1) select = "(" + select + order + ")";
      if (!text.sql.empty()) text.sql += " UNION ALL ";
      text.sql += select;
      if (repeats || text.values.empty()) {
        text.values.insert(text.values.end(), values_.begin(), values_.end());
      }
    }
    text.sql += order;
    return text;
  }

 private:
  // Its placeholder.
  std::string Value(const std::string& value) {
    values_.push_back(value);
    return PlaceholderText(dialect_, values_.size());
  }
  static std::string OrderOf(const Paging& paging) {
    const std::string_view order =
        paging.newest_first ? " ORDER BY created_at DESC, id DESC" : " ORDER BY created_at, id";
    return std::string(order) + " LIMIT " + std::to_string(paging.limit + 1);
  }

  const Dialect& dialect_;
  std::string conditions_ = "TRUE";
  std::vector<std::string> values_;
};

// 'a', 'b': names that need no quoting.
template <typename Enum>
std::string NameList(std::span<const Enum> values, std::string_view (*name_of)(Enum)) {
  std::string list;
  for (const Enum value : values) {
    if (!list.empty()) list += ", ";
    list += '\'';
    list += name_of(value);
    list += '\'';
  }
  return list;
}

std::string LevelsFrom(Level min) {
  std::vector<Level> levels;
  for (auto level = static_cast<int>(min); level <= static_cast<int>(Level::kFatal); ++level) {
    levels.push_back(static_cast<Level>(level));
  }
  return "level IN (" + NameList(std::span<const Level>(levels), &LevelName) + ")";
}

// One arm per status, where each has an index range of its own.
std::vector<std::string> ArmsOf(const TaskQuery& query, const Filter& filter) {
  if (query.statuses.empty()) return {""};
  if (query.dag_id) return {" AND " + filter.NoIndex(StatusIn(query.statuses))};
  std::vector<TaskStatus> statuses = query.statuses;
  std::sort(statuses.begin(), statuses.end());
  statuses.erase(std::unique(statuses.begin(), statuses.end()), statuses.end());
  std::vector<std::string> arms;
  for (const TaskStatus status : statuses) {
    arms.push_back(" AND status = '" + std::string(TaskStatusName(status)) + "'");
  }
  return arms;
}

}  // namespace

std::string PlaceholderText(const Dialect& dialect, std::size_t n) {
  switch (dialect.placeholder) {
    case Dialect::Placeholder::kQuestionNumber: return "?" + std::to_string(n);
    case Dialect::Placeholder::kDollarNumber: return "$" + std::to_string(n);
    case Dialect::Placeholder::kQuestion: break;
  }
  return "?";
}

std::string StatusIn(std::span<const TaskStatus> statuses) {
  if (statuses.empty()) return "FALSE";
  return "status IN (" + NameList(statuses, &TaskStatusName) + ")";
}

SqlText TaskPageSql(const Dialect& dialect, const TaskQuery& query, const PageStart& start) {
  Filter filter(dialect);
  filter.Add("dag_id = ", query.dag_id);
  filter.Add("node_id = ", query.node_id);
  filter.AddRange("updated_at", query.updated_from, query.updated_until);
  filter.AddPage(query.paging, start, query.created_from, query.created_until);
  return filter.Page(kTaskColumns, "dag_tasks", ArmsOf(query, filter), query.paging);
}

SqlText ResumablePageSql(const Dialect& dialect, const Paging& paging, const PageStart& start) {
  Filter filter(dialect);
  filter.AddPage(paging, start, std::nullopt, std::nullopt);
  return filter.Page(
      kTaskColumns, "dag_tasks",
      {" AND status = 'running'", " AND status = 'failed' AND retry_count < max_retries"}, paging);
}

SqlText ActivityPageSql(const Dialect& dialect, const ActivityQuery& query,
                        const PageStart& start) {
  Filter filter(dialect);
  filter.Add("task_id = ", query.task_id);
  filter.Add(query.task_id ? filter.NoIndex("dag_id = ") : "dag_id = ", query.dag_id);
  filter.Add("node_id = ", query.node_id);
  filter.Add("action = ", query.action);
  if (query.level_min) filter.Add(LevelsFrom(*query.level_min));
  filter.AddPage(query.paging, start, query.created_from, query.created_until);
  return filter.Page(kActivityColumns, "dag_task_activity_logs", {""}, query.paging);
}

SqlText OldTasksSql(const Dialect& dialect, Time before, std::span<const TaskStatus> statuses,
                    std::string_view after, std::uint32_t limit) {
  SqlText text;
  text.values = {std::string(after), dialect.time_text(before)};
  text.sql = "SELECT id FROM dag_tasks WHERE id > " + PlaceholderText(dialect, 1) +
             " AND updated_at < " + PlaceholderText(dialect, 2) + " AND " +
             std::string(dialect.no_index) + StatusIn(TerminalOf(statuses)) +
             " ORDER BY id LIMIT " + std::to_string(limit);
  return text;
}

std::vector<std::span<const TaskChange>> TurnsOf(const Batch& batch) {
  std::vector<std::span<const TaskChange>> turns;
  std::span<const TaskChange> left(batch.tasks);
  while (!left.empty()) {
    const auto end = std::find_if(left.begin(), left.end(), [&](const TaskChange& change) {
      return change.turn != left.front().turn;
    });
    const auto count = static_cast<std::size_t>(end - left.begin());
    turns.push_back(left.first(count));
    left = left.subspan(count);
  }
  return turns;
}

std::string AndIsOpen(std::string_view place) {
  return " AND NOT " + std::string(place) + StatusIn(TerminalOf({}));
}

std::uint64_t HighestStampOf(const Batch& batch) {
  std::uint64_t stamp = 0;
  for (const auto& deletion : batch.dag_deletes) stamp = std::max(stamp, deletion.origin.stamp);
  for (const TaskChange& change : batch.tasks) stamp = std::max(stamp, change.origin.stamp);
  return stamp;
}

std::chrono::milliseconds TimeOf(const Batch& batch, std::chrono::milliseconds timeout) {
  return batch.time_max.count() > 0 ? std::min(batch.time_max, timeout) : timeout;
}

Status LaterOpener(std::string_view database, std::string_view wal_id, std::uint64_t stored,
                   std::uint64_t ours) {
  std::string text(database);
  text += ": a later opener of log ";
  text += wal_id;
  text += " has taken over (epoch " + std::to_string(stored);
  text += ", ours is " + std::to_string(ours) + ")";
  return Status::Fenced(std::move(text));
}

}  // namespace taskwal::storage

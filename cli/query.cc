// taskwal query: what the database holds, as a table or as JSON. Neither makes nor changes
// anything.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "cli/command.h"
#include "storage/backend.h"
#include "storage/operation.h"

namespace taskwal::cli {
namespace {

constexpr std::size_t kCellBytesMax = 60;

// As given on the command line.
struct QueryArguments {
  std::string dsn;
  std::string id;
  std::optional<std::string> dag, node, task, action;
  std::vector<std::string> statuses;
  std::string level;
  std::string from, until;
  Paging paging;
  bool json = false;
};

struct Database {
  std::unique_ptr<storage::Backend> backend;
  std::unique_ptr<storage::Session> session;
};

// A wrong name is bad usage; a database that cannot be read is a failure.
int Open(std::string_view command, const QueryArguments& arguments, Database* database) {
  const auto dsn = ResolveDsn(arguments.dsn);
  if (!dsn.ok()) return Fail(command, dsn.status());
  storage::BackendOptions options;
  options.create = false;
  auto backend = storage::MakeBackend(*dsn, options);
  if (!backend.ok()) return Fail(command, backend.status());
  auto session = (*backend)->Connect();
  if (!session.ok()) {
    PrintError(command, session.status().message());
    return kExitFailed;
  }
  database->backend = std::move(*backend);
  database->session = std::move(*session);
  return kExitDone;
}

Status ReadMoment(std::string_view option, const std::string& text, std::optional<Time>* into) {
  if (text.empty()) return Status::Ok();
  const auto time = ParseTimeOrAge(text);
  if (!time.ok()) {
    return Status::InvalidArgument(std::string(option) + ": " + time.status().message());
  }
  *into = *time;
  return Status::Ok();
}

Result<TaskQuery> TaskQueryOf(const QueryArguments& arguments) {
  TaskQuery query;
  query.dag_id = arguments.dag;
  query.node_id = arguments.node;
  query.paging = arguments.paging;
  for (const std::string& name : arguments.statuses) {
    const auto status = ParseTaskStatus(name);
    if (!status) {
      return Status::InvalidArgument(
          "--status takes pending, running, completed, failed or cancelled");
    }
    query.statuses.push_back(*status);
  }
  TASKWAL_TRY(ReadMoment("--from", arguments.from, &query.created_from));
  TASKWAL_TRY(ReadMoment("--until", arguments.until, &query.created_until));
  return query;
}

Result<ActivityQuery> ActivityQueryOf(const QueryArguments& arguments) {
  ActivityQuery query;
  query.task_id = arguments.task;
  query.dag_id = arguments.dag;
  query.node_id = arguments.node;
  query.action = arguments.action;
  query.paging = arguments.paging;
  if (!arguments.level.empty()) {
    query.level_min = ParseLevel(arguments.level);
    if (!query.level_min) {
      return Status::InvalidArgument("--level takes debug, info, warn, error or fatal");
    }
  }
  TASKWAL_TRY(ReadMoment("--from", arguments.from, &query.created_from));
  TASKWAL_TRY(ReadMoment("--until", arguments.until, &query.created_until));
  return query;
}

// One cell of a table: control characters would break the line or play with the terminal.
std::string Cell(std::string text) {
  std::replace_if(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  if (text.size() <= kCellBytesMax) return text;
  std::size_t end = kCellBytesMax;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "…";
}

std::string Cell(const std::optional<Time>& time) { return time ? FormatTime(*time) : ""; }

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintPage(const Table& table, const std::string& next_page) {
  Print(table.ToString());
  if (!next_page.empty()) Print("more: --after " + next_page + "\n");
}

// {"tasks":[…],"next_page":"…"}; next_page is "" on the last page.
template <typename Row>
void PrintPageAsJson(std::string_view name, const std::vector<Row>& rows,
                     std::string (*to_json)(const Row&), const std::string& next_page) {
  std::string text = "{\"" + std::string(name) + "\":[";
  for (const Row& row : rows) {
    if (&row != rows.data()) text += ',';
    text += to_json(row);
  }
  Print(text + "],\"next_page\":" + JsonQuote(next_page) + "}\n");
}

void PrintTasks(const QueryArguments& arguments, const TaskPage& page) {
  if (arguments.json) {
    PrintPageAsJson("tasks", page.tasks, &storage::TaskToJson, page.next_page);
    return;
  }
  Table table({"CREATED", "ID", "STATUS", "DAG", "NODE", "RETRIES", "UPDATED", "ERROR"});
  for (const Task& task : page.tasks) {
    table.AddRow({Cell(task.created_at), Cell(task.id), std::string(TaskStatusName(task.status)),
                  Cell(task.dag_id), Cell(task.node_id), std::to_string(task.retry_count),
                  Cell(task.updated_at), Cell(task.error)});
  }
  PrintPage(table, page.next_page);
}

void PrintActivities(const QueryArguments& arguments, const ActivityPage& page) {
  if (arguments.json) {
    PrintPageAsJson("activity", page.activities, &storage::ActivityToJson, page.next_page);
    return;
  }
  Table table({"TIME", "LEVEL", "TASK", "ACTION", "MESSAGE", "DAG", "NODE", "ID"});
  for (const Activity& activity : page.activities) {
    table.AddRow({Cell(activity.created_at), std::string(LevelName(activity.level)),
                  Cell(activity.task_id), Cell(activity.action), Cell(activity.message),
                  Cell(activity.dag_id), Cell(activity.node_id), Cell(activity.id)});
  }
  PrintPage(table, page.next_page);
}

void PrintCounts(const QueryArguments& arguments, const StoredCounts& counts) {
  if (!arguments.json) {
    Table table({"WHAT", "COUNT"});
    table.AddRow({"tasks", FormatCount(counts.tasks)});
    for (const auto& [status, count] : counts.tasks_by_status) {
      table.AddRow({"  " + std::string(TaskStatusName(status)), FormatCount(count)});
    }
    table.AddRow({"activity", FormatCount(counts.activities)});
    Print(table.ToString());
    return;
  }
  std::string by_status;
  for (const auto& [status, count] : counts.tasks_by_status) {
    if (!by_status.empty()) by_status += ',';
    by_status += "\"" + std::string(TaskStatusName(status)) + "\":" + std::to_string(count);
  }
  Print("{\"tasks\":" + std::to_string(counts.tasks) + ",\"activity\":" +
        std::to_string(counts.activities) + ",\"tasks_by_status\":{" + by_status + "}}\n");
}

Result<TaskPage> ReadTasks(storage::Session& session, const std::string& id,
                           const TaskQuery& query) {
  if (id.empty()) return session.QueryTasks(query);
  TASKWAL_ASSIGN(storage::Session::StoredTask row, session.GetTask(id));
  return TaskPage{{std::move(row.task)}, ""};
}

int RunTasks(const QueryArguments& arguments) {
  const auto query = TaskQueryOf(arguments);
  if (!query.ok()) return Fail("query tasks", query.status());
  Database database;
  if (const int failed = Open("query tasks", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto page = ReadTasks(*database.session, arguments.id, *query);
  if (!page.ok()) return Fail("query tasks", page.status());
  PrintTasks(arguments, *page);
  return kExitDone;
}

int RunActivity(const QueryArguments& arguments) {
  const auto query = ActivityQueryOf(arguments);
  if (!query.ok()) return Fail("query activity", query.status());
  Database database;
  if (const int failed = Open("query activity", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto page = database.session->QueryActivities(*query);
  if (!page.ok()) return Fail("query activity", page.status());
  PrintActivities(arguments, *page);
  return kExitDone;
}

int RunStats(const QueryArguments& arguments) {
  Database database;
  if (const int failed = Open("query stats", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto counts = database.session->Count();
  if (!counts.ok()) return Fail("query stats", counts.status());
  PrintCounts(arguments, *counts);
  return kExitDone;
}

using Arguments = std::shared_ptr<QueryArguments>;  // shared with the callback

// The options every query has, and the callback that runs it.
void Complete(CLI::App* command, const Arguments& arguments, int (*run)(const QueryArguments&),
              int* exit_code) {
  AddDatabaseOption(*command, &arguments->dsn);
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments, run, exit_code] { *exit_code = run(*arguments); });
}

void AddPageOptions(CLI::App* command, const Arguments& arguments) {
  command->add_option("--dag", arguments->dag, "Of this DAG")->type_name("ID");
  command->add_option("--node", arguments->node, "Of this node")->type_name("ID");
  command->add_option("--from", arguments->from, "Created at this time (or this long ago) or later")
      ->type_name("TIME");
  command->add_option("--until", arguments->until, "Created before this time (or this long ago)")
      ->type_name("TIME");
  command
      ->add_option("--limit", arguments->paging.limit, "Rows of a page, 1 to 10000 (default 100)")
      ->type_name("N");
  command->add_option("--after", arguments->paging.after, "The page behind this token")
      ->type_name("TOKEN");
  command->add_flag("--newest", arguments->paging.newest_first, "Newest first");
}

void AddTasks(CLI::App& query, int* exit_code) {
  const auto arguments = std::make_shared<QueryArguments>();
  CLI::App* command = query.add_subcommand("tasks", "Tasks, in the order they were created");
  command->add_option("--id", arguments->id, "Just this task")->type_name("ID");
  command->add_option("--status", arguments->statuses, "In one of these statuses (repeatable)")
      ->type_name("STATUS")
      ->delimiter(',');
  AddPageOptions(command, arguments);
  command->footer(
      "Examples: taskwal query tasks --db sqlite://tasks.db --dag run-7 --status failed,cancelled\n"
      "          taskwal query tasks --db sqlite://tasks.db --id run-7/extract --json");
  Complete(command, arguments, &RunTasks, exit_code);
}

void AddActivity(CLI::App& query, int* exit_code) {
  const auto arguments = std::make_shared<QueryArguments>();
  CLI::App* command = query.add_subcommand("activity", "Activity, in the order it happened");
  command->add_option("--task", arguments->task, "Of this task")->type_name("ID");
  command->add_option("--action", arguments->action, "With this action")->type_name("NAME");
  command->add_option("--level", arguments->level, "At this level or above")->type_name("LEVEL");
  AddPageOptions(command, arguments);
  command->footer(
      "Example: taskwal query activity --db sqlite://tasks.db --level error --from 24h --newest");
  Complete(command, arguments, &RunActivity, exit_code);
}

void AddStats(CLI::App& query, int* exit_code) {
  const auto arguments = std::make_shared<QueryArguments>();
  CLI::App* command =
      query.add_subcommand("stats", "How many tasks, by status, and how much activity");
  command->footer("Example: taskwal query stats --db sqlite://tasks.db");
  Complete(command, arguments, &RunStats, exit_code);
}

}  // namespace

void AddQueryCommand(CLI::App& app, int* exit_code) {
  CLI::App* query = app.add_subcommand("query", "Show what a database holds");
  query->require_subcommand(1);
  AddTasks(*query, exit_code);
  AddActivity(*query, exit_code);
  AddStats(*query, exit_code);
}

}  // namespace taskwal::cli

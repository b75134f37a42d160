// taskwal query: what the database holds, as a table or as JSON. Neither makes nor changes
// anything.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/status_macros.h"
#include "cli/command.h"
#include "cli/progress.h"
#include "pipeline/query_text.h"
#include "pipeline/targets/target_queries.h"
#include "storage/backend.h"
#include "storage/page_json.h"

namespace taskwal::cli {
namespace {

// As given on the command line.
struct QueryArguments {
  std::vector<std::string> databases;
  std::string id;
  pipeline::QueryText filter;
  std::chrono::milliseconds timeout = storage::BackendOptions{}.timeout;
  bool json = false;
};

// One database, or several as one.
struct Database {
  ProgressBar bar{"asking the database"};  // until there is a result to be shown
  std::vector<std::unique_ptr<storage::Backend>> backends;
  std::vector<std::unique_ptr<pipeline::DatabaseCalls>> calls;
  std::unique_ptr<pipeline::TargetQueries> queries;
};

// A wrong name is bad usage; a database that cannot be read is a failure.
int Open(std::string_view command, const QueryArguments& arguments, Database* database) {
  const auto targets = ResolveTargets(arguments.databases);
  if (!targets.ok()) return Fail(command, targets.status());
  storage::BackendOptions options;
  options.create = false;
  options.timeout = arguments.timeout;
  std::vector<pipeline::TargetQueries::Database> parts;
  for (const TargetOptions& target : *targets) {
    auto backend = storage::MakeBackend(target.dsn, options);
    if (!backend.ok()) return Fail(command, backend.status());
    const ProgressBar bar("waiting for " + (*backend)->name(), {.limit = arguments.timeout});
    if (const auto session = (*backend)->Connect(); !session.ok()) {
      PrintError(command, session.status().message());
      return kExitFailed;
    }
    database->backends.push_back(std::move(*backend));
    database->calls.push_back(
        std::make_unique<pipeline::DatabaseCalls>(*database->backends.back()));
    parts.push_back({0, target.name, database->calls.back().get()});
  }
  // Without a log nothing tells where a task is at home: its newest row counts.
  database->queries = std::make_unique<pipeline::TargetQueries>(
      std::move(parts), [](const std::string&) { return std::uint16_t{0}; });
  return kExitDone;
}

// Filters are named as options are.
Status AsOption(const Status& status) { return {status.code(), "--" + status.message()}; }

std::string TimeCell(const std::optional<Time>& time) { return time ? FormatTime(*time) : ""; }

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintPage(const Table& table, const std::string& next_page) {
  Print(table.ToString());
  if (!next_page.empty()) Print("more: --after " + next_page + "\n");
}

void PrintTasks(const QueryArguments& arguments, const TaskPage& page) {
  if (arguments.json) {
    Print(storage::TaskPageToJson(page) + "\n");
    return;
  }
  Table table({"CREATED", "ID", "STATUS", "DAG", "NODE", "RETRIES", "UPDATED", "ERROR"});
  for (const Task& task : page.tasks) {
    table.AddRow({TimeCell(task.created_at), Cell(task.id),
                  std::string(TaskStatusName(task.status)), Cell(task.dag_id), Cell(task.node_id),
                  std::to_string(task.retry_count), TimeCell(task.updated_at), Cell(task.error)});
  }
  PrintPage(table, page.next_page);
}

void PrintActivities(const QueryArguments& arguments, const ActivityPage& page) {
  if (arguments.json) {
    Print(storage::ActivityPageToJson(page) + "\n");
    return;
  }
  Table table({"TIME", "LEVEL", "TASK", "ACTION", "MESSAGE", "DAG", "NODE", "ID"});
  for (const Activity& activity : page.activities) {
    table.AddRow({TimeCell(activity.created_at), std::string(LevelName(activity.level)),
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
  Print(storage::CountsToJson(counts) + "\n");
}

Result<TaskPage> ReadTasks(const Database& database, const std::string& id,
                           const TaskQuery& query) {
  if (id.empty()) return database.queries->QueryTasks(query);
  Status missing;
  // A task that a rebalance moves meanwhile is in its new home before it leaves the old one: all
  // but the last are looked at again.
  const std::size_t turns = 2 * database.calls.size() - 1;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    auto row = database.calls[turn % database.calls.size()]->GetTask(id);
    if (row.ok()) return TaskPage{{std::move(row->task)}, ""};
    if (row.status().code() != StatusCode::kNotFound) return row.status();
    missing = row.status();
  }
  return missing;
}

int RunTasks(const QueryArguments& arguments) {
  const auto query = pipeline::ParseTaskQuery(arguments.filter);
  if (!query.ok()) return Fail("query tasks", AsOption(query.status()));
  Database database;
  if (const int failed = Open("query tasks", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto page = ReadTasks(database, arguments.id, *query);
  database.bar.End();
  if (!page.ok()) return Fail("query tasks", page.status());
  PrintTasks(arguments, *page);
  return kExitDone;
}

int RunActivity(const QueryArguments& arguments) {
  const auto query = pipeline::ParseActivityQuery(arguments.filter);
  if (!query.ok()) return Fail("query activity", AsOption(query.status()));
  Database database;
  if (const int failed = Open("query activity", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto page = database.queries->QueryActivities(*query);
  database.bar.End();
  if (!page.ok()) return Fail("query activity", page.status());
  PrintActivities(arguments, *page);
  return kExitDone;
}

int RunStats(const QueryArguments& arguments) {
  Database database;
  if (const int failed = Open("query stats", arguments, &database); failed != kExitDone) {
    return failed;
  }
  const auto counts = database.queries->Count();
  database.bar.End();
  if (!counts.ok()) return Fail("query stats", counts.status());
  PrintCounts(arguments, *counts);
  return kExitDone;
}

using Arguments = std::shared_ptr<QueryArguments>;  // shared with the callback

// The options every query has, and the callback that runs it.
void Complete(CLI::App* command, const Arguments& arguments, int (*run)(const QueryArguments&),
              int* exit_code) {
  AddDatabasesOption(*command, &arguments->databases);
  AddDurationOption(*command, "--timeout", &arguments->timeout,
                    "Each call of a database takes at most this long");
  command->add_flag("--json", arguments->json, "Print one JSON object");
  command->callback([arguments, run, exit_code] { *exit_code = run(*arguments); });
}

void AddPageOptions(CLI::App* command, const Arguments& arguments) {
  command->add_option("--dag", arguments->filter.dag, "Of this DAG")->type_name("ID");
  command->add_option("--node", arguments->filter.node, "Of this node")->type_name("ID");
  command
      ->add_option("--from", arguments->filter.from,
                   "Created at this time (or this long ago) or later")
      ->type_name("TIME");
  command
      ->add_option("--until", arguments->filter.until,
                   "Created before this time (or this long ago)")
      ->type_name("TIME");
  command
      ->add_option("--limit", arguments->filter.paging.limit,
                   "Rows of a page, 1 to 10000 (default 100)")
      ->type_name("N");
  command->add_option("--after", arguments->filter.paging.after, "The page behind this token")
      ->type_name("TOKEN");
  command->add_flag("--newest", arguments->filter.paging.newest_first, "Newest first");
}

void AddTasks(CLI::App& query, int* exit_code) {
  const auto arguments = std::make_shared<QueryArguments>();
  CLI::App* command = query.add_subcommand("tasks", "Tasks, in the order they were created");
  CLI::Option* id = command->add_option("--id", arguments->id, "Just this task");
  id->type_name("ID")->check(NotEmpty);
  command
      ->add_option("--status", arguments->filter.statuses, "In one of these statuses (repeatable)")
      ->type_name("STATUS")
      ->delimiter(',');
  AddPageOptions(command, arguments);
  // One task is found or not: a filter beside it would be passed over.
  for (CLI::Option* option : command->get_options()) {
    const std::string name = option->get_name();
    if (option != id && name != "--help" && name != "--db" && name != "--json")
      id->excludes(option);
  }
  command->footer(
      "Examples: taskwal query tasks --db sqlite://tasks.db --dag run-7 --status failed,cancelled\n"
      "          taskwal query tasks --db sqlite://tasks.db --id run-7/extract --json");
  Complete(command, arguments, &RunTasks, exit_code);
}

void AddActivity(CLI::App& query, int* exit_code) {
  const auto arguments = std::make_shared<QueryArguments>();
  CLI::App* command = query.add_subcommand("activity", "Activity, in the order it happened");
  command->add_option("--task", arguments->filter.task, "Of this task")->type_name("ID");
  command->add_option("--action", arguments->filter.action, "With this action")->type_name("NAME");
  command->add_option("--level", arguments->filter.level, "At this level or above")
      ->type_name("LEVEL");
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

// GET /api/v1/tasks and /api/v1/activity: filters, paging and JSON of `taskwal query`.
#include <array>
#include <charconv>
#include <span>

#include "base/nearest_name.h"
#include "base/status_macros.h"
#include "pipeline/query_text.h"
#include "server/service.h"
#include "storage/operation.h"
#include "storage/page_json.h"

namespace taskwal::server {
namespace {

using pipeline::QueryText;

constexpr std::array<std::string_view, 8> kTaskFilters = {"dag",   "node",  "status", "from",
                                                          "until", "limit", "after",  "newest"};
constexpr std::array<std::string_view, 10> kActivityFilters = {
    "task", "dag", "node", "action", "level", "from", "until", "limit", "after", "newest"};

// "a,b" -> a, b.
void SplitInto(const std::string& text, std::vector<std::string>* into) {
  std::size_t at = 0;
  for (;;) {
    const std::size_t comma = text.find(',', at);
    into->push_back(text.substr(at, comma - at));
    if (comma == std::string::npos) return;
    at = comma + 1;
  }
}

Status SetLimit(const std::string& value, std::uint32_t* limit) {
  const char* const end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, *limit);
  if (read.ec == std::errc{} && read.ptr == end && !value.empty()) return Status::Ok();
  return Status::InvalidArgument("limit is no whole number");
}

Status SetFilter(const std::string& name, const std::string& value, QueryText* text) {
  if (name == "limit") return SetLimit(value, &text->paging.limit);
  if (name == "newest") {
    text->paging.newest_first = value.empty() || value == "true" || value == "1";
    if (text->paging.newest_first || value == "false" || value == "0") return Status::Ok();
    return Status::InvalidArgument("newest is true or false");
  }
  if (name == "status") SplitInto(value, &text->statuses);
  if (name == "dag") text->dag = value;
  if (name == "node") text->node = value;
  if (name == "task") text->task = value;
  if (name == "action") text->action = value;
  if (name == "level") text->level = value;
  if (name == "from") text->from = value;
  if (name == "until") text->until = value;
  if (name == "after") text->paging.after = value;
  return Status::Ok();
}

Result<QueryText> ReadFilters(const HttpRequest& request, std::span<const std::string_view> known) {
  QueryText text;
  for (const auto& [name, value] : request.parameters) {
    bool is_known = false;
    for (const std::string_view filter : known) is_known = is_known || filter == name;
    if (!is_known) {
      const std::string shown = name.substr(0, 64);
      return Status::InvalidArgument("unknown parameter \"" + shown + "\"" +
                                     DidYouMean(shown, known));
    }
    TASKWAL_TRY(SetFilter(name, value, &text));
  }
  return text;
}

Result<std::string> TasksAsJson(Service& service, const HttpRequest& request) {
  TASKWAL_ASSIGN(const QueryText text, ReadFilters(request, kTaskFilters));
  TASKWAL_ASSIGN(const TaskQuery query, pipeline::ParseTaskQuery(text));
  TASKWAL_ASSIGN(const TaskPage page, service.storage.QueryTasks(query));
  return storage::TaskPageToJson(page);
}

Result<std::string> ActivityAsJson(Service& service, const HttpRequest& request) {
  TASKWAL_ASSIGN(const QueryText text, ReadFilters(request, kActivityFilters));
  TASKWAL_ASSIGN(const ActivityQuery query, pipeline::ParseActivityQuery(text));
  TASKWAL_ASSIGN(const ActivityPage page, service.storage.QueryActivities(query));
  return storage::ActivityPageToJson(page);
}

// Sees what was acknowledged at once, whether or not a database has it.
Result<std::string> TaskAsJson(Service& service, const HttpRequest& request) {
  TASKWAL_ASSIGN(const Task task, service.storage.GetTask(request.id));
  return storage::TaskToJson(task);
}

void AddQuery(Router& router, Service& service, std::string_view pattern,
              Result<std::string> (*query)(Service&, const HttpRequest&)) {
  router.Add("GET", pattern, [&service, query](const HttpRequest& request) {
    auto json = query(service, request);
    return json.ok() ? JsonAnswer(std::move(json).value()) : ErrorAnswer(json.status());
  });
}

}  // namespace

void AddQueryRoutes(Router& router, Service& service) {
  AddQuery(router, service, "/api/v1/tasks", &TasksAsJson);
  AddQuery(router, service, "/api/v1/tasks/:id", &TaskAsJson);
  AddQuery(router, service, "/api/v1/activity", &ActivityAsJson);
}

}  // namespace taskwal::server

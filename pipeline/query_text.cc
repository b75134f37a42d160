#include "pipeline/query_text.h"

#include "base/clock.h"
#include "base/status_macros.h"
#include "pipeline/option_fields.h"

namespace taskwal::pipeline {
namespace {

Status ReadMoment(std::string_view filter, const std::string& text, std::optional<Time>* into) {
  if (text.empty()) return Status::Ok();
  const auto time = ParseTimeOrAge(text);
  if (!time.ok()) {
    return Status::InvalidArgument(std::string(filter) + ": " + time.status().message());
  }
  *into = *time;
  return Status::Ok();
}

}  // namespace

Result<TaskQuery> ParseTaskQuery(const QueryText& text) {
  TaskQuery query;
  query.dag_id = text.dag;
  query.node_id = text.node;
  query.paging = text.paging;
  for (const std::string& name : text.statuses) {
    const auto status = ParseTaskStatus(name);
    if (!status) {
      return Status::InvalidArgument(
          "status takes pending, running, completed, failed or cancelled");
    }
    query.statuses.push_back(*status);
  }
  TASKWAL_TRY(ReadMoment("from", text.from, &query.created_from));
  TASKWAL_TRY(ReadMoment("until", text.until, &query.created_until));
  return query;
}

Result<ActivityQuery> ParseActivityQuery(const QueryText& text) {
  ActivityQuery query;
  query.task_id = text.task;
  query.dag_id = text.dag;
  query.node_id = text.node;
  query.action = text.action;
  query.paging = text.paging;
  if (!text.level.empty()) {
    query.level_min = ParseLevel(text.level);
    if (!query.level_min) {
      return Status::InvalidArgument("level takes debug, info, warn, error or fatal");
    }
  }
  TASKWAL_TRY(ReadMoment("from", text.from, &query.created_from));
  TASKWAL_TRY(ReadMoment("until", text.until, &query.created_until));
  return query;
}

Result<Time> ParseTimeOrAge(std::string_view text) {
  if (const auto time = ParseTime(text)) return *time;
  const auto age = ParseDuration(text);
  if (!age.ok()) {
    return Status::InvalidArgument("\"" + std::string(text) +
                                   "\" is no time: write 2026-11-21T06:00:00Z, or an age as 24h");
  }
  return Clock::Real().WallNow() - *age;
}

}  // namespace taskwal::pipeline

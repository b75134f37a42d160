#include "storage/page_json.h"

#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "storage/operation.h"

namespace taskwal::storage {
namespace {

template <typename Row>
std::string PageToJson(std::string_view name, const std::vector<Row>& rows,
                       std::string (*to_json)(const Row&), const std::string& next_page) {
  std::string text = "{\"" + std::string(name) + "\":[";
  for (const Row& row : rows) {
    if (&row != rows.data()) text += ',';
    text += to_json(row);
  }
  return text + "],\"next_page\":" + JsonQuote(next_page) + "}";
}

}  // namespace

std::string TaskPageToJson(const TaskPage& page) {
  return PageToJson("tasks", page.tasks, &TaskToJson, page.next_page);
}

std::string ActivityPageToJson(const ActivityPage& page) {
  return PageToJson("activity", page.activities, &ActivityToJson, page.next_page);
}

std::string CountsToJson(const StoredCounts& counts) {
  std::string by_status;
  for (const auto& [status, count] : counts.tasks_by_status) {
    if (!by_status.empty()) by_status += ',';
    by_status += "\"" + std::string(TaskStatusName(status)) + "\":" + std::to_string(count);
  }
  return "{\"tasks\":" + std::to_string(counts.tasks) +
         ",\"activity\":" + std::to_string(counts.activities) + ",\"tasks_by_status\":{" +
         by_status + "}}";
}

}  // namespace taskwal::storage

#include "pipeline/activity_context.h"

#include <algorithm>
#include <set>

#include "base/json_text.h"
#include "taskwal/context.h"
#include "taskwal/task.h"

namespace taskwal {
namespace {

using Fields = ContextScope::Fields;

constexpr std::size_t kWrapBytes = 16;  // at most, of what keeps data that is no object

Fields& ThreadFields() {
  thread_local Fields fields;
  return fields;
}

// Of an object; nothing where `json` is none.
std::optional<std::set<std::string>> KeysOf(std::string_view json) {
  std::set<std::string> keys;
  JsonCursor cursor(json);
  if (cursor.Peek() != '{') return std::nullopt;
  for (bool more = cursor.EnterObject(); more; more = cursor.NextMember()) {
    keys.insert(cursor.key());
    if (!cursor.ReadRaw()) break;
  }
  if (!cursor.AtEnd()) return std::nullopt;
  return keys;
}

// PostgreSQL's jsonb knows no U+0000.
std::string Quoted(const std::string& text) {
  std::string clean = text;
  std::replace(clean.begin(), clean.end(), '\0', ' ');
  return JsonQuote(clean);
}

}  // namespace

ContextScope::ContextScope(std::initializer_list<Field> fields)
    : fields_before_(ThreadFields().size()) {
  for (const auto& [key, value] : fields) ThreadFields().emplace_back(key, value);
}

ContextScope::ContextScope(const Fields& fields) : fields_before_(ThreadFields().size()) {
  ThreadFields().insert(ThreadFields().end(), fields.begin(), fields.end());
}

ContextScope::~ContextScope() { ThreadFields().resize(fields_before_); }

ContextScope::Fields ContextScope::Capture() { return ThreadFields(); }

namespace pipeline {

bool HasContext() { return !ThreadFields().empty(); }

std::optional<std::string> WithContext(const std::optional<std::string>& data) {
  if (data && !IsJson(*data)) return std::nullopt;
  std::set<std::string> keys;
  std::string merged = "{";
  if (auto own = data ? KeysOf(*data) : std::nullopt) {
    keys = std::move(*own);
    merged = data->substr(0, data->rfind('}'));
  } else if (data) {
    if (data->size() + kWrapBytes > kJsonBytesMax) return *data;
    merged += "\"data\":" + *data;
    keys.insert("data");
  }
  const Fields& fields = ThreadFields();
  for (auto field = fields.begin(); field != fields.end(); ++field) {
    const bool is_hidden = std::any_of(
        field + 1, fields.end(), [&](const auto& inner) { return inner.first == field->first; });
    const std::string member = Quoted(field->first) + ":" + Quoted(field->second);
    if (is_hidden || merged.size() + member.size() + 2 > kJsonBytesMax) continue;
    if (!keys.insert(field->first).second) continue;
    merged += (keys.size() > 1 ? "," : "") + member;
  }
  return merged + "}";
}

}  // namespace pipeline
}  // namespace taskwal

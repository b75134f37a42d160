// Fields that every activity logged inside a block carries: a trace id, a tenant, a request.
//
//   ContextScope request({{"trace_id", id}, {"tenant", "acme"}});
//   storage.LogActivity(activity);   // data {"rows":1} is stored as {"rows":1,"trace_id":"…",…}
//
// The fields become members of the activity's `data`, as strings. A key that `data` has already
// wins, and an inner scope's over an outer one's. Absent data becomes an object of the fields; data
// that is no object is kept under "data" beside them. Fields that would take `data` past its limit
// are left out. Scopes belong to their thread and end in reverse order; Capture carries them over.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace taskwal {

class ContextScope {
 public:
  using Field = std::pair<std::string_view, std::string_view>;
  using Fields = std::vector<std::pair<std::string, std::string>>;

  explicit ContextScope(std::initializer_list<Field> fields);
  explicit ContextScope(const Fields& fields);
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

  // The fields of this thread's scopes, the outermost first: for a scope on another thread.
  static Fields Capture();

 private:
  std::size_t fields_before_;
};

}  // namespace taskwal

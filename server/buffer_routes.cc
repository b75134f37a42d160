// The load and what is done about it; the knobs that turn without a restart.
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "server/service.h"
#include "server/stats_json.h"
#include "taskwal/control.h"

namespace taskwal::server {
namespace {

using Numbers = std::map<std::string, std::optional<std::uint64_t>>;

// {"name":N,…} of a few numbers, each of which may be null. An empty body is {}.
Result<Numbers> ReadNumbers(std::string_view body, const std::set<std::string>& names) {
  Numbers numbers;
  if (body.empty()) return numbers;
  JsonCursor in(body);
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    const std::string name = in.key();
    if (!names.contains(name)) {
      return Status::InvalidArgument(JsonQuote(name.substr(0, 64)) + " is no field here");
    }
    std::optional<std::uint64_t> value;
    if (!in.ReadNull()) {
      const auto number = in.ReadInteger();
      if (!number || *number < 0) return Status::InvalidArgument(name + " is no number from 0 on");
      value = static_cast<std::uint64_t>(*number);
    }
    if (!numbers.emplace(name, value).second) {
      return Status::InvalidArgument(name + " is given twice");
    }
  }
  if (in.AtEnd()) return numbers;
  return Status::InvalidArgument("the body is no JSON object of numbers");
}

Status SetRate(Control& control, const HttpRequest& request) {
  TASKWAL_ASSIGN(auto numbers, ReadNumbers(request.body, {"rate", "burst"}));
  if (!numbers["rate"]) {
    return Status::InvalidArgument(R"(the body is {"rate":RECORDS_PER_SECOND,"burst":RECORDS})");
  }
  return control.SetRate(*numbers["rate"], numbers["burst"].value_or(0));
}

Status SetBatchSize(Control& control, const HttpRequest& request) {
  TASKWAL_ASSIGN(auto numbers, ReadNumbers(request.body, {"size"}));
  if (!numbers.contains("size")) {
    return Status::InvalidArgument(R"(the body is {"size":RECORDS}, or {"size":null} for none)");
  }
  const std::optional<std::uint64_t> size = numbers["size"];
  if (!size) return control.SetBatchSize(std::nullopt);
  if (*size > std::numeric_limits<std::uint32_t>::max()) {
    return Status::InvalidArgument("size does not fit in 32 bits");
  }
  return control.SetBatchSize(static_cast<std::uint32_t>(*size));
}

// {"target":"name"}; an empty body or {}: of all.
Status ResetBreaker(Control& control, const HttpRequest& request) {
  if (request.body.empty()) return control.ResetBreaker({});
  JsonCursor in(request.body);
  std::string target;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    std::optional<std::string> name;
    if (in.key() == "target") name = in.ReadString();
    if (!name) break;
    target = std::move(*name);
  }
  if (in.AtEnd()) return control.ResetBreaker(target);
  return Status::InvalidArgument(R"(the body is {"target":"NAME"}, or nothing for all)");
}

using Answer = std::function<HttpResponse(Control&, const HttpRequest&)>;

void AddControl(Router& router, Service& service, std::string_view method, std::string_view pattern,
                Answer answer) {
  router.Add(method, pattern, [&service, answer = std::move(answer)](const HttpRequest& request) {
    Control* const control = service.storage.GetControl();
    if (control != nullptr) return answer(*control, request);
    return ErrorAnswer(404, "there is no log to control: wal.enabled is off");
  });
}

// Answers with how it is afterwards.
void AddKnob(Router& router, Service& service, std::string_view pattern,
             Status (*set)(Control&, const HttpRequest&), std::string (*show)(Control&)) {
  AddControl(router, service, "POST", pattern,
             [set, show](Control& control, const HttpRequest& request) {
               const Status done = set(control, request);
               return done.ok() ? JsonAnswer(show(control)) : ErrorAnswer(done);
             });
}

std::string ShowBuffer(Control& control) { return BufferToJson(control.Buffer()); }
std::string ShowFlow(Control& control) { return FlowControlToJson(control.FlowControl()); }
std::string ShowPressure(Control& control) { return BackpressureToJson(control.Backpressure()); }

void AddView(Router& router, Service& service, std::string_view pattern,
             std::string (*show)(Control&)) {
  AddControl(router, service, "GET", pattern,
             [show](Control& control, const HttpRequest&) { return JsonAnswer(show(control)); });
}

}  // namespace

void AddBufferRoutes(Router& router, Service& service) {
  AddView(router, service, "/buffer/stats", &ShowBuffer);
  AddView(router, service, "/buffer/backpressure", &ShowPressure);
  AddView(router, service, "/buffer/flow-control", &ShowFlow);
  AddKnob(router, service, "/buffer/flow-control/rate", &SetRate, &ShowFlow);
  AddKnob(router, service, "/buffer/batch-size", &SetBatchSize, &ShowBuffer);
  AddKnob(router, service, "/buffer/circuit-breaker/reset", &ResetBreaker, &ShowBuffer);
}

}  // namespace taskwal::server

// Health, statistics, metrics and targets.
#include <optional>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "metrics/registry.h"
#include "server/service.h"
#include "server/stats_json.h"

namespace taskwal::server {
namespace {

HttpResponse Outcome(const Status& status) {
  return status.ok() ? JsonAnswer(R"({"ok":true})") : ErrorAnswer(status);
}

HttpResponse GetStatsJson(Service& service) {
  std::optional<BufferSnapshot> flow;
  if (Control* control = service.storage.GetControl()) flow = control->Buffer();
  return JsonAnswer(StatsToJson(service, service.storage.GetStats(), flow ? &*flow : nullptr));
}

HttpResponse GetMetrics(Service& service) {
  metrics::Source source;
  source.stats = service.storage.GetStats();
  if (Control* control = service.storage.GetControl()) {
    source.flows = control->Buffer().targets;
    source.backpressure = control->Backpressure();
    source.flow_control = control->FlowControl();
  }
  HttpResponse response;
  response.body = metrics::PrometheusText(metrics::Collect(source));
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return response;
}

HttpResponse GetReady(Service& service) {
  if (service.stopping.stop_requested() || service.storage.IsShutdown()) {
    return ErrorAnswer(503, "the daemon is stopping");
  }
  return JsonAnswer(R"({"status":"ready"})");
}

// {"in_service":true}
Result<bool> ReadInService(std::string_view body) {
  JsonCursor in(body);
  std::optional<bool> in_service;
  for (bool more = in.EnterObject(); more; more = in.NextMember()) {
    if (in.key() != "in_service" || in_service) break;
    in_service = in.ReadBool();
    if (!in_service) break;
  }
  if (in.AtEnd() && in_service) return *in_service;
  return Status::InvalidArgument(R"(the body is {"in_service":true} or {"in_service":false})");
}

HttpResponse PostTargetHealth(Service& service, const HttpRequest& request) {
  const auto in_service = ReadInService(request.body);
  if (!in_service.ok()) return ErrorAnswer(in_service.status());
  return Outcome(service.storage.SetTargetHealth(request.id, *in_service));
}

}  // namespace

void AddAdminRoutes(Router& router, Service& service) {
  router.AddOpen("GET", "/healthz",
                 [](const HttpRequest&) { return JsonAnswer(R"({"status":"alive"})"); });
  router.AddOpen("GET", "/readyz", [&service](const HttpRequest&) { return GetReady(service); });
  router.Add("GET", "/api/v1/health", [&service](const HttpRequest&) {
    return JsonAnswer(HealthToJson(service, service.storage.GetStats()));
  });
  router.Add("GET", "/api/v1/stats",
             [&service](const HttpRequest&) { return GetStatsJson(service); });
  router.Add("GET", "/metrics", [&service](const HttpRequest&) { return GetMetrics(service); });
  router.Add("GET", "/api/v1/targets", [&service](const HttpRequest&) {
    return JsonAnswer(TargetsToJson(service.storage.GetStats()));
  });
  router.Add("POST", "/api/v1/targets/:id/health",
             [&service](const HttpRequest& request) { return PostTargetHealth(service, request); });
}

}  // namespace taskwal::server

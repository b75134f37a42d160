#include "server/router.h"

#include <optional>
#include <utility>

namespace taskwal::server {
namespace {

constexpr std::string_view kId = ":id";

// The id, empty for a route without; nothing where the path is not of this route.
std::optional<std::string_view> IdIn(const Router::Route& route, std::string_view path) {
  if (!route.has_id) {
    if (path != route.prefix) return std::nullopt;
    return std::string_view();
  }
  const std::size_t around = route.prefix.size() + route.suffix.size();
  if (path.size() <= around || !path.starts_with(route.prefix) || !path.ends_with(route.suffix)) {
    return std::nullopt;
  }
  return path.substr(route.prefix.size(), path.size() - around);
}

}  // namespace

void Router::Add(std::string_view method, std::string_view pattern, Handler handler) {
  Route route;
  route.method = std::string(method);
  const std::size_t at = pattern.find(kId);
  route.has_id = at != std::string_view::npos;
  route.prefix = std::string(pattern.substr(0, at));
  if (route.has_id) route.suffix = std::string(pattern.substr(at + kId.size()));
  route.handler = std::move(handler);
  routes_.push_back(std::move(route));
}

void Router::AddOpen(std::string_view method, std::string_view pattern, Handler handler) {
  Add(method, pattern, std::move(handler));
  routes_.back().is_open = true;
}

Router::Match Router::Find(std::string_view method, std::string_view path) const {
  if (method == "HEAD") method = "GET";
  Match match;
  for (const Route& route : routes_) {
    const auto id = IdIn(route, path);
    if (!id) continue;
    if (route.method == method) return {&route, std::string(*id), {}};
    match.allowed += (match.allowed.empty() ? "" : ", ") + route.method;
  }
  return match;
}

}  // namespace taskwal::server

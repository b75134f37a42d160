// A request and its answer as plain values: routes know nothing of the HTTP library.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "taskwal/status.h"

namespace taskwal::server {

struct HttpRequest {
  std::string method;
  std::string path;                                             // decoded
  std::vector<std::pair<std::string, std::string>> parameters;  // of the query, decoded
  std::string body;
  std::string id;  // what stands for :id in the route's pattern
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;
};

// `json` and a line break.
HttpResponse JsonAnswer(std::string json, int status = 200);
// {"error":"…"}, on one line.
HttpResponse ErrorAnswer(int status, std::string_view message);
// The same with the status code that tells the caller's next move: 429 and 503 say when to retry.
HttpResponse ErrorAnswer(const Status& status);
int HttpStatusOf(StatusCode code);

}  // namespace taskwal::server

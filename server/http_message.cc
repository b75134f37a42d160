#include "server/http_message.h"

#include "base/json_text.h"

namespace taskwal::server {
namespace {

constexpr const char* kRetryAfterSeconds = "1";

}  // namespace

HttpResponse JsonAnswer(std::string json, int status) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(json);
  response.body += '\n';
  if (status == 429 || status == 503) {
    response.headers.emplace_back("Retry-After", kRetryAfterSeconds);
  }
  return response;
}

HttpResponse ErrorAnswer(int status, std::string_view message) {
  return JsonAnswer("{\"error\":" + JsonQuote(message) + "}", status);
}

HttpResponse ErrorAnswer(const Status& status) {
  return ErrorAnswer(HttpStatusOf(status.code()), status.message());
}

int HttpStatusOf(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return 200;
    case StatusCode::kInvalidArgument:
      return 400;
    case StatusCode::kNotFound:
      return 404;
    case StatusCode::kRejected:
      return 422;
    case StatusCode::kOverloaded:
      return 429;
    case StatusCode::kCorruption:
      return 500;
    case StatusCode::kUnavailable:
    case StatusCode::kInDoubt:
    case StatusCode::kFenced:
    case StatusCode::kIoError:
    case StatusCode::kClosed:
      return 503;
  }
  return 500;
}

}  // namespace taskwal::server

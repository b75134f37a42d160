#include "tests/contract/http_client.h"

#include <httplib.h>

namespace taskwal {
namespace {

constexpr time_t kTimeoutSeconds = 60;

httplib::Client Connected(const std::string& url) {
  httplib::Client client(url);
  client.set_connection_timeout(kTimeoutSeconds);
  client.set_read_timeout(kTimeoutSeconds);
  client.set_write_timeout(kTimeoutSeconds);
  return client;
}

httplib::Headers HeadersOf(const HttpClient::Headers& headers) {
  return {headers.begin(), headers.end()};
}

HttpAnswer AnswerOf(const httplib::Result& result) {
  if (!result) return {0, httplib::to_string(result.error()), {}};
  HttpAnswer answer{result->status, result->body, {}};
  for (const auto& [name, value] : result->headers) answer.headers[name] = value;
  return answer;
}

}  // namespace

HttpAnswer HttpClient::Get(const std::string& path, const Headers& headers) const {
  return AnswerOf(Connected(url_).Get(path, HeadersOf(headers)));
}

HttpAnswer HttpClient::Post(const std::string& path, const std::string& body,
                            const Headers& headers) const {
  return AnswerOf(Connected(url_).Post(path, HeadersOf(headers), body, "application/json"));
}

HttpAnswer HttpClient::Delete(const std::string& path) const {
  return AnswerOf(Connected(url_).Delete(path));
}

}  // namespace taskwal

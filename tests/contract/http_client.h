// Calls of one HTTP server, for tests. Every call has a deadline.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace taskwal {

struct HttpAnswer {
  int status = 0;  // 0: no answer; the reason is in body
  std::string body;
  std::map<std::string, std::string> headers;
};

class HttpClient {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  // "http://127.0.0.1:8080".
  explicit HttpClient(std::string url) : url_(std::move(url)) {}

  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] HttpAnswer Get(const std::string& path, const Headers& headers = {}) const;
  [[nodiscard]] HttpAnswer Post(const std::string& path, const std::string& body,
                                const Headers& headers = {}) const;
  [[nodiscard]] HttpAnswer Delete(const std::string& path) const;

 private:
  std::string url_;
};

}  // namespace taskwal

#include "cli/http_get.h"

#include <httplib.h>

namespace taskwal::cli {
namespace {

constexpr int kConnectSeconds = 5;
constexpr int kReadSeconds = 10;

}  // namespace

Result<std::string> HttpGet(const std::string& url, const std::string& path,
                            const std::string& token) {
  // Neither is sent, nor shown.
  if (url.find_first_of("@?") != std::string::npos) {
    return Status::InvalidArgument(
        "a daemon's address has no user, password or query: write http://host:port (and --token)");
  }
  const Status is_none =
      Status::InvalidArgument("\"" + url + "\" is no URL: write http://host:port");
  const std::size_t scheme = url.find("://");
  if (scheme == std::string::npos) return is_none;
  const std::size_t rest = url.find('/', scheme + 3);
  std::string base = rest == std::string::npos ? std::string() : url.substr(rest);
  while (base.ends_with('/')) base.pop_back();
  httplib::Client client(url.substr(0, rest));
  if (!client.is_valid()) return is_none;
  client.set_connection_timeout(kConnectSeconds);
  client.set_read_timeout(kReadSeconds);
  if (!token.empty()) client.set_bearer_token_auth(token.c_str());
  const httplib::Result answer = client.Get((base + path).c_str());
  if (!answer) {
    return Status::Unavailable("no answer from " + url + ": " + httplib::to_string(answer.error()) +
                               " (is `taskwal serve` running there?)");
  }
  if (answer->status == 200) return answer->body;
  std::string why = url + path + " answered " + std::to_string(answer->status);
  if (answer->status == 401 || answer->status == 403) why += " (--token, or TASKWAL_TOKEN)";
  return Status::Unavailable(why);
}

}  // namespace taskwal::cli

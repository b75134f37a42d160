// From method and path to the function that answers. Filled by one thread, then read by any.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_message.h"

namespace taskwal::server {

class Router {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  struct Route {
    std::string method;
    std::string prefix, suffix;  // around :id; without it the prefix is the whole path
    bool has_id = false;
    bool is_open = false;  // asks for no token: tells nothing of the data
    Handler handler;
  };

  struct Match {
    const Route* route = nullptr;
    std::string id;
    std::string allowed;  // "GET, POST": methods of this path, where the one asked for is not one
  };

  // A pattern may hold one ":id", which takes any text that is not empty, slashes included.
  void Add(std::string_view method, std::string_view pattern, Handler handler);
  void AddOpen(std::string_view method, std::string_view pattern, Handler handler);

  // HEAD is answered as GET.
  [[nodiscard]] Match Find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

}  // namespace taskwal::server

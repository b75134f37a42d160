#include "server/http_server.h"

#include <httplib.h>
#include <sys/socket.h>

#include <exception>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "server/access.h"
#include "server/connection.h"

namespace taskwal::server {
namespace {

using httplib::ContentReader;
using Handled = httplib::Server::HandlerResponse;

// A caller that sends one request after another keeps its connection; one that rests gives its
// thread to others.
constexpr std::size_t kRequestsOfConnection = 10000;

// As the library wants to have it.
class Stream final : public httplib::Stream {
 public:
  explicit Stream(Connection& connection) : connection_(connection) {}

  [[nodiscard]] bool is_readable() const override { return connection_.IsReadable(); }
  [[nodiscard]] bool is_writable() const override { return connection_.IsWritable(); }
  ssize_t read(char* into, std::size_t bytes) override { return connection_.Read({into, bytes}); }
  ssize_t write(const char* from, std::size_t bytes) override {
    return connection_.Write({from, bytes}) ? static_cast<ssize_t>(bytes) : -1;
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    std::tie(ip, port) = Pair(connection_.remote());
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    std::tie(ip, port) = Pair(connection_.local());
  }
  [[nodiscard]] socket_t socket() const override { return connection_.fd(); }

 private:
  static std::pair<std::string, int> Pair(Connection::Address address) {
    return {std::move(address.host), address.port};
  }

  Connection& connection_;
};

// The library's server with a loop of our own over each connection: its own one looks at a
// connection that rests until that has rested for long enough, whatever happens meanwhile.
class Server final : public httplib::Server {
 public:
  Server(std::chrono::milliseconds stall, std::chrono::milliseconds idle)
      : stall_(stall), idle_(idle) {}
  // Any thread.
  void EndResting() { ends_.EndResting(); }
  void EndAll() { ends_.EndAll(); }

 private:
  bool process_and_close_socket(socket_t socket) override {
    Connection connection(socket, ends_, stall_);
    Stream stream(connection);
    bool is_served = false;
    for (std::size_t left = kRequestsOfConnection; connection.AwaitRequest(idle_); --left) {
      const bool is_last = left == 1 || ends_.has_begun();
      bool is_closed = false;
      is_served = process_request(stream, is_last, is_closed, nullptr);
      if (!is_served || is_closed || is_last) break;
    }
    return is_served;
  }

  const std::chrono::milliseconds stall_, idle_;
  ConnectionEnds ends_;
};

void Put(const HttpResponse& response, httplib::Response& into) {
  into.status = response.status;
  for (const auto& [name, value] : response.headers) into.set_header(name.c_str(), value);
  into.set_content(response.body, response.content_type.c_str());
}

// Of these the library reads no body before it asks for an answer.
bool IsBodiless(const std::string& method) {
  return method != "POST" && method != "PUT" && method != "PATCH" && method != "DELETE";
}

std::string UrlOf(const ListenAddress& address, int port) {
  const bool is_v6 = address.host.find(':') != std::string::npos;
  return "http://" + (is_v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(port);
}

// For errors the library finds itself, such as a request that is no HTTP.
std::string_view MeaningOf(int status) {
  switch (status) {
    case 404:
      return "no such path";
    case 413:
      return "the body is larger than the limit";
    case 414:
      return "the URL is too long";
    default:
      return status < 500 ? "the request cannot be understood" : "the request failed";
  }
}

}  // namespace

struct HttpServer::Impl {
  Impl(const ServerOptions& its_options, const Router& its_router, std::chrono::milliseconds idle)
      : options(its_options), router(its_router), server(its_options.read_timeout, idle) {}

  void SetUp();
  void Run();
  // The answer of those that may not pass.
  [[nodiscard]] std::optional<HttpResponse> Refuse(const httplib::Request& request,
                                                   const Router::Match& match) const;
  // 200, 400 or 413. Reads to the end in any case: what is left over would be taken for the next
  // request.
  [[nodiscard]] int ReadBody(const httplib::Request& request, const httplib::Response& response,
                             const ContentReader& reader, std::string* body) const;
  [[nodiscard]] HttpResponse Answer(const httplib::Request& request, const Router::Match& match,
                                    std::string body) const;
  void Handle(const httplib::Request& request, httplib::Response& response,
              const ContentReader* reader) const;

  const ServerOptions options;
  const Router& router;
  Server server;
  std::string url;
  Mutex mutex;
  CondVar changed;
  bool has_ended GUARDED_BY(mutex) = false;
  std::jthread thread;
};

void HttpServer::Impl::SetUp() {
  const std::uint32_t threads = options.threads;
  server.new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
  server.set_payload_max_length(options.max_body);
  server.set_tcp_nodelay(true);
  // The library's own default lets a second daemon listen on the same port unnoticed.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  server.set_pre_routing_handler([this](const auto& request, auto& response) {
    if (!IsBodiless(request.method)) return Handled::Unhandled;
    Handle(request, response, nullptr);
    return Handled::Handled;
  });
  const auto with_body = [this](const auto& request, auto& response, const auto& reader) {
    Handle(request, response, &reader);
  };
  constexpr const char* kAnyPath = R"([\s\S]*)";
  server.Post(kAnyPath, with_body);
  server.Put(kAnyPath, with_body);
  server.Patch(kAnyPath, with_body);
  server.Delete(kAnyPath, with_body);
  server.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;
    Put(ErrorAnswer(response.status, MeaningOf(response.status)), response);
  });
}

std::optional<HttpResponse> HttpServer::Impl::Refuse(const httplib::Request& request,
                                                     const Router::Match& match) const {
  if (options.token.empty()) {
    const std::string host = request.get_header_value("Host");
    const std::string origin = request.get_header_value("Origin");
    const Status source = CheckSource({host, origin});
    if (!source.ok()) return ErrorAnswer(403, source.message());
  } else if (match.route == nullptr || !match.route->is_open) {
    if (!ShowsToken(request.get_header_value("Authorization"), options.token)) {
      HttpResponse refused = ErrorAnswer(401, "this needs the daemon's bearer token");
      refused.headers.emplace_back("WWW-Authenticate", "Bearer");
      return refused;
    }
  }
  if (match.route != nullptr) return std::nullopt;
  if (match.allowed.empty()) return ErrorAnswer(404, "no such path");
  HttpResponse refused = ErrorAnswer(405, "this path takes " + match.allowed);
  refused.headers.emplace_back("Allow", match.allowed);
  return refused;
}

int HttpServer::Impl::ReadBody(const httplib::Request& request, const httplib::Response& response,
                               const ContentReader& reader, std::string* body) const {
  // Its body has no bytes (RFC 9112, 6.3); the library would wait for the end of the connection.
  if (!request.has_header("Content-Length") && !request.has_header("Transfer-Encoding")) return 200;
  if (request.is_multipart_form_data()) {
    reader([](const httplib::MultipartFormData&) { return true; },
           [](const char*, std::size_t) { return true; });
    return 400;
  }
  std::uint64_t read = 0;
  const bool is_whole = reader([&](const char* data, std::size_t bytes) {
    read += bytes;
    if (body != nullptr && read <= options.max_body) body->append(data, bytes);
    return true;
  });
  if (read > options.max_body || response.status == 413) return 413;
  return is_whole ? 200 : 400;
}

HttpResponse HttpServer::Impl::Answer(const httplib::Request& request, const Router::Match& match,
                                      std::string body) const {
  HttpRequest plain;
  plain.method = request.method;
  plain.path = request.path;
  plain.parameters.assign(request.params.begin(), request.params.end());
  plain.body = std::move(body);
  plain.id = match.id;
  try {
    return match.route->handler(plain);
  } catch (const std::exception& error) {
    Logger().error("http handler failed path={} error={}", match.route->prefix, error.what());
    return ErrorAnswer(500, "the request failed");
  }
}

void HttpServer::Impl::Handle(const httplib::Request& request, httplib::Response& response,
                              const ContentReader* reader) const {
  const Router::Match match = router.Find(request.method, request.path);
  std::optional<HttpResponse> refused = Refuse(request, match);
  std::string body;
  if (reader != nullptr) {
    const int read = ReadBody(request, response, *reader, refused ? nullptr : &body);
    if (read != 200 && !refused) refused = ErrorAnswer(read, MeaningOf(read));
  }
  Put(refused ? std::move(*refused) : Answer(request, match, std::move(body)), response);
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { Stop(); }

Result<std::unique_ptr<HttpServer>> HttpServer::Bind(const ServerOptions& options,
                                                     const Router& router,
                                                     std::chrono::milliseconds idle) {
  TASKWAL_TRY(CheckServerOptions(options));
  TASKWAL_ASSIGN(const ListenAddress address, ParseListenAddress(options.listen));
  auto impl = std::make_unique<Impl>(options, router, idle);
  impl->SetUp();
  int port = address.port;
  bool is_bound = false;
  if (port == 0) {
    port = impl->server.bind_to_any_port(address.host);
    is_bound = port > 0;
  } else {
    is_bound = impl->server.bind_to_port(address.host, port);
  }
  if (!is_bound) {
    return Status::Unavailable("cannot listen on " + options.listen +
                               ": the address is not this machine's, or the port is in use");
  }
  impl->url = UrlOf(address, port);
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

const std::string& HttpServer::url() const { return impl_->url; }

void HttpServer::Impl::Run() {
  try {
    if (!server.listen_after_bind()) Logger().error("http server failed url={}", url);
  } catch (const std::exception& error) {
    Logger().error("http server failed url={} error={}", url, error.what());
  }
  MutexLock lock(mutex);
  has_ended = true;
  changed.NotifyAll();
}

Status HttpServer::Serve() {
  TASKWAL_ASSIGN(impl_->thread,
                 StartThread<std::jthread>([impl = impl_.get()] { impl->Run(); }));
  // Stop has no effect on a server that is about to start.
  while (!impl_->server.is_running() && !AwaitEnd({})) std::this_thread::yield();
  return Status::Ok();
}

void HttpServer::End() {
  impl_->server.stop();
  impl_->server.EndResting();
}

bool HttpServer::AwaitEnd(std::chrono::steady_clock::time_point until) {
  MutexLock lock(impl_->mutex);
  bool in_time = true;
  while (!impl_->has_ended && in_time) in_time = impl_->changed.WaitUntil(impl_->mutex, until);
  return impl_->has_ended;
}

void HttpServer::Cut() { impl_->server.EndAll(); }

void HttpServer::Stop() {
  End();
  if (impl_->thread.joinable()) impl_->thread.join();
}

}  // namespace taskwal::server

// The end of a server that has connections: at rest, with a request under way, and stalled.
#include "server/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "base/posix_file.h"
#include "tests/support/no_new_threads.h"
#include "tests/support/status_matchers.h"

namespace taskwal::server {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

constexpr const char* kGet = "GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

// A caller's end of a connection. Every call has a deadline.
class Caller {
 public:
  explicit Caller(const std::string& url) {
    const int port = std::stoi(url.substr(url.rfind(':') + 1));
    socket_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval longest{60, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* plain = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(::connect(socket_.get(), plain, sizeof address), 0);
  }
  void Send(const std::string& text) {
    EXPECT_EQ(::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // Until it has come, or the other side has closed.
  std::string ReadUntil(const std::string& text) {
    char buffer[4096];
    while (answer_.find(text) == std::string::npos) {
      const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) break;
      answer_.append(buffer, static_cast<std::size_t>(got));
    }
    return answer_;
  }
  // True when the other side closes.
  bool AwaitClosed() {
    char byte = 0;
    return ::recv(socket_.get(), &byte, 1, 0) == 0;
  }

 private:
  UniqueFd socket_;
  std::string answer_;
};

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    router_.Add("GET", "/slow", [this](const HttpRequest&) {
      asked_.set_value();
      answer_.get_future().wait();
      return TextAnswer();
    });
    router_.Add("GET", "/", [](const HttpRequest&) { return TextAnswer(); });
    router_.Add("POST", "/", [](const HttpRequest&) { return TextAnswer(); });
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.read_timeout = hours(1);
    auto server = HttpServer::Bind(options, router_, hours(1));
    EXPECT_OK(server);
    server_ = std::move(server).value();
    EXPECT_OK(server_->Serve());
  }
  static HttpResponse TextAnswer() {
    HttpResponse response;
    response.body = "answered";
    return response;
  }
  bool AwaitEnd() { return server_->AwaitEnd(steady_clock::now() + seconds(60)); }

  std::promise<void> asked_, answer_;
  Router router_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AConnectionAtRestDoesNotHoldUpTheEnd) {
  Caller caller(server_->url());
  caller.Send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_THAT(caller.ReadUntil("answered"), HasSubstr("200"));
  server_->End();
  EXPECT_TRUE(AwaitEnd());
  EXPECT_TRUE(caller.AwaitClosed());
}

TEST_F(HttpServerTest, AConnectionServesManyRequests) {
  Caller caller(server_->url());
  for (int i = 0; i < 3; ++i) {
    caller.Send("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nabcde");
    caller.Send("GET /none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  }
  Caller last(server_->url());
  last.Send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(last.ReadUntil("answered"), HasSubstr("200"));
  EXPECT_TRUE(last.AwaitClosed());
  caller.Send("GET /none/last HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  const std::string all = caller.ReadUntil("never");
  std::size_t answers = 0;
  for (std::size_t at = 0; (at = all.find("HTTP/1.1 ", at)) != std::string::npos; ++at) ++answers;
  EXPECT_EQ(answers, 7u);
}

// RFC 9112, 6.3: what has neither length nor encoding has no body, and the next request follows.
TEST_F(HttpServerTest, ARequestWithoutALengthHasNoBody) {
  Caller caller(server_->url());
  for (const char* method : {"POST", "PUT", "PATCH", "DELETE"}) {
    caller.Send(std::string(method) + " /none HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  }
  caller.Send("GET /none/last HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  const std::string all = caller.ReadUntil("never");
  std::size_t answers = 0;
  for (std::size_t at = 0; (at = all.find("HTTP/1.1 404", at)) != std::string::npos; ++at) {
    ++answers;
  }
  EXPECT_EQ(answers, 5u) << all;
}

TEST_F(HttpServerTest, ARequestUnderWayIsAnsweredBeforeTheEnd) {
  Caller caller(server_->url());
  caller.Send(kGet);
  ASSERT_EQ(asked_.get_future().wait_for(seconds(60)), std::future_status::ready);
  server_->End();
  EXPECT_FALSE(server_->AwaitEnd(steady_clock::now()));
  answer_.set_value();
  EXPECT_THAT(caller.ReadUntil("answered"), HasSubstr("200"));
  EXPECT_TRUE(AwaitEnd());
}

TEST_F(HttpServerTest, ARequestThatStallsIsCut) {
  Caller caller(server_->url());
  caller.Send("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nab");
  Caller other(server_->url());
  other.Send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  EXPECT_THAT(other.ReadUntil("answered"), HasSubstr("200"));
  server_->End();
  server_->Cut();
  EXPECT_TRUE(AwaitEnd());
}

TEST(HttpServer, IsNotServedWhereTheSystemStartsNoMoreThreads) {
  const Router router;
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  ASSERT_OK_AND_ASSIGN(const auto server, HttpServer::Bind(options, router, hours(1)));
  const NoNewThreads none;
  EXPECT_THAT(server->Serve(), StatusIs(StatusCode::kUnavailable));
}

}  // namespace
}  // namespace taskwal::server

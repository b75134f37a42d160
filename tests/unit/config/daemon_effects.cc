// server.*, log.*, wal.dir, database: as the daemon's callers and its operator see them.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "base/posix_file.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

// `taskwal serve` with the world's file, in a directory of its own.
class Daemon {
 public:
  explicit Daemon(const EffectWorld& world) {
    for (const char* name : {"TASKWAL_LOG", "TASKWAL_TOKEN", "TASKWAL_DB"}) ::unsetenv(name);
    const std::string file = world.dir().File("taskwal.yaml");
    std::ofstream(file) << world.yaml();
    auto child = Child::Start({TASKWAL_TOOL, "serve", "--config", file}, {{}, world.dir().path()});
    EXPECT_OK(child);
    if (child.ok()) child_ = std::move(child).value();
    if (child_ != nullptr) first_line_ = child_->ReadLine().value_or("");
  }

  // What it says on stdout and stderr, up to its end.
  std::string Stop() {
    child_->Kill(SIGTERM);
    child_->Wait();
    return first_line_ + child_->errors();
  }
  [[nodiscard]] std::string errors() const { return child_->errors(); }
  [[nodiscard]] std::uint16_t port() const {
    const std::size_t colon = first_line_.rfind(':');
    EXPECT_NE(colon, std::string::npos) << child_->errors();
    return static_cast<std::uint16_t>(std::atoi(first_line_.c_str() + colon + 1));
  }

 private:
  std::unique_ptr<Child> child_;
  std::string first_line_;
};

// One connection to it.
class Caller {
 public:
  explicit Caller(const Daemon& daemon)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(daemon.port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }

  void Send(const std::string& text) {
    EXPECT_EQ(::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // An answer, or the end of the connection.
  [[nodiscard]] bool has_news() const {
    pollfd polled{socket_.get(), POLLIN, 0};
    return ::poll(&polled, 1, 0) == 1;
  }
  // Of the answer; 0: there was none.
  int Status() {
    EffectWorld::Expect([&] { return has_news(); });
    char text[64] = {};
    if (::recv(socket_.get(), text, sizeof text - 1, 0) < 12) return 0;
    return std::atoi(text + std::string_view("HTTP/1.1 ").size());
  }

 private:
  UniqueFd socket_;
};

constexpr const char* kGet = "GET /api/v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr const char* kStalled = "GET /api/v1/stats HTTP/1.1\r\nHost: local";

std::string Post(std::size_t body_bytes) {
  return "POST /api/v1/logs HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
         std::to_string(body_bytes) + "\r\n\r\n" + std::string(body_bytes, ' ');
}

bool ListensWhereItIsTold(EffectWorld& world) {
  Daemon daemon(world);
  // Where somebody else has the usual port it says so and ends.
  return daemon.Stop().find("127.0.0.1:8080") == std::string::npos;
}

bool AsksForAToken(EffectWorld& world) {
  const Daemon daemon(world);
  Caller caller(daemon);
  caller.Send(kGet);
  return caller.Status() == 401;
}

bool RefusesALargeBody(EffectWorld& world) {
  const Daemon daemon(world);
  Caller caller(daemon);
  caller.Send(Post(2000));
  const int status = caller.Status();
  EXPECT_TRUE(status == 413 || status == 400) << status;  // it holds no operation
  return status == 413;
}

bool OneStalledCallerKeepsTheOthersOut(EffectWorld& world) {
  const Daemon daemon(world);
  Caller stalled(daemon);
  stalled.Send(kStalled);
  Caller other(daemon);
  other.Send(kGet);
  return world.StaysAway([&] { return other.has_news(); });
}

// One after the other.
bool TenStalledCallersAreGivenUp(EffectWorld& world) {
  const Daemon daemon(world);
  int given_up = 0;
  std::optional<Caller> stalled;
  return world.Comes([&] {
    if (!stalled) stalled.emplace(daemon).Send(kStalled);
    if (!stalled->has_news()) return false;
    stalled.reset();
    return ++given_up == 10;
  });
}

bool SaysNothingOfItsStart(EffectWorld& world) {
  Daemon daemon(world);
  return daemon.Stop().find("log_open") == std::string::npos;
}

bool WritesFiguresOften(EffectWorld& world) {
  const Daemon daemon(world);
  return world.Comes([&] {
    const std::string lines = daemon.errors();
    int found = 0;
    for (std::size_t at = 0; (at = lines.find("metrics accepted=", at)) != std::string::npos;
         ++at) {
      ++found;
    }
    return found >= 10;
  });
}

bool TheLogIsWhereItIsTold(EffectWorld& world) {
  Daemon daemon(world);
  daemon.Stop();
  const std::filesystem::path dir = world.dir().path();
  EXPECT_NE(std::filesystem::exists(dir / "taskwal.wal"), std::filesystem::exists(dir / "other"));
  return std::filesystem::exists(dir / "other");
}

// There is none by default.
bool FeedsTheDatabaseItIsTold(EffectWorld& world) {
  Daemon daemon(world);
  daemon.Stop();
  return std::filesystem::exists(world.dir().File("told.db"));
}

constexpr std::string_view kAnywhere = "database=memory: server.listen=127.0.0.1:0";
constexpr std::string_view kPatient =
    "database=memory: server.listen=127.0.0.1:0 server.read_timeout=1h";

}  // namespace

std::vector<KeyEffect> DaemonEffects() {
  return {
      {"database", "sqlite://told.db", "server.listen=127.0.0.1:0", &FeedsTheDatabaseItIsTold},
      {"wal.dir", "other", kAnywhere, &TheLogIsWhereItIsTold},
      {"server.listen", "127.0.0.1:0", "database=memory:", &ListensWhereItIsTold},
      {"server.token", "secret", kAnywhere, &AsksForAToken},
      {"server.max_body", "1KiB", kAnywhere, &RefusesALargeBody},
      {"server.threads", "1", kPatient, &OneStalledCallerKeepsTheOthersOut},
      {"server.read_timeout", "10ms", kAnywhere, &TenStalledCallersAreGivenUp},
      {"log.level", "warn", kAnywhere, &SaysNothingOfItsStart},
      {"log.metrics_interval", "10ms", kAnywhere, &WritesFiguresOften},
  };
}

}  // namespace taskwal::config

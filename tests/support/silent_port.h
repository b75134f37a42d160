// A database's port at which nobody ever says a word.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>

#include "base/posix_file.h"

namespace taskwal {

class SilentPort {
 public:
  explicit SilentPort(const std::string& kind = "postgresql")
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    auto* plain = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(socket_.get(), plain, bytes), 0);
    EXPECT_EQ(::listen(socket_.get(), 16), 0);
    EXPECT_EQ(::getsockname(socket_.get(), plain, &bytes), 0);
    dsn_ = kind + "://user@127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/db";
  }
  [[nodiscard]] const std::string& dsn() const { return dsn_; }
  // Until somebody has come.
  [[nodiscard]] bool AwaitCaller() const {
    pollfd polled{socket_.get(), POLLIN, 0};
    return ::poll(&polled, 1, 60'000) == 1;
  }

 private:
  const UniqueFd socket_;
  std::string dsn_;
};

}  // namespace taskwal

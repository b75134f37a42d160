#include "server/connection.h"

#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "base/check.h"

namespace taskwal::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

void Raise(const UniqueFd& event) {
  const std::uint64_t one = 1;
  TASKWAL_CHECK(::write(event.get(), &one, sizeof one) == sizeof one);
}

Connection::Address AddressOf(int socket, int (*ask)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> service{};
  if (ask(socket, plain, &bytes) != 0) return {};
  const int named = ::getnameinfo(plain, bytes, host.data(), host.size(), service.data(),
                                  service.size(), NI_NUMERICHOST | NI_NUMERICSERV);
  if (named != 0) return {};
  return {host.data(), std::atoi(service.data())};
}

}  // namespace

ConnectionEnds::ConnectionEnds()
    : resting_(::eventfd(0, EFD_CLOEXEC)), all_(::eventfd(0, EFD_CLOEXEC)) {
  TASKWAL_CHECK(resting_.get() >= 0 && all_.get() >= 0);
}

void ConnectionEnds::EndResting() {
  has_begun_ = true;
  Raise(resting_);
}

void ConnectionEnds::EndAll() { Raise(all_); }

Connection::Connection(int socket, const ConnectionEnds& ends, milliseconds stall)
    : socket_(socket), ends_(ends), stall_(stall) {}

Connection::~Connection() { ::shutdown(socket_.get(), SHUT_RDWR); }

bool Connection::AwaitRequest(milliseconds idle) {
  return at_ < end_ || Await(POLLIN, idle, true);
}

bool Connection::IsReadable() const { return at_ < end_ || Await(POLLIN, stall_, false); }

bool Connection::IsWritable() const { return Await(POLLOUT, stall_, false); }

// A request that has come before the end is served.
bool Connection::Await(short events, milliseconds longest, bool is_resting) const {
  const auto until = steady_clock::now() + longest;
  std::array<pollfd, 3> polled{{{socket_.get(), events, 0},
                                {ends_.all_.get(), POLLIN, 0},
                                {is_resting ? ends_.resting_.get() : -1, POLLIN, 0}}};
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    const auto longest_poll = std::clamp(left, milliseconds(0), milliseconds(INT32_MAX));
    const int ready =
        ::poll(polled.data(), polled.size(), static_cast<int>(longest_poll.count()));
    if (ready > 0) return polled[1].revents == 0 && polled[0].revents != 0;
    if (ready == 0 || errno != EINTR) return false;
  }
}

std::ptrdiff_t Connection::Read(std::span<char> into) {
  if (at_ == end_) {
    if (!IsReadable()) return -1;
    const bool is_small = into.size() < buffer_.size();
    const std::span<char> place = is_small ? std::span<char>(buffer_) : into;
    ssize_t got = 0;
    do {
      got = ::recv(socket_.get(), place.data(), place.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got <= 0 || !is_small) return got;
    at_ = 0;
    end_ = static_cast<std::size_t>(got);
  }
  const std::size_t taken = std::min(into.size(), end_ - at_);
  std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(at_), taken, into.begin());
  at_ += taken;
  return static_cast<std::ptrdiff_t>(taken);
}

bool Connection::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (!IsWritable()) return false;
    // What there is room for: a reader that stalls is noticed.
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

Connection::Address Connection::remote() const { return AddressOf(socket_.get(), ::getpeername); }

Connection::Address Connection::local() const { return AddressOf(socket_.get(), ::getsockname); }

}  // namespace taskwal::server

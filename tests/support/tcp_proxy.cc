#include "tests/support/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <list>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "base/posix_file.h"

namespace taskwal {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kWaitMax{30};
constexpr std::string_view kCommit = "COMMIT";

sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

UniqueFd MakeSocket() {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  TASKWAL_CHECK(socket.get() >= 0);
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return socket;
}

// Closed with a reset, as a network that broke would have it.
void Cut(UniqueFd* socket) {
  if (socket->get() < 0) return;
  const linger at_once{1, 0};
  ::setsockopt(socket->get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  *socket = UniqueFd();
}

struct Piece {
  std::string bytes;
  SteadyClock::time_point due;
};

// What waits to be passed on in one direction.
struct Pipe {
  std::deque<Piece> pieces;
  bool has_ended = false;  // the sender has closed
};

enum class Answer : std::uint8_t { kPass, kSwallowAndCut, kFirstByteOnly, kTellRelease };

struct Link {
  UniqueFd client, server;
  Pipe up, down;
  Answer answer = Answer::kPass;    // what becomes of what the server says next
  std::optional<std::string> held;  // a COMMIT kept back
  bool is_silent = false;           // nothing passes any more
  SteadyClock::time_point drips_at{};  // its next byte
};

}  // namespace

class TcpProxy::Loop {
 public:
  explicit Loop(std::uint16_t target_port)
      : target_port_(target_port), listener_(MakeSocket()), wake_(::eventfd(0, EFD_CLOEXEC)) {
    sockaddr_in address = Loopback(0);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    socklen_t size = sizeof(address);
    TASKWAL_CHECK(::bind(listener_.get(), generic, size) == 0);
    TASKWAL_CHECK(::listen(listener_.get(), 64) == 0);
    TASKWAL_CHECK(::getsockname(listener_.get(), generic, &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  }

  ~Loop() {
    thread_.request_stop();
    Wake();
  }

  [[nodiscard]] std::uint16_t port() const { return port_; }

  template <typename Change>
  void Set(Change change) {
    {
      MutexLock lock(mutex_);
      change(*this);
    }
    Wake();
  }

  template <typename Condition>
  bool WaitFor(Condition condition) {
    const auto until = SteadyClock::now() + kWaitMax;
    MutexLock lock(mutex_);
    while (!condition(*this)) {
      if (!changed_.WaitUntil(mutex_, until)) return condition(*this);
    }
    return true;
  }

  // All of these under the lock (Set, WaitFor).
  bool refuses = false;
  bool is_blackhole = false;
  bool cuts_all = false;
  bool releases = false;
  std::chrono::milliseconds delay{0};
  std::chrono::milliseconds drip{0};
  std::optional<std::uint64_t> cut_after;
  CommitFault fault = CommitFault::kNone;
  bool has_struck = false;
  bool is_released = false;
  std::uint64_t connections = 0;
  std::uint64_t cuts = 0;

 private:
  void Wake() {
    const std::uint64_t one = 1;
    TASKWAL_CHECK(::write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  }

  void Run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const Link& link : links_) {
        fds.push_back({link.client.get(), POLLIN, 0});
        fds.push_back({link.server.get(), POLLIN, 0});
      }
      ::poll(fds.data(), fds.size(), PollTimeout());
      MutexLock lock(mutex_);
      if (fds[0].revents != 0) {
        std::uint64_t ignored = 0;
        TASKWAL_CHECK(::read(wake_.get(), &ignored, sizeof(ignored)) == sizeof(ignored));
      }
      std::size_t i = 2;
      for (Link& link : links_) {
        if (fds[i++].revents != 0) ReadFromClient(link);
        if (fds[i++].revents != 0) ReadFromServer(link);
      }
      if (fds[1].revents != 0) Accept();
      Obey();
      for (Link& link : links_) PassOn(link);
      links_.remove_if(
          [](const Link& link) { return link.client.get() < 0 && link.server.get() < 0; });
      changed_.NotifyAll();
    }
  }

  int PollTimeout() {
    std::optional<SteadyClock::time_point> next;
    for (const Link& link : links_) {
      for (const Pipe* pipe : {&link.up, &link.down}) {
        if (pipe->pieces.empty() || link.is_silent) continue;
        next = std::min(next.value_or(pipe->pieces.front().due), pipe->pieces.front().due);
      }
    }
    if (!next) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - SteadyClock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 10, 1000));
  }

  void Accept() REQUIRES(mutex_) {
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.get() < 0) return;
    ++connections;
    Link link;
    link.client = std::move(client);
    link.server = MakeSocket();
    const sockaddr_in address = Loopback(target_port_);
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    if (refuses || ::connect(link.server.get(), generic, sizeof(address)) != 0) {
      Cut(&link.client);
      return;
    }
    links_.push_back(std::move(link));
  }

  // Nothing for "not now", an empty text for the end.
  static std::optional<std::string> Receive(const UniqueFd& from) {
    std::array<char, 65536> bytes;
    const ssize_t count = ::recv(from.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    return std::string(bytes.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  }

  void ReadFromClient(Link& link) REQUIRES(mutex_) {
    if (link.client.get() < 0) return;
    const std::optional<std::string> bytes = Receive(link.client);
    if (!bytes) return;
    CountTowardsCut(bytes->size());
    if (bytes->empty()) {
      link.up.has_ended = true;
      link.client = UniqueFd();
    } else if (fault != CommitFault::kNone && bytes->find(kCommit) != std::string::npos) {
      Strike(link, *bytes);
    } else {
      link.up.pieces.push_back({*bytes, SteadyClock::now() + delay});
    }
  }

  void Strike(Link& link, const std::string& bytes) REQUIRES(mutex_) {
    switch (fault) {
      case CommitFault::kNone:
        break;
      case CommitFault::kCutBefore:
        CutBoth(link);
        break;
      case CommitFault::kCutAfter:
        link.answer = Answer::kSwallowAndCut;
        link.up.pieces.push_back({bytes, SteadyClock::now()});
        break;
      case CommitFault::kHold:
        link.held = bytes;
        Cut(&link.client);
        break;
      case CommitFault::kHalfAnswer:
        link.answer = Answer::kFirstByteOnly;
        link.up.pieces.push_back({bytes, SteadyClock::now()});
        break;
    }
    fault = CommitFault::kNone;
    has_struck = true;
  }

  void ReadFromServer(Link& link) REQUIRES(mutex_) {
    if (link.server.get() < 0) return;
    const std::optional<std::string> bytes = Receive(link.server);
    if (!bytes) return;
    CountTowardsCut(bytes->size());
    if (bytes->empty()) {
      link.down.has_ended = true;
      link.server = UniqueFd();
      return;
    }
    switch (link.answer) {
      case Answer::kPass:
        link.down.pieces.push_back({*bytes, SteadyClock::now() + delay});
        break;
      case Answer::kSwallowAndCut:
        CutBoth(link);
        break;
      case Answer::kFirstByteOnly:
        ::send(link.client.get(), bytes->data(), 1, MSG_NOSIGNAL);
        link.is_silent = true;
        break;
      case Answer::kTellRelease:
        is_released = true;
        CutBoth(link);
        break;
    }
  }

  void CountTowardsCut(std::uint64_t bytes) REQUIRES(mutex_) {
    if (!cut_after) return;
    *cut_after -= std::min(*cut_after, bytes);
    if (*cut_after > 0) return;
    cut_after.reset();
    cuts_all = true;
    ++cuts;
  }

  void Obey() REQUIRES(mutex_) {
    if (releases) {
      for (Link& link : links_) Release(link);
      releases = false;
    }
    if (!cuts_all) return;
    for (Link& link : links_) CutBoth(link);
    cuts_all = false;
  }

  static void Release(Link& link) {
    if (!link.held) return;
    link.answer = Answer::kTellRelease;
    ::send(link.server.get(), link.held->data(), link.held->size(), MSG_NOSIGNAL);
    link.held.reset();
  }

  static void CutBoth(Link& link) {
    Cut(&link.client);
    Cut(&link.server);
  }

  void PassOn(Link& link) REQUIRES(mutex_) {
    if (is_blackhole || link.is_silent || link.held) return;
    PassOn(link.up, &link.server);
    if (drip.count() > 0) {
      DripOn(link);
    } else {
      PassOn(link.down, &link.client);
    }
    // Nobody is left to hear what may still come.
    if (link.down.has_ended && link.down.pieces.empty()) link.client = UniqueFd();
    const bool awaits_release = link.answer == Answer::kTellRelease;
    if (link.up.has_ended && link.up.pieces.empty() && !awaits_release) link.server = UniqueFd();
  }

  void DripOn(Link& link) REQUIRES(mutex_) {
    if (link.down.pieces.empty() || SteadyClock::now() < link.drips_at) return;
    std::string& bytes = link.down.pieces.front().bytes;
    ::send(link.client.get(), bytes.data(), 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    bytes.erase(0, 1);
    if (bytes.empty()) link.down.pieces.pop_front();
    link.drips_at = SteadyClock::now() + drip;
  }

  static void PassOn(Pipe& pipe, UniqueFd* to) {
    const auto now = SteadyClock::now();
    while (!pipe.pieces.empty() && pipe.pieces.front().due <= now) {
      std::string& bytes = pipe.pieces.front().bytes;
      const ssize_t count = to->get() < 0 ? -1
                                          : ::send(to->get(), bytes.data(), bytes.size(),
                                                   MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0 && to->get() >= 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (count >= 0 && static_cast<std::size_t>(count) < bytes.size()) {
        bytes.erase(0, static_cast<std::size_t>(count));
        return;
      }
      pipe.pieces.pop_front();
    }
  }

  const std::uint16_t target_port_;
  const UniqueFd listener_;
  const UniqueFd wake_;
  std::uint16_t port_ = 0;
  std::list<Link> links_;  // the thread's own

  Mutex mutex_;
  CondVar changed_;
  std::jthread thread_;  // the last member: ends before the others go
};

TcpProxy::TcpProxy(std::uint16_t target_port) : loop_(std::make_unique<Loop>(target_port)) {}
TcpProxy::~TcpProxy() = default;

std::uint16_t TcpProxy::port() const { return loop_->port(); }

void TcpProxy::Refuse(bool on) {
  loop_->Set([&](Loop& loop) { loop.refuses = on; });
}

void TcpProxy::Blackhole(bool on) {
  loop_->Set([&](Loop& loop) { loop.is_blackhole = on; });
}

void TcpProxy::Delay(std::chrono::milliseconds delay) {
  loop_->Set([&](Loop& loop) { loop.delay = delay; });
}

void TcpProxy::Drip(std::chrono::milliseconds apart) {
  loop_->Set([&](Loop& loop) { loop.drip = apart; });
}

void TcpProxy::CutAll() {
  loop_->Set([](Loop& loop) { loop.cuts_all = true; });
}

void TcpProxy::CutAfter(std::uint64_t bytes) {
  loop_->Set([&](Loop& loop) { loop.cut_after = bytes; });
}

void TcpProxy::OnCommit(CommitFault fault) {
  loop_->Set([&](Loop& loop) {
    loop.fault = fault;
    loop.has_struck = false;
  });
}

bool TcpProxy::WaitForCommitFault() {
  return loop_->WaitFor([](const Loop& loop) { return loop.has_struck; });
}

void TcpProxy::ReleaseCommit() {
  loop_->Set([](Loop& loop) {
    loop.releases = true;
    loop.is_released = false;
  });
  TASKWAL_CHECK(loop_->WaitFor([](const Loop& loop) { return loop.is_released; }));
}

std::uint64_t TcpProxy::connections() const {
  std::uint64_t count = 0;
  loop_->Set([&](const Loop& loop) { count = loop.connections; });
  return count;
}

std::uint64_t TcpProxy::cuts() const {
  std::uint64_t count = 0;
  loop_->Set([&](const Loop& loop) { count = loop.cuts; });
  return count;
}

}  // namespace taskwal

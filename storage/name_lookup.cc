#include "storage/name_lookup.h"

#include <netdb.h>

#include <cerrno>
#include <exception>
#include <map>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"

namespace taskwal::storage {
namespace {

int Resolve(const std::string& host, int flags) {
  addrinfo hints{};
  hints.ai_flags = flags;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failure == 0) ::freeaddrinfo(found);
  return failure;
}

// '/' and '@' begin the path of a socket, or its name in the abstract namespace.
bool IsName(const std::string& host) {
  return !host.empty() && host[0] != '/' && host[0] != '@' && host != "localhost" &&
         Resolve(host, AI_NUMERICHOST) != 0;
}

}  // namespace

std::string LookUpBySystem(const std::string& host) {
  const int failure = Resolve(host, 0);
  if (failure == 0) return {};
  return failure == EAI_SYSTEM ? std::generic_category().message(errno) : ::gai_strerror(failure);
}

struct NameLookup::Underway {
  Mutex mutex;
  CondVar ended;
  bool has_ended GUARDED_BY(mutex) = false;
  std::string failure GUARDED_BY(mutex);

  void End(std::string why) {
    MutexLock lock(mutex);
    has_ended = true;
    failure = std::move(why);
    ended.NotifyAll();
  }
};

struct NameLookup::Shared {
  explicit Shared(Lookup lookup) : look_up(std::move(lookup)) {}

  std::string Find(const std::string& host) const {
    try {
      return look_up(host);
    } catch (const std::exception& e) {
      return e.what();
    }
  }
  void Forget(const std::string& host) {
    MutexLock lock(mutex);
    by_host.erase(host);
  }

  const Lookup look_up;
  Mutex mutex;
  std::map<std::string, std::shared_ptr<Underway>> by_host GUARDED_BY(mutex);
};

NameLookup::NameLookup(Lookup lookup) : shared_(std::make_shared<Shared>(std::move(lookup))) {}

std::shared_ptr<NameLookup::Underway> NameLookup::Ask(const std::shared_ptr<Shared>& shared,
                                                      const std::string& host) {
  auto underway = std::make_shared<Underway>();  // shared with the thread
  {
    MutexLock lock(shared->mutex);
    const auto [entry, is_new] = shared->by_host.try_emplace(host, underway);
    if (!is_new) return entry->second;
  }
  try {
    std::thread([shared, host, underway] {
      std::string failure = shared->Find(host);
      // Before it is told: who asks from now on asks anew.
      shared->Forget(host);
      underway->End(std::move(failure));
    }).detach();
  } catch (const std::system_error&) {
    // No room for a thread: it is the driver that looks it up then.
    shared->Forget(host);
    underway->End({});
  }
  return underway;
}

Status NameLookup::Await(const std::string& database, std::span<const std::string> hosts,
                         Monotonic deadline, std::chrono::milliseconds timeout) const {
  std::vector<std::pair<const std::string*, std::shared_ptr<Underway>>> asked;
  for (const std::string& host : hosts) {
    if (IsName(host)) asked.emplace_back(&host, Ask(shared_, host));
  }
  std::size_t failed = 0;
  std::string why;
  for (const auto& [host, underway] : asked) {
    MutexLock lock(underway->mutex);
    while (!underway->has_ended) {
      if (underway->ended.WaitUntil(underway->mutex, deadline) || underway->has_ended) continue;
      return Status::Unavailable(database + ": connect: " + *host +
                                 ": the name look-up did not answer within " +
                                 std::to_string(timeout.count()) + " ms");
    }
    if (underway->failure.empty()) continue;
    ++failed;
    why += (why.empty() ? "" : "; ") + *host + ": " + underway->failure;
  }
  if (failed == 0 || failed < hosts.size()) return Status::Ok();
  return Status::Unavailable(database + ": connect: the name look-up failed: " + why);
}

}  // namespace taskwal::storage

// Looks up names of hosts ahead of a driver, with a deadline: drivers ask the system themselves,
// and are then deaf to any limit until it has given up (10 s or more where a nameserver is silent).
// An address, a socket's path and localhost are nothing to look up, and cost nothing.
//
// Each name is asked for on a thread of its own, which is left behind where the deadline passes
// first, and owns what it uses: the NameLookup may be gone by then. Who asks for a name that is
// being looked up waits for the same answer, so that there is one thread for each name at most.
// Any thread.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/clock.h"
#include "taskwal/status.h"

namespace taskwal::storage {

// Blocks until the system has looked up the name. Returns "" or why that failed.
std::string LookUpBySystem(const std::string& host);

class NameLookup {
 public:
  using Lookup = std::function<std::string(const std::string& host)>;

  explicit NameLookup(Lookup lookup = &LookUpBySystem);

  // Until every name among `hosts`, where `database` may be, is looked up; what is found is for the
  // driver to ask for again. kUnavailable: a name that was not answered by `deadline`, the end of
  // `timeout`; or none of them all was found, and the driver would but wait for the same once more.
  // Blocks till the deadline at most.
  Status Await(const std::string& database, std::span<const std::string> hosts, Monotonic deadline,
               std::chrono::milliseconds timeout) const;

 private:
  struct Underway;
  struct Shared;
  static std::shared_ptr<Underway> Ask(const std::shared_ptr<Shared>& shared,
                                       const std::string& host);

  const std::shared_ptr<Shared> shared_;  // with the threads that are left behind
};

}  // namespace taskwal::storage

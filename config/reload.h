// The daemon's file read again while it runs: what may turn without a restart goes to the running
// storage, of the rest it is told that it waits for one. One thread at a time.
#pragma once

#include <string>
#include <vector>

#include "config/daemon_config.h"
#include "taskwal/control.h"
#include "taskwal/status.h"

namespace taskwal::config {

// Paths of the keys that need no restart, in the order of ConfigKeys().
std::vector<std::string> RunTimeKeys();

// Of the log on stderr; the environment's TASKWAL_LOG goes first.
void SetLogLevel(const std::string& level);

struct ReloadReport {
  std::vector<std::string> applied;       // what differed and is in force now
  std::vector<std::string> need_restart;  // what differs and is not
};

class Reloader {
 public:
  // `read` is the file as it was at the start, `in_force` the same with the command line on top of
  // it: what that says stays.
  Reloader(std::string file, const DaemonConfig& read, const DaemonConfig& in_force);

  // `control` is null where there is no log: only log.level turns then. Errors as LoadConfig, and
  // nothing has changed.
  Result<ReloadReport> Reload(Control* control);

 private:
  const std::string file_;
  DaemonConfig in_force_;
  const std::vector<std::string> kept_;  // what the command line says
};

}  // namespace taskwal::config

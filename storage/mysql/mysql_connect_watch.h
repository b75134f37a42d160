// The deadline of a connection being made. The driver bounds the wait for a first answer, and then
// each read for itself, which a peer that sends a byte now and then outlasts for ever; and it tells
// nobody the socket before all is done. But it tells of every read: with the first one the call
// watchdog takes over.
//
// One at a time in each thread, around the call that connects.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/posix_file.h"
#include "storage/call_watchdog.h"

struct st_mysql;

namespace taskwal::storage {

class MysqlConnectWatch {
 public:
  explicit MysqlConnectWatch(Monotonic deadline);
  ~MysqlConnectWatch();
  MysqlConnectWatch(const MysqlConnectWatch&) = delete;
  MysqlConnectWatch& operator=(const MysqlConnectWatch&) = delete;

  // Whether it ended the call: what the driver reports then is a timeout.
  [[nodiscard]] bool has_fired() const;

 private:
  static void OnTraffic(int mode, st_mysql* mysql, const unsigned char* bytes, std::size_t size);
  void Watch(int fd);

  const Monotonic deadline_;
  int watched_ = -1;   // the driver's number; of a list of hosts the present one's
  UniqueFd socket_;    // the same under a number of our own
  std::unique_ptr<CallWatchdog> watchdog_;
  bool has_fired_before_ = false;  // at an earlier host of the list
};

}  // namespace taskwal::storage

#include "storage/mysql/mysql_connect_watch.h"

#include <mysql.h>
#include <unistd.h>

// The library exports it for plugins that trace, and leaves it out of its headers.
extern "C" int ma_pvio_register_callback(my_bool is_new,
                                         void (*callback)(int, MYSQL*, const unsigned char*,
                                                          std::size_t));

namespace taskwal::storage {
namespace {

thread_local MysqlConnectWatch* watch_of_thread = nullptr;

}  // namespace

MysqlConnectWatch::MysqlConnectWatch(Monotonic deadline) : deadline_(deadline) {
  // Once, before the process makes its first connection: the library's list of callbacks has no
  // lock.
  [[maybe_unused]] static const int registered = ma_pvio_register_callback(1, &OnTraffic);
  watch_of_thread = this;
}

MysqlConnectWatch::~MysqlConnectWatch() { watch_of_thread = nullptr; }

bool MysqlConnectWatch::has_fired() const {
  return has_fired_before_ || (watchdog_ != nullptr && watchdog_->has_fired());
}

// Called by the driver after each read and write of any connection, in the thread that does it.
void MysqlConnectWatch::OnTraffic(int, st_mysql* mysql, const unsigned char*, std::size_t) {
  if (watch_of_thread != nullptr) watch_of_thread->Watch(mysql_get_socket(mysql));
}

void MysqlConnectWatch::Watch(int fd) {
  if (fd < 0 || fd == watched_) return;
  has_fired_before_ = has_fired();
  watchdog_.reset();
  watched_ = fd;
  socket_ = UniqueFd(::dup(fd));
  watchdog_ = std::make_unique<CallWatchdog>(socket_.get(), deadline_);
}

}  // namespace taskwal::storage

// As long as it lives, the system starts no threads: each would get a stack larger than memory.
#pragma once

#include <gtest/gtest.h>
#include <pthread.h>

#include <cstddef>

namespace taskwal {

class NoNewThreads {
 public:
  NoNewThreads() {
    ::pthread_getattr_default_np(&before_);
    pthread_attr_t changed = before_;
    EXPECT_EQ(::pthread_attr_setstacksize(&changed, std::size_t{1} << 46), 0);
    EXPECT_EQ(::pthread_setattr_default_np(&changed), 0);
  }
  ~NoNewThreads() { ::pthread_setattr_default_np(&before_); }
  NoNewThreads(const NoNewThreads&) = delete;
  NoNewThreads& operator=(const NoNewThreads&) = delete;

 private:
  pthread_attr_t before_;
};

}  // namespace taskwal

#include "storage/call_watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "base/posix_file.h"

namespace taskwal::storage {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

class CallWatchdogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    ours_ = UniqueFd(fds[0]);
    peer_ = UniqueFd(fds[1]);
  }

  UniqueFd ours_, peer_;
};

TEST_F(CallWatchdogTest, EndsAReadThatNobodyAnswers) {
  const CallWatchdog watchdog(ours_.get(), Clock::Real().Now() + milliseconds(20));
  char byte = 0;
  EXPECT_EQ(::read(ours_.get(), &byte, 1), 0);
  EXPECT_TRUE(watchdog.has_fired());
}

TEST_F(CallWatchdogTest, AnEarlierDeadlineIsNotHeldUpByALaterOne) {
  const CallWatchdog later(-1, Clock::Real().Now() + hours(1));
  const CallWatchdog patient(peer_.get(), Clock::Real().Now() + hours(1));
  const CallWatchdog watchdog(ours_.get(), Clock::Real().Now() + milliseconds(20));
  char byte = 0;
  EXPECT_EQ(::read(ours_.get(), &byte, 1), 0);
  EXPECT_TRUE(watchdog.has_fired());
  EXPECT_FALSE(patient.has_fired());
  EXPECT_FALSE(later.has_fired());
}

TEST_F(CallWatchdogTest, LeavesTheSocketAloneOnceTheCallHasEnded) {
  {
    const CallWatchdog ended(ours_.get(), Clock::Real().Now() + milliseconds(20));
  }
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  const UniqueFd other(fds[0]), other_peer(fds[1]);
  // Armed later and due later: once this one has fired, the first one's time has passed too.
  const CallWatchdog watchdog(other.get(), Clock::Real().Now() + milliseconds(40));
  char byte = 0;
  EXPECT_EQ(::read(other.get(), &byte, 1), 0);
  EXPECT_EQ(::write(peer_.get(), "x", 1), 1);
  EXPECT_EQ(::read(ours_.get(), &byte, 1), 1);
}

}  // namespace
}  // namespace taskwal::storage

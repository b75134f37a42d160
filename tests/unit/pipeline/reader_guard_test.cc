// The flusher's reader must not end by whatever is thrown in it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/flush/flusher.h"
#include "storage/memory/memory_backend.h"
#include "tests/support/fake_clock.h"
#include "tests/support/operation_log.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Throws at the next look, as told.
class ThrowingClock final : public Clock {
 public:
  enum class Throws { kNothing, kAnError, kANumber };
  Monotonic Now() override {
    const Throws what = std::exchange(next_, Throws::kNothing);
    if (what == Throws::kAnError) throw std::runtime_error("no time");
    if (what == Throws::kANumber) throw 42;  // NOLINT: what is no std::exception is caught, too
    return clock_.Now();
  }
  Time WallNow() override { return clock_.WallNow(); }
  void SleepFor(std::chrono::nanoseconds duration) override { clock_.SleepFor(duration); }
  void Advance(std::chrono::nanoseconds duration) { clock_.Advance(duration); }
  void ThrowNext(Throws what) { next_ = what; }

 private:
  FakeClock clock_;
  Throws next_ = Throws::kNothing;
};

TEST(ReaderGuard, AReaderThatThrowsIsToldCountedAndGoesOn) {
  SimulatedFileSystem fs;
  FakeClock log_clock;
  ThrowingClock clock;
  storage::MemoryBackend memory;
  OperationLog log(fs, log_clock);
  ASSERT_OK_AND_ASSIGN(const auto letters, DeadLetters::Open(fs, "/wal", false));
  std::vector<std::string> told;
  Options options;
  options.wal_dir = "/wal";
  options.on_error = [&](const ErrorEvent& event) {
    told.push_back(event.component + ": " + event.message);
    throw 1;  // nor by what the hook throws
  };
  Flusher flusher(log.log(), memory, *letters, clock, options, fs);
  ASSERT_OK(flusher.Contact());
  for (const auto what : {ThrowingClock::Throws::kAnError, ThrowingClock::Throws::kANumber}) {
    log.LogActivity("log-" + std::to_string(told.size()), "t");
    log.Sync();
    clock.ThrowNext(what);
    ASSERT_NO_THROW(flusher.Step());
  }
  EXPECT_THAT(told, ElementsAre(HasSubstr("reader: no time"), HasSubstr("reader: an exception")));
  EXPECT_EQ(flusher.GetStats().flush_errors, 2u);
  EXPECT_THAT(flusher.GetStats().last_error, HasSubstr("an exception"));
  EXPECT_THAT(flusher.GetStats().alarm, HasSubstr("an exception"));
  for (int i = 0; i < 10; ++i) {
    while (flusher.Step()) {
    }
    clock.Advance(seconds(1));
  }
  EXPECT_EQ(flusher.flushed_lsn(), log.log().end_lsn());
  EXPECT_EQ((*memory.Connect())->Count()->activities, 2u);
  EXPECT_EQ(flusher.GetStats().alarm, "");
}

}  // namespace
}  // namespace taskwal::pipeline

// Runs seeds, each in a process of its own, so that every one starts from the same state:
//   TASKWAL_SIMULATION_SEED=17 simulation_test        replays one, with a trace on stderr
//   TASKWAL_SIMULATION_SEEDS=10000 simulation_test    so many, from TASKWAL_SIMULATION_FIRST on
//   TASKWAL_SIMULATION_SECONDS=3600 simulation_test   as many as fit
// TASKWAL_SIMULATION_SEED_SECONDS is what one may take of the machine's time (60; 0: any).
#include <fmt/format.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/logging.h"
#include "tests/simulation/world.h"

// Of a build that counts lines; absent in others.
extern "C" void __gcov_dump() __attribute__((weak));

namespace taskwal {
namespace {

constexpr std::uint64_t kSeedsByDefault = 20;
constexpr std::uint64_t kSecondsOfASeed = 60;  // where most take a twentieth of one
constexpr int kFailuresShown = 5;

std::uint64_t NumberFrom(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What a seed's process leaves in memory that it shares with this one.
struct Report {
  bool is_done = false;
  char failure[2000] = {};
  Coverage coverage;
  std::uint64_t records = 0, crashes = 0, lives = 0, steps = 0, fingerprint = 0;
};

void SetUpLogger(bool is_traced) {
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (is_traced) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
  } else {
    sink = std::make_shared<spdlog::sinks::null_sink_st>();
  }
  auto logger = std::make_shared<spdlog::logger>("taskwal", std::move(sink));
  logger->set_level(is_traced ? spdlog::level::info : spdlog::level::off);
  SetLogger(std::move(logger));
}

// What most seeds come to need, in one call of the kernel instead of thousands of faults.
void TakeMemoryAtOnce() {
  constexpr std::size_t kBytes = 12u << 20;
  constexpr std::size_t kPage = 2u << 20;  // a large one is filled with zeros faster than 512
  void* const block = std::malloc(kBytes + kPage);
  if (block == nullptr) return;
  const auto first = (reinterpret_cast<std::uintptr_t>(block) + kPage - 1) / kPage * kPage;
  // A kernel that does not know either takes its time later.
  ::madvise(reinterpret_cast<void*>(first), kBytes, MADV_HUGEPAGE);
  ::madvise(reinterpret_cast<void*>(first), kBytes, MADV_POPULATE_WRITE);
  std::free(block);
}

[[noreturn]] void RunSeed(std::uint64_t seed, bool is_traced, Report* report) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Memory that one life gave back is the next one's: the kernel need not fill it with zeros again.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, INT_MAX);
  ::mallopt(M_TOP_PAD, 4 << 20);
  TakeMemoryAtOnce();
  SetUpLogger(is_traced);
  // A machine that is rightly refused before its time has another behind it.
  std::uint64_t machine = seed;
  do {
    World world(machine, is_traced);
    const SeedOutcome outcome = world.Run();
    std::strncpy(report->failure, outcome.failure.c_str(), sizeof report->failure - 1);
    report->coverage.Add(outcome.coverage);
    report->records += outcome.records;
    report->crashes += outcome.crashes;
    report->lives += outcome.lives;
    report->steps += outcome.steps;
    report->fingerprint ^= outcome.fingerprint;
    machine = Random(machine).Next();
  } while (report->failure[0] == 0 &&
           (report->records < World::kRecordsWanted || report->crashes < World::kCrashesWanted));
  report->is_done = true;
  if (__gcov_dump != nullptr) __gcov_dump();
  ::_exit(0);
}

std::chrono::milliseconds TimeOfASeed() {
  const auto seconds = NumberFrom("TASKWAL_SIMULATION_SEED_SECONDS", kSecondsOfASeed);
  return std::chrono::seconds(seconds);
}

// Ends this process after that time, whatever it is at; 0: never.
void EndAfter(std::chrono::milliseconds time) {
  constexpr std::int64_t kSecond = 1000;
  ::itimerval timer{};
  timer.it_value = {time.count() / kSecond, time.count() % kSecond * 1000};
  std::signal(SIGALRM, SIG_DFL);
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

class SeedRunner {
 public:
  using Body = void (*)(std::uint64_t seed, bool is_traced, Report* report);

  explicit SeedRunner(std::size_t processes, std::chrono::milliseconds time = TimeOfASeed(),
                      Body body = RunSeed)
      : slots_(processes), time_(time), body_(body) {
    const std::size_t bytes = processes * sizeof(Report);
    void* shared =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(shared, MAP_FAILED);
    reports_ = static_cast<Report*>(shared);
    bytes_ = bytes;
  }
  ~SeedRunner() { ::munmap(reports_, bytes_); }
  SeedRunner(const SeedRunner&) = delete;
  SeedRunner& operator=(const SeedRunner&) = delete;

  void Start(std::uint64_t seed, bool is_traced = false) {
    if (running_.size() == slots_) WaitForOne();
    std::size_t slot = 0;
    while (std::any_of(running_.begin(), running_.end(),
                       [&](const auto& one) { return one.second.slot == slot; })) {
      ++slot;
    }
    reports_[slot] = Report();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      EndAfter(time_);
      body_(seed, is_traced, &reports_[slot]);
      ::_exit(1);
    }
    running_[child] = {seed, slot};
  }

  void Finish() {
    while (!running_.empty()) WaitForOne();
  }

  [[nodiscard]] int failures() const { return failures_; }
  [[nodiscard]] std::uint64_t fingerprint() const { return fingerprint_; }  // of the last one

  // A run that is long enough meets each kind of fault.
  void ExpectAllMet() const {
    if (failures_ > 0) return;
    for (const std::string_view kind : coverage_.MissedBy(seeds_)) {
      ADD_FAILURE() << seeds_ << " seeds, and none met: " << kind;
    }
  }

  [[nodiscard]] std::string Summary() const {
    std::string text = fmt::format("{} seeds, {} failed: {} records, {} lives, {} crashes, {} "
                                   "points of preemption (fewest records {}, fewest crashes {})\n",
                                   seeds_, failures_, records_, lives_, crashes_, steps_,
                                   fewest_records_, fewest_crashes_);
    for (std::size_t i = 0; i < kSeenNames.size(); ++i) {
      text += fmt::format("  {:<40} {}\n", kSeenNames[i], coverage_.of(static_cast<Seen>(i)));
    }
    return text;
  }

 private:
  struct Running {
    std::uint64_t seed = 0;
    std::size_t slot = 0;
  };

  void WaitForOne() {
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, 0);
    const auto found = running_.find(child);
    ASSERT_NE(found, running_.end());
    Take(found->second.seed, reports_[found->second.slot], status);
    running_.erase(found);
  }

  void Take(std::uint64_t seed, const Report& report, int status) {
    ++seeds_;
    coverage_.Add(report.coverage);
    records_ += report.records;
    lives_ += report.lives;
    crashes_ += report.crashes;
    steps_ += report.steps;
    fingerprint_ = report.fingerprint;
    std::string failure = report.failure;
    if (!report.is_done) failure = fmt::format("its process died (wait status {:#x})", status);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
      failure = fmt::format("it hangs: no end after {} ms", time_.count());
    }
    if (failure.empty()) {
      fewest_records_ = std::min(fewest_records_, report.records);
      fewest_crashes_ = std::min(fewest_crashes_, report.crashes);
      return;
    }
    if (++failures_ > kFailuresShown) return;
    ADD_FAILURE() << "seed " << seed << ": " << failure
                  << "\n  replay: TASKWAL_SIMULATION_SEED=" << seed << " " << program_
                  << " --gtest_filter=Simulation.HoldsUnderEverySeed";
  }

  const std::size_t slots_;
  const std::chrono::milliseconds time_;
  const Body body_;
  const std::string program_ = ::testing::internal::GetArgvs().front();
  Report* reports_ = nullptr;
  std::size_t bytes_ = 0;
  std::map<pid_t, Running> running_;
  Coverage coverage_;
  int failures_ = 0;
  std::uint64_t seeds_ = 0, records_ = 0, lives_ = 0, crashes_ = 0, steps_ = 0;
  std::uint64_t fingerprint_ = 0;
  std::uint64_t fewest_records_ = UINT64_MAX, fewest_crashes_ = UINT64_MAX;
};

TEST(Simulation, HoldsUnderEverySeed) {
  const std::uint64_t one = NumberFrom("TASKWAL_SIMULATION_SEED", 0);
  SeedRunner runner(one != 0 ? 1 : NumberFrom("TASKWAL_SIMULATION_PROCESSES", 2));
  if (one != 0) {
    runner.Start(one, /*is_traced=*/true);
    runner.Finish();
    std::fputs(runner.Summary().c_str(), stdout);
    return;
  }
  const std::uint64_t first = NumberFrom("TASKWAL_SIMULATION_FIRST", 1);
  const std::uint64_t seconds = NumberFrom("TASKWAL_SIMULATION_SECONDS", 0);
  const std::uint64_t seeds = NumberFrom("TASKWAL_SIMULATION_SEEDS", kSeedsByDefault);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  for (std::uint64_t i = 0; runner.failures() < kFailuresShown; ++i) {
    if (seconds > 0 ? std::chrono::steady_clock::now() >= until : i >= seeds) break;
    runner.Start(first + i);
  }
  runner.Finish();
  std::fputs(runner.Summary().c_str(), stdout);
  runner.ExpectAllMet();
}

TEST(Simulation, AKindOfFaultThatALongRunMissesIsNamed) {
  Coverage coverage;
  for (std::size_t i = 0; i < kSeenNames.size(); ++i) {
    const auto kind = static_cast<Seen>(i);
    if (kind != Seen::kSizeAhead && kind != Seen::kMoveUndone) coverage.Note(kind);
  }
  EXPECT_TRUE(coverage.MissedBy(999).empty());
  const std::string_view ahead = "sizes ahead of the data";
  EXPECT_EQ(coverage.MissedBy(1000), std::vector<std::string_view>{ahead});
  EXPECT_EQ(coverage.MissedBy(10'000).size(), 2u);
  coverage.Note(Seen::kSizeAhead);
  EXPECT_TRUE(coverage.MissedBy(1000).empty());
}

// Each line of the list: a seed, and what it found.
TEST(Simulation, HoldsUnderTheSeedsThatOnceFailed) {
  std::ifstream list(TASKWAL_SOURCE_DIR "/tests/simulation/regressions");
  ASSERT_TRUE(list.is_open());
  SeedRunner runner(2);
  for (std::string line; std::getline(list, line);) {
    std::istringstream words(line);
    std::uint64_t seed = 0;
    if (words >> seed) runner.Start(seed);
  }
  runner.Finish();
}

TEST(Simulation, ASeedThatHangsFails) {
  SeedRunner runner(1, std::chrono::milliseconds(1), [](std::uint64_t, bool, Report*) {
    for (;;) ::pause();
  });
  runner.Start(17);
  EXPECT_NONFATAL_FAILURE(runner.Finish(), "seed 17: it hangs");
  EXPECT_EQ(runner.failures(), 1);
}

TEST(Simulation, OneSeedIsOneRun) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SeedRunner runner(1);
    runner.Start(seed);
    runner.Finish();
    const std::uint64_t fingerprint = runner.fingerprint();
    runner.Start(seed);
    runner.Finish();
    EXPECT_EQ(fingerprint, runner.fingerprint()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace taskwal

#include "bench/workload.h"

#include <fmt/format.h>
#include <immintrin.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <thread>

#include "storage/operation.h"
#include "wal/format.h"

namespace taskwal::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kSamples = 1024;
constexpr Time kSomeTime{std::chrono::microseconds(1'790'000'000'000'000)};

double Nanoseconds(SteadyClock::duration duration) {
  return std::chrono::duration<double, std::nano>(duration).count();
}

// Spinning is exact, but with more producers than processors it would measure the scheduler's
// slices.
void WaitUntil(SteadyClock::time_point until, bool spin) {
  if (!spin) {
    std::this_thread::sleep_until(until);
    return;
  }
  while (SteadyClock::now() < until) _mm_pause();
}

}  // namespace

std::string ActivityIdOf(std::uint64_t n) { return fmt::format("01K9ZQ4T7XAC{:014d}", n); }

std::string TaskIdOf(std::uint64_t task) { return fmt::format("01K9ZQ4T7XTA{:014d}", task); }

Activity MakeActivity(std::uint64_t n) {
  Activity activity;
  activity.id = ActivityIdOf(n);
  activity.task_id = TaskIdOf(n / kActivitiesPerTask);
  activity.dag_id = "nightly-report-2026-11-21";
  activity.node_id = fmt::format("node-{:05d}", n / kActivitiesPerTask);
  activity.action = "node.progress";
  activity.data = R"({"rows": 4096, "bytes": 1048576})";
  activity.created_at = kSomeTime + std::chrono::microseconds(n);
  const std::size_t bytes =
      sizeof(wal::RecordPrefix) + storage::EncodedBytes(activity, activity.id);
  activity.message.assign(kRecordBytes - bytes, 'm');
  return activity;
}

std::span<const Activity> SampleActivities() {
  static const std::vector<Activity> activities = [] {
    std::vector<Activity> made;
    for (std::uint64_t n = 0; n < kSamples; ++n) made.push_back(MakeActivity(n));
    return made;
  }();
  return activities;
}

Task MakeTask(std::uint64_t task) {
  Task made;
  made.id = TaskIdOf(task);
  made.dag_id = "nightly-report-2026-11-21";
  made.node_id = fmt::format("node-{:05d}", task);
  made.current_node_id = made.node_id;
  made.processing_state = "ready";
  made.payload = R"({"source": "orders", "partition": 17, "target": "staging.orders_daily"})";
  made.max_retries = 3;
  made.created_at = kSomeTime + std::chrono::microseconds(task);
  made.updated_at = made.created_at;
  return made;
}

double RunProducers(int producers, const std::function<void(int producer)>& work) {
  struct Span {
    SteadyClock::time_point start, end;
  };
  std::latch ready(producers);
  std::vector<Span> spans(static_cast<std::size_t>(producers));
  std::vector<std::jthread> threads;
  for (int producer = 0; producer < producers; ++producer) {
    threads.emplace_back([&, producer] {
      Span& span = spans[static_cast<std::size_t>(producer)];
      ready.arrive_and_wait();
      // Taken by the producers themselves: another thread may see the start much later.
      span.start = SteadyClock::now();
      work(producer);
      span.end = SteadyClock::now();
    });
  }
  threads.clear();
  Span all = spans.front();
  for (const Span& span : spans) {
    all = {std::min(all.start, span.start), std::max(all.end, span.end)};
  }
  return Nanoseconds(all.end - all.start) / 1e9;
}

Rate AppendRecords(Writer& writer, int producers, std::uint64_t records) {
  const std::uint64_t each = records / static_cast<std::uint64_t>(producers);
  const auto activities = SampleActivities();
  const double seconds = RunProducers(producers, [&](int producer) {
    const auto first = static_cast<std::uint64_t>(producer) * each;
    for (std::uint64_t i = 0; i < each; ++i) {
      if (writer.Append(activities[(first + i) % kSamples]) == 0) return;
    }
  });
  return {each * static_cast<std::uint64_t>(producers), seconds};
}

Rate CommitRecords(Writer& writer, int producers, std::chrono::milliseconds time,
                   std::vector<double>* latencies) {
  const auto activities = SampleActivities();
  std::atomic<std::uint64_t> committed{0};
  const SteadyClock::time_point end = SteadyClock::now() + time;
  const double seconds = RunProducers(producers, [&](int producer) {
    std::uint64_t mine = 0;
    for (SteadyClock::time_point now = SteadyClock::now(); now < end; ++mine) {
      const SteadyClock::time_point before = now;
      const auto position = writer.Append(activities[static_cast<std::size_t>(producer)]);
      if (position == 0 || !writer.WaitDurable(position)) break;
      now = SteadyClock::now();
      if (latencies != nullptr) latencies->push_back(Nanoseconds(now - before) / 1000);
    }
    committed.fetch_add(mine);
  });
  return {committed.load(), seconds};
}

Rate CommitOutstanding(Writer& writer, std::uint64_t outstanding, std::chrono::milliseconds time) {
  constexpr std::uint64_t kLookEvery = 256;
  const SteadyClock::time_point end = SteadyClock::now() + time;
  const auto activities = SampleActivities();
  std::uint64_t appended = 0;
  const double seconds = RunProducers(1, [&](int) {
    std::uint64_t position = 0;
    while (appended % kLookEvery != 0 || SteadyClock::now() < end) {
      position = writer.Append(activities[appended % kSamples]);
      if (position == 0) return;
      ++appended;
      const bool must_wait = appended > outstanding;
      if (must_wait && !writer.WaitDurable(position - outstanding)) return;
    }
    if (position > 0 && !writer.WaitDurable(position)) appended = 0;
  });
  return {appended, seconds};
}

std::vector<double> PacedLatencies(Writer& writer, int producers, double per_second,
                                   std::chrono::milliseconds time) {
  const auto processors = static_cast<int>(std::thread::hardware_concurrency());
  const bool spin = producers < processors;
  const auto step =
      std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * producers / per_second));
  const auto each = static_cast<std::uint64_t>(time / step);
  const auto activities = SampleActivities();
  std::vector<std::vector<double>> taken(static_cast<std::size_t>(producers));
  RunProducers(producers, [&](int producer) {
    std::vector<double>& mine = taken[static_cast<std::size_t>(producer)];
    mine.reserve(each);
    ::prctl(PR_SET_TIMERSLACK, 1);  // of this thread: else sleeps end 50 us late
    SteadyClock::time_point next = SteadyClock::now() + step * producer / producers;
    for (std::uint64_t i = 0; i < each; ++i, next += step) {
      WaitUntil(next, spin);
      const SteadyClock::time_point before = SteadyClock::now();
      if (writer.Append(activities[i % kSamples]) == 0) return;
      mine.push_back(Nanoseconds(SteadyClock::now() - before));
    }
  });
  std::vector<double> all;
  for (const std::vector<double>& mine : taken) all.insert(all.end(), mine.begin(), mine.end());
  return all;
}

}  // namespace taskwal::bench

#include <algorithm>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/progress.h"

namespace taskwal::cli {
namespace {

// How often the bar and the stop signal are looked at.
constexpr auto kSlice = std::chrono::milliseconds(200);
constexpr std::chrono::milliseconds kContactLeast{1000};

}  // namespace

Status Drain(TaskStorage& storage, const DrainOptions& options) {
  Clock& clock = Clock::Real();
  const StopSignal::Minded minded;
  // As long as something goes through there is no end to it.
  const auto limit = options.while_progressing ? std::chrono::milliseconds(0) : options.timeout;
  ProgressBar bar("draining", {.limit = limit});
  const Stats before = storage.GetStats();
  std::uint64_t flushed = before.flushed_lsn;
  Monotonic until = clock.Now() + options.timeout - options.waited;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock.Now());
    const bool is_last = left <= std::chrono::milliseconds(0);
    const Status drained = storage.Flush(
        std::clamp(left, std::chrono::milliseconds(0), std::chrono::milliseconds(kSlice)));
    if (drained.code() != StatusCode::kUnavailable || StopSignal::insisted()) return drained;
    const Stats now = storage.GetStats();
    if (options.while_progressing && now.flushed_lsn > flushed) {
      until = clock.Now() + options.timeout;
    } else if (is_last || (options.stoppable && StopSignal::requested())) {
      return drained;
    }
    flushed = now.flushed_lsn;
    bar.Update(flushed - std::min(before.flushed_lsn, flushed),
               now.end_lsn - std::min(before.flushed_lsn, now.end_lsn));
  }
}

void BoundFirstContact(std::chrono::milliseconds timeout, Options* options) {
  options->recovery_timeout =
      std::min<Options::Duration>(options->recovery_timeout, std::max(timeout, kContactLeast));
}

void PrintAlarm(std::string_view command, const Status& closed, const Stats& stats) {
  if (closed.ok() && !stats.alarm.empty()) PrintError(command, stats.alarm);
}

}  // namespace taskwal::cli

#include "cli/progress.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "base/mutex.h"

namespace taskwal::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kBarWidth = 30;
constexpr std::size_t kUsualColumns = 80;
constexpr auto kShownAfter = std::chrono::seconds(1);
constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr const char* kClear = "\r\033[K";

// "3 s", "2 min 5 s", "1 h 0 min"
std::string TimeText(SteadyClock::duration time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time).count();
  if (seconds < 60) return std::to_string(seconds) + " s";
  const auto minutes = seconds / 60;
  if (minutes < 60) return std::to_string(minutes) + " min " + std::to_string(seconds % 60) + " s";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

// What goes into one line: one that the terminal breaks in two could not be cleared as one.
std::size_t Columns() {
  winsize size{};
  const bool is_known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return (is_known ? size.ws_col : kUsualColumns) - 1;
}

// Nothing in it plays with the terminal, and it is cut between characters.
std::string CutTo(std::size_t columns, std::string text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  std::replace_if(text.begin(), text.end(), is_control, ' ');
  std::size_t end = 0;
  for (; end < text.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80;
    if (begins && columns-- == 0) break;
  }
  return text.substr(0, end);
}

// False where the terminal takes nothing (Ctrl-S): neither the command nor its end waits for it.
bool Put(const std::string& text) {
  pollfd terminal{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&terminal, 1, 0) <= 0) return false;
  return ::write(STDERR_FILENO, text.data(), text.size()) > 0;
}

// A thread that no signal is delivered to: they are for those who wait for something.
std::jthread StartWithoutSignals(std::jthread (*start)()) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::jthread thread = start();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

class ProgressBar::Impl {
 public:
  std::string title;
  SteadyClock::duration limit{};
  SteadyClock::time_point started = SteadyClock::now();
  std::uint64_t done = 0;
  std::uint64_t all = 0;

  // Of a long title the end goes, and not the time.
  [[nodiscard]] std::string Text(std::size_t columns) const {
    const std::string figures = Figures();
    return CutTo(columns, CutTo(columns - std::min(columns, figures.size()), title) + figures);
  }

 private:
  [[nodiscard]] std::string Figures() const {
    std::string text;
    if (all > 0) {
      const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(all));
      const auto full = static_cast<std::size_t>(share * static_cast<double>(kBarWidth));
      text += " [" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "] " +
              std::to_string(static_cast<int>(share * 100)) + " %";
    }
    text += "  " + TimeText(SteadyClock::now() - started);
    if (limit.count() > 0) text += " of at most " + TimeText(limit);
    return text;
  }
};

namespace {

// The terminal's last line: bars, the thread that draws the last of them, and what is on the
// screen. One lock for all, as each of them writes to the same place.
class TerminalLine {
 public:
  using Bar = ProgressBar::Impl;

  void Add(Bar* bar) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    bars_.push_back(bar);
    if (!drawer_.joinable()) drawer_ = StartWithoutSignals(&TerminalLine::Start);
  }

  void Remove(Bar* bar) EXCLUDES(mutex_) {
    std::jthread over;
    MutexLock lock(mutex_);
    std::erase(bars_, bar);
    Clear();
    if (!bars_.empty()) return;
    drawer_.request_stop();
    wake_.NotifyAll();
    // Joined with the lock given back: `over` goes after it.
    over = std::move(drawer_);
  }

  template <typename Change>
  void With(const Change& change) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    change();
  }

  void PutText(std::string_view text) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    Clear();
    std::fwrite(text.data(), 1, text.size(), stderr);
  }

 private:
  static std::jthread Start();

  void DrawUntil(const std::stop_token& over) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    while (!over.stop_requested()) {
      wake_.WaitFor(mutex_, kRedrawEvery);
      if (!bars_.empty() && !over.stop_requested()) Draw();
    }
  }

  void Draw() REQUIRES(mutex_) {
    if (SteadyClock::now() - begun_ < kShownAfter) return;
    std::string text = bars_.back()->Text(Columns());
    if (text != shown_ && Put("\r" + text + "\033[K")) shown_ = std::move(text);
  }

  void Clear() REQUIRES(mutex_) {
    if (!shown_.empty() && Put(kClear)) shown_.clear();
  }

  const SteadyClock::time_point begun_ = SteadyClock::now();  // with the first bar of the command
  Mutex mutex_;
  CondVar wake_;
  std::vector<Bar*> bars_ GUARDED_BY(mutex_);
  std::jthread drawer_ GUARDED_BY(mutex_);
  std::string shown_ GUARDED_BY(mutex_);  // what stands there; empty: nothing of ours
};

// Never destroyed: a thread that is left behind may still tell what went wrong.
TerminalLine& Line() {
  static auto* line = new TerminalLine;
  return *line;
}

std::jthread TerminalLine::Start() {
  try {
    return std::jthread([](const std::stop_token& over) {
      try {
        Line().DrawUntil(over);
      } catch (const std::exception& error) {
        Logger().debug("progress event=not_shown error=\"{}\"", error.what());
      }
    });
  } catch (const std::system_error&) {
    return {};  // no thread is left: the command does without
  }
}

}  // namespace

ProgressBar::ProgressBar(std::string_view title, const ProgressOptions& options) {
  if (::isatty(STDERR_FILENO) != 1) return;
  if (options.beside_output && ::isatty(STDOUT_FILENO) == 1) return;
  impl_ = std::make_unique<Impl>();
  impl_->title = title;
  impl_->limit = options.limit;
  Line().Add(impl_.get());
}

ProgressBar::~ProgressBar() { End(); }

void ProgressBar::Update(std::uint64_t done, std::uint64_t all) {
  if (impl_ == nullptr) return;
  Line().With([&] {
    impl_->done = done;
    impl_->all = all;
  });
}

void ProgressBar::GoOnTo(std::string_view title) {
  if (impl_ == nullptr) return;
  Line().With([&] {
    *impl_ = {};
    impl_->title = title;
  });
}

void ProgressBar::End() {
  if (impl_ == nullptr) return;
  Line().Remove(impl_.get());
  impl_.reset();
}

void PutOnStderr(std::string_view text) { Line().PutText(text); }

}  // namespace taskwal::cli

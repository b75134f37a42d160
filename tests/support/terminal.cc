#include "tests/support/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/check.h"

namespace taskwal {
namespace {

constexpr int kPatienceMs = 120'000;

}  // namespace

Terminal::Terminal(unsigned short columns) : own_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
  TASKWAL_CHECK(own_.get() >= 0);
  TASKWAL_CHECK(::grantpt(own_.get()) == 0 && ::unlockpt(own_.get()) == 0);
  std::array<char, 64> name{};
  TASKWAL_CHECK(::ptsname_r(own_.get(), name.data(), name.size()) == 0);
  name_ = name.data();
  end_ = UniqueFd(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  winsize size{};
  size.ws_row = 24;
  size.ws_col = columns;
  TASKWAL_CHECK(end_.get() >= 0 && ::ioctl(end_.get(), TIOCSWINSZ, &size) == 0);
}

std::vector<std::string> Terminal::Around(const std::vector<std::string>& command) const {
  std::vector<std::string> words{"/bin/sh", "-c", "exec \"$@\" 2>" + name_, "sh"};
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

bool Terminal::ReadSome() {
  pollfd polled{own_.get(), POLLIN, 0};
  if (::poll(&polled, 1, kPatienceMs) <= 0) return false;
  std::array<char, 4096> bytes;
  const ssize_t count = ::read(own_.get(), bytes.data(), bytes.size());
  if (count < 0 && errno == EINTR) return true;
  if (count <= 0) return false;  // EIO: nobody has it open any more
  written_.append(bytes.data(), static_cast<std::size_t>(count));
  return true;
}

bool Terminal::Await(std::string_view text) {
  std::size_t found = 0;
  while ((found = written_.find(text, looked_)) == std::string::npos) {
    if (!ReadSome()) return false;
  }
  looked_ = found + text.size();
  return true;
}

void Terminal::ReadToEnd() {
  end_ = UniqueFd();
  while (ReadSome()) {
  }
}

std::vector<std::string> Terminal::Screen() const {
  constexpr std::string_view kErase = "\033[K";
  std::vector<std::string> lines(1);
  std::size_t column = 0;
  for (std::size_t at = 0; at < written_.size(); ++at) {
    std::string& line = lines.back();
    if (written_.compare(at, kErase.size(), kErase) == 0) {
      line.resize(std::min(line.size(), column));
      at += kErase.size() - 1;
    } else if (written_[at] == '\r') {
      column = 0;
    } else if (written_[at] == '\n') {
      lines.emplace_back();
      column = 0;
    } else {
      line.resize(std::max(line.size(), column + 1), ' ');
      line[column++] = written_[at];
    }
  }
  if (lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace taskwal

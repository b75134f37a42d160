#include "cli/line_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace taskwal::cli {
namespace {

constexpr std::size_t kFirstBytes = 256u << 10;

}  // namespace

LineReader::LineReader(int fd, std::size_t line_bytes_max)
    : fd_(fd), line_bytes_max_(line_bytes_max), buffer_(kFirstBytes) {}

LineReader::Line LineReader::Next(std::string_view* line) {
  const void* found = std::memchr(buffer_.data() + looked_, '\n', end_ - looked_);
  if (found == nullptr) {
    looked_ = end_;
    if (end_ - begin_ > line_bytes_max_) skipping_ = true;
    if (skipping_) begin_ = looked_ = end_ = 0;
    if (!at_end_) return Line::kMore;
    if (begin_ == end_ && !skipping_) return Line::kEnd;
  }
  const std::size_t stop =
      found == nullptr ? end_
                       : static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data());
  *line = {buffer_.data() + begin_, stop - begin_};
  begin_ = looked_ = std::min(stop + 1, end_);
  const bool too_long = skipping_ || line->size() > line_bytes_max_;
  skipping_ = false;
  return too_long ? Line::kTooLong : Line::kWhole;
}

// Long lines make the buffer grow; it shrinks again once they are gone.
void LineReader::MakeRoom() {
  if (begin_ == end_) {
    begin_ = end_ = looked_ = 0;
    if (buffer_.size() > kFirstBytes) std::vector<char>(kFirstBytes).swap(buffer_);
    return;
  }
  if (end_ < buffer_.size()) return;
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    looked_ -= begin_;
    begin_ = 0;
  }
  if (end_ * 2 > buffer_.size()) {
    buffer_.resize(std::min(buffer_.size() * 2, std::max(line_bytes_max_ + 1, kFirstBytes) * 2));
  }
}

LineReader::Filled LineReader::Fill() {
  MakeRoom();
  const ssize_t got = ::read(fd_, buffer_.data() + end_, buffer_.size() - end_);
  if (got < 0 && errno == EINTR) return Filled::kInterrupted;
  if (got > 0) {
    end_ += static_cast<std::size_t>(got);
    return Filled::kSome;
  }
  at_end_ = true;
  return got == 0 ? Filled::kSome : Filled::kFailed;
}

}  // namespace taskwal::cli

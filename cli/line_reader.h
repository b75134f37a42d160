// Lines out of a file descriptor, as they come: whatever is there is given at once, memory is
// bounded by the longest line that is taken. One thread.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace taskwal::cli {

class LineReader {
 public:
  LineReader(int fd, std::size_t line_bytes_max);

  enum class Line {
    kWhole,    // without its newline; a last line may have had none
    kTooLong,  // longer than the limit: passed over
    kMore,     // none yet: Fill() first
    kEnd,      // of the input
  };
  // The view is valid until the next Fill().
  Line Next(std::string_view* line);

  enum class Filled { kSome, kInterrupted, kFailed };
  // One read(), which blocks where nothing is there. The end of the input is kSome; kFailed (errno
  // tells) ends the input as well.
  Filled Fill();

 private:
  void MakeRoom();

  const int fd_;
  const std::size_t line_bytes_max_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // of what was not given out yet
  std::size_t end_ = 0;
  std::size_t looked_ = 0;  // no newline between begin_ and here
  bool at_end_ = false;
  bool skipping_ = false;  // inside a line that is too long
};

}  // namespace taskwal::cli

// A terminal of a child's own, and what is on its screen.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/posix_file.h"

namespace taskwal {

// One thread. Its reader has to come now and then: a child waits where nobody takes what it writes.
class Terminal {
 public:
  explicit Terminal(unsigned short columns = 80);

  // The command with its stderr on this terminal.
  [[nodiscard]] std::vector<std::string> Around(const std::vector<std::string>& command) const;
  // Until `text` has been written since the last call; false at the end of all output, and at the
  // deadline.
  bool Await(std::string_view text);
  // Until everybody has closed it. Once something has been read, or the child has ended: the end
  // that keeps the terminal up until then goes.
  void ReadToEnd();

  // All that was written.
  [[nodiscard]] const std::string& written() const { return written_; }
  // What is left on the screen: lines, by carriage return, line feed and "erase to the end of the
  // line". Anything else would be a line of its own.
  [[nodiscard]] std::vector<std::string> Screen() const;

 private:
  bool ReadSome();

  UniqueFd own_, end_;
  std::string name_;
  std::string written_;
  std::size_t looked_ = 0;
};

}  // namespace taskwal

// What a command that takes long is at, for eyes: one line on stderr, redrawn in place, of what is
// done or waited for and of the time gone. Shown once the command has worked for a second, only
// where stderr is a terminal, and cleared at the end: nothing of it is left beside a result.
//
// A thread of its own draws it as long as there is a bar; it takes no signals, and it has ended
// when the last bar is gone. Any thread may call. Of several bars the one made last is shown.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace taskwal::cli {

struct ProgressOptions {
  std::chrono::milliseconds limit{0};  // of the time that it can take; 0: none is known
  // Standard output gets lines meanwhile: nothing is shown in between them on a terminal.
  bool beside_output = false;
};

class ProgressBar {
 public:
  // "waiting for postgresql://…", "verifying"
  explicit ProgressBar(std::string_view title, const ProgressOptions& options = {});
  ~ProgressBar();  // as End()
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // So much of so much; before the first one, and where `all` is 0, the time alone is shown.
  void Update(std::uint64_t done, std::uint64_t all);
  // What comes next: its time begins anew, and how much it is, is not known yet.
  void GoOnTo(std::string_view title);
  // Clears the line for good: what follows goes to the terminal.
  void End();

  class Impl;

 private:
  std::unique_ptr<Impl> impl_;  // null: nothing is shown, or no more
};

// To stderr, as a line of its own whatever is shown there.
void PutOnStderr(std::string_view text);

}  // namespace taskwal::cli

#include "cli/question.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace taskwal::cli {
namespace {

std::atomic<bool> is_left_behind{false};

}  // namespace

void NoteLeftBehind() { is_left_behind.store(true); }

void EndProcess(int exit_code) {
  if (is_left_behind.load()) ::_exit(exit_code);  // what was printed is flushed by then
  std::exit(exit_code);
}

}  // namespace taskwal::cli

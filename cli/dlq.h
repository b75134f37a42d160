// What the files of `taskwal dlq` share.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/flush/dead_letters.h"
#include "taskwal/dead_letters.h"

namespace CLI {
class App;
}

namespace taskwal::cli {

// Which letters, as given on the command line.
struct LetterChoice {
  DeadLetterSelection selection;
  std::string failed_before;  // a time or an age

  // kInvalidArgument: a time that is none, or nothing chosen.
  [[nodiscard]] Result<DeadLetterSelection> Resolve() const;
};
// ID..., --lsn, --task, --older-than and --all.
void AddLetterChoice(CLI::App& command, LetterChoice* choice);
// Told by names, of which an unknown one is a mistake.
bool NamesLetters(const DeadLetterSelection& selection);
inline constexpr char kNoSuchLetter[] = "no such dead letter (`taskwal dlq list` names them)";

// Visits what the store in `directory` holds, beside a live process or not; the exit code, which
// tells damage, too. What is wrong is said as `command`, "dlq list".
int ForEachLetter(std::string_view command, const std::string& directory,
                  const std::function<bool(const pipeline::DeadLetter&)>& visit);

// dlq_settle.cc
void AddDlqRetry(CLI::App& dlq, int* exit_code);
void AddDlqPurge(CLI::App& dlq, int* exit_code);

}  // namespace taskwal::cli

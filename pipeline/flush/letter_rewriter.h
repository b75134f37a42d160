// Files of dead letters made as a whole, so that they take one sync each, never show half-written,
// and are on disk as soon as they have their name. One caller.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/file_system.h"
#include "pipeline/flush/letter_file.h"
#include "pipeline/flush/letter_index.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

class LetterRewriter {
 public:
  // Behind file `number`, of which `sound_bytes` count.
  LetterRewriter(FileSystem& fs, std::string directory, std::uint64_t number,
                 std::uint64_t sound_bytes);

  // Where the entry will stand; on disk with its file, behind Finish.
  Result<LetterPlace> Add(EntryKind kind, std::span<const std::byte> body);
  Status Finish();

  [[nodiscard]] std::uint64_t number() const { return number_; }
  [[nodiscard]] std::uint64_t sound_bytes() const { return previous_; }  // of the last one
  [[nodiscard]] std::uint64_t total_bytes() const { return total_; }

 private:
  void Put(std::span<const std::byte> bytes);

  FileSystem& fs_;
  const std::string directory_;
  std::uint64_t number_;
  std::uint64_t previous_;
  std::uint64_t total_ = 0;
  std::string content_;
};

}  // namespace taskwal::pipeline

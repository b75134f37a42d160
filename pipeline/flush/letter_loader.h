// Reads all files of dead letters when the store is opened. Cuts what was never whole, and writes
// the last entry once more: who wrote it may have been killed before its sync, or behind one that
// failed, and nobody can ask the page cache.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/file_system.h"
#include "pipeline/flush/letter_file.h"
#include "pipeline/flush/letter_index.h"
#include "taskwal/status.h"

namespace taskwal::pipeline {

class LetterLoader {
 public:
  // `damage` may be null.
  LetterLoader(FileSystem& fs, std::string wal_directory, bool read_only, LetterIndex* index,
               std::vector<std::string>* damage);

  Status Load();

  // Where appending goes on.
  [[nodiscard]] std::uint64_t last_number() const { return last_number_; }
  [[nodiscard]] std::uint64_t sound_bytes() const { return sound_bytes_; }
  // Of all files that count.
  [[nodiscard]] std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  Status LoadAll();
  Status WriteLastAgain();
  Status LoadFiles(std::uint64_t first, const std::set<std::uint64_t>& present);
  Status LoadFile(std::uint64_t number);
  Result<std::optional<std::uint64_t>> PreviousBytes(std::uint64_t number);
  Status EndAt(std::uint64_t sound_bytes, const std::string& name, const std::string& content);
  void Take(std::uint64_t number, const EntryView& entry);
  bool TakeSound(std::uint64_t number, const EntryView& entry);
  void Bad(std::uint64_t number, std::uint64_t from, std::uint64_t to);
  Status RemoveRetired(const std::set<std::uint64_t>& present);

  FileSystem& fs_;
  const std::string wal_directory_;
  const std::string directory_;
  const bool read_only_;
  LetterIndex* index_;
  std::vector<std::string>* damage_;
  std::vector<std::pair<std::uint64_t, std::string>> found_;  // damage, by file
  // Of which nothing shows that it is on disk: no file was begun behind it, and its own was not
  // made as a whole (such a file ends with what it retires).
  struct Unproven {
    std::uint64_t number = 0, offset = 0;
  };
  std::optional<Unproven> last_;
  std::uint64_t retired_to_ = 0;
  std::uint64_t last_number_ = 0;
  std::uint64_t sound_bytes_ = 0;
  std::uint64_t file_bytes_ = 0;
};

}  // namespace taskwal::pipeline

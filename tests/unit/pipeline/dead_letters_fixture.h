// Dead letters on a simulated disk, for the tests of them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/flush/dead_letters.h"
#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal::pipeline {

inline constexpr char kDir[] = "/wal";
inline constexpr char kFirst[] = "/wal/dead-letters/letters-00000001";

class DeadLettersTest : public ::testing::Test {
 protected:
  DeadLettersTest() { EXPECT_OK(fs_.MakeDirectories(kDir)); }

  std::unique_ptr<DeadLetters> Open(bool read_only = false) {
    damage_.clear();
    auto letters = DeadLetters::Open(fs_, kDir, read_only, &damage_);
    EXPECT_OK(letters);
    return letters.ok() ? std::move(letters).value() : nullptr;
  }

  DeadLetter Rejected(wal::Lsn lsn, const std::string& task = "task",
                      storage::OperationType type = storage::OperationType::kTaskUpdate) const {
    DeadLetter letter;
    letter.wal_id = wal_id_;
    letter.lsns = {lsn, lsn};
    letter.stamp = 7;
    letter.type = type;
    letter.body = {std::byte{1}, std::byte{2}};
    letter.task_id = task;
    letter.error = "constraint failed";
    letter.sql_code = "SQLite 275";
    letter.attempts = 4;
    letter.first_failed = Time(std::chrono::microseconds(111));
    letter.last_failed = Time(std::chrono::microseconds(222));
    letter.backend = "sqlite://x.db";
    return letter;
  }
  DeadLetter Loss(wal::Lsn from, wal::Lsn to) const {
    DeadLetter letter;
    letter.kind = DeadLetter::Kind::kLoss;
    letter.wal_id = wal_id_;
    letter.lsns = {from, to};
    letter.error = "wal-00000001.log offset 4096: body checksum";
    return letter;
  }
  static std::uint64_t EntryBytes(const DeadLetter& letter) {
    return MakeEntry(EntryKind::kLetter, EncodeLetter(letter), 1, 0).size();
  }
  static std::vector<DeadLetter> All(const DeadLetters& letters) {
    std::vector<DeadLetter> all;
    EXPECT_OK(letters.ForEach([&](const DeadLetter& letter) {
      all.push_back(letter);
      return true;
    }));
    return all;
  }
  static std::vector<wal::Lsn> LsnsOf(const DeadLetters& letters) {
    std::vector<wal::Lsn> lsns;
    for (const DeadLetter& letter : All(letters)) lsns.push_back(letter.lsns.from);
    return lsns;
  }

  SimulatedFileSystem fs_;
  const Uuid wal_id_ = *Uuid::Parse("11111111-2222-4333-8444-555555555555");
  std::vector<std::string> damage_;
};

}  // namespace taskwal::pipeline

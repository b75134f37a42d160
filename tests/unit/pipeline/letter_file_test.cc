#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/flush/letter_file.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/pipeline/dead_letters_fixture.h"

namespace taskwal::pipeline {
namespace {

using ::testing::SizeIs;

TEST(LetterFile, ParsesOnlyItsOwnNames) {
  EXPECT_EQ(ParseLetterFileName(LetterFileName(7)), 7u);
  EXPECT_EQ(ParseLetterFileName(LetterFileName(123456789)), 123456789u);
  for (const char* name : {"letters-0", "letters-00000000", "letters-1", "letters-0000000a",
                           "letters-", "wal-00000001.log", "letters-00000001.tmp"}) {
    EXPECT_EQ(ParseLetterFileName(name), std::nullopt) << name;
  }
}

TEST(LetterFile, ValidatesAnEntryOnlyInItsPlace) {
  const std::vector<std::byte> body(10, std::byte{3});
  const auto entry = MakeEntry(EntryKind::kLetter, body, 1, 40);
  EXPECT_TRUE(ParseEntry(entry, 1, 40).has_value());
  EXPECT_FALSE(ParseEntry(entry, 1, 41).has_value());
  EXPECT_FALSE(ParseEntry(entry, 2, 40).has_value());
}

TEST(LetterFile, RefusesBodiesThatAreNoLetter) {
  DeadLetter letter;
  letter.lsns = {1, 1};
  std::vector<std::byte> body = EncodeLetter(letter);
  ASSERT_TRUE(DecodeLetter(body).has_value());
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(DecodeLetter(std::span(body).first(size)).has_value()) << size;
  }
  body.push_back(std::byte{0});
  EXPECT_FALSE(DecodeLetter(body).has_value());
  EXPECT_FALSE(DecodeTaskCleared(std::span(body).first(3)).has_value());
}

TEST(LetterFile, ReportsASoundEntryThatIsNoLetter) {
  SimulatedFileSystem fs;
  ASSERT_OK(fs.MakeDirectories("/wal/dead-letters"));
  const auto append = [](std::string* file, const std::vector<std::byte>& bytes) {
    file->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  std::string file;
  append(&file, MakeLetterFileHeader(1, 0));
  append(&file, MakeEntry(EntryKind::kLetter, {}, 1, file.size()));
  append(&file, MakeEntry(static_cast<EntryKind>(99), {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kTaskCleared, {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kResolved, {}, 1, file.size()));
  append(&file, MakeEntry(EntryKind::kRetired, {}, 1, file.size()));
  ASSERT_OK(WriteFileAtomically(fs, kFirst, file));
  std::vector<std::string> damage;
  ASSERT_OK(DeadLetters::Open(fs, kDir, false, &damage));
  EXPECT_THAT(damage, SizeIs(5));
}

}  // namespace
}  // namespace taskwal::pipeline

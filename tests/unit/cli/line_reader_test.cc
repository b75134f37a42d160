#include "cli/line_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "base/posix_file.h"

namespace taskwal::cli {
namespace {

using Line = LineReader::Line;

constexpr std::size_t kNoLimit = 1u << 20;

struct Pipe {
  UniqueFd read, write;
  Pipe() {
    int fds[2];
    EXPECT_EQ(::pipe(fds), 0);
    read = UniqueFd(fds[0]);
    write = UniqueFd(fds[1]);
  }
  void Put(std::string_view text) {
    ASSERT_EQ(::write(write.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void End() { write = UniqueFd(); }
};

// Everything up to the end; a line that is too long shows as "!".
std::vector<std::string> AllLines(LineReader& reader) {
  std::vector<std::string> lines;
  for (;;) {
    std::string_view line;
    switch (reader.Next(&line)) {
      case Line::kWhole:
        lines.emplace_back(line);
        break;
      case Line::kTooLong:
        lines.emplace_back("!");
        break;
      case Line::kMore:
        reader.Fill();
        break;
      case Line::kEnd:
        return lines;
    }
  }
}

std::vector<std::string> LinesOf(const std::string& text, std::size_t limit) {
  Pipe pipe;
  std::thread writer([&] {
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t put = ::write(pipe.write.get(), text.data() + at, text.size() - at);
      ASSERT_GT(put, 0);
      at += static_cast<std::size_t>(put);
    }
    pipe.End();
  });
  LineReader reader(pipe.read.get(), limit);
  auto lines = AllLines(reader);
  writer.join();
  return lines;
}

TEST(LineReader, GivesEachLineWithoutItsNewline) {
  EXPECT_EQ(LinesOf("one\n\ntwo\n", kNoLimit), (std::vector<std::string>{"one", "", "two"}));
}

TEST(LineReader, CountsALastLineWithoutNewline) {
  EXPECT_EQ(LinesOf("one\ntwo", kNoLimit), (std::vector<std::string>{"one", "two"}));
  EXPECT_TRUE(LinesOf("", kNoLimit).empty());
}

TEST(LineReader, GivesWhatIsThereBeforeMoreArrives) {
  Pipe pipe;
  LineReader reader(pipe.read.get(), kNoLimit);
  std::string_view line;
  pipe.Put("one\ntw");
  ASSERT_EQ(reader.Next(&line), Line::kMore);
  ASSERT_EQ(reader.Fill(), LineReader::Filled::kSome);
  ASSERT_EQ(reader.Next(&line), Line::kWhole);
  EXPECT_EQ(line, "one");
  ASSERT_EQ(reader.Next(&line), Line::kMore);
  pipe.Put("o\n");
  ASSERT_EQ(reader.Fill(), LineReader::Filled::kSome);
  ASSERT_EQ(reader.Next(&line), Line::kWhole);
  EXPECT_EQ(line, "two");
}

TEST(LineReader, TakesALineAsLongAsTheLimitAndPassesOverALongerOne) {
  const std::string fits(1000, 'a'), longer(1001, 'b');
  EXPECT_EQ(LinesOf(fits + "\n" + longer + "\nc\n", 1000),
            (std::vector<std::string>{fits, "!", "c"}));
}

TEST(LineReader, PassesOverALineLongerThanItsBufferInBoundedMemory) {
  const std::string huge(8u << 20, 'x');
  EXPECT_EQ(LinesOf("a\n" + huge + "\nb\n", 1000), (std::vector<std::string>{"a", "!", "b"}));
  EXPECT_EQ(LinesOf(huge, 1000), (std::vector<std::string>{"!"}));
}

TEST(LineReader, GrowsForALongLineWithinTheLimit) {
  const std::string big(3u << 20, 'y');
  EXPECT_EQ(LinesOf("a\n" + big + "\nb", 4u << 20), (std::vector<std::string>{"a", big, "b"}));
}

TEST(LineReader, EndsTheInputWhereReadingFails) {
  UniqueFd directory(::open("/", O_RDONLY));
  LineReader reader(directory.get(), kNoLimit);
  std::string_view line;
  EXPECT_EQ(reader.Next(&line), Line::kMore);
  EXPECT_EQ(reader.Fill(), LineReader::Filled::kFailed);
  EXPECT_EQ(reader.Next(&line), Line::kEnd);
}

}  // namespace
}  // namespace taskwal::cli

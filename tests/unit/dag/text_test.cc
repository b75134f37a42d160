#include "dag/text.h"

#include <gtest/gtest.h>

namespace taskwal::dag {
namespace {

const std::string kEuro = "\xe2\x82\xac";
const std::string kReplacement = "\xef\xbf\xbd";

TEST(Text, CutsBetweenCharacters) {
  EXPECT_EQ(CutAtCharacter("abc", 3), "abc");
  EXPECT_EQ(CutAtCharacter("abc", 2), "ab");
  EXPECT_EQ(CutAtCharacter("a" + kEuro, 3), "a");
  EXPECT_EQ(CutAtCharacter("a" + kEuro + "b", 4), "a" + kEuro);
  EXPECT_EQ(CutAtCharacter(kEuro, 0), "");
}

TEST(Text, KeepsTheLastWholeCharacters) {
  EXPECT_EQ(LastCharacters("abc", 3), "abc");
  EXPECT_EQ(LastCharacters("abc", 2), "bc");
  EXPECT_EQ(LastCharacters(kEuro + "b", 3), "b");
  EXPECT_EQ(LastCharacters("a" + kEuro, 3), kEuro);
}

TEST(Text, KeepsBytesThatAreNoCharactersAtAll) {
  EXPECT_EQ(LastCharacters(std::string(10, '\x80'), 8).size(), 5u);
}

TEST(Text, ReplacesWhatIsNoUtf8AndDropsNul) {
  EXPECT_EQ(CleanText("plain " + kEuro), "plain " + kEuro);
  EXPECT_EQ(CleanText("a\xff" "b"), "a" + kReplacement + "b");
  EXPECT_EQ(CleanText(std::string("a\0b", 3)), "ab");
  EXPECT_EQ(CleanText(kEuro.substr(0, 2)), kReplacement + kReplacement);
  EXPECT_EQ(CleanText(kEuro.substr(0, 2) + "x" + kEuro), kReplacement + kReplacement + "x" + kEuro);
}

TEST(Text, WritesHexadecimalWithLeadingZeros) { EXPECT_EQ(Hex16(0xabc), "0000000000000abc"); }

}  // namespace
}  // namespace taskwal::dag

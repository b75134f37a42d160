#include <gtest/gtest.h>

#include "cli/command.h"

namespace taskwal::cli {
namespace {

TEST(Table, AlignsNumbersRightAndTextLeft) {
  Table table({"name", "count"});
  table.AddRow({"a", "1,000"});
  table.AddRow({"longer", "7"});
  EXPECT_EQ(table.ToString(),
            "name    count\n"
            "a       1,000\n"
            "longer      7\n");
}

TEST(Table, MeasuresCharactersNotBytes) {
  Table table({"tâche", "x"});
  table.AddRow({"é", "y"});
  EXPECT_EQ(table.ToString(), "tâche  x\né      y\n");
}

TEST(Table, FillsMissingCellsAndIgnoresSurplus) {
  Table table({"a", "b"});
  table.AddRow({"x"});
  table.AddRow({"y", "z", "surplus"});
  EXPECT_EQ(table.ToString(), "a  b\nx\ny  z\n");
}

TEST(Cell, BreaksNoLineAndIsCutBetweenCharacters) {
  EXPECT_EQ(Cell("a\nb\x1b[2Jc\x7f"), "a b [2Jc ");
  EXPECT_EQ(Cell(std::string(60, 'x')), std::string(60, 'x'));
  EXPECT_EQ(Cell(std::string(61, 'x')), std::string(60, 'x') + "…");
  EXPECT_EQ(Cell(std::string(59, 'x') + "éé"), std::string(59, 'x') + "…");
}

TEST(FormatBytes, UsesTheUnitThatReadsBest) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(1536 * 1024), "1.5 MiB");
  EXPECT_EQ(FormatBytes((1ull << 20) - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16.0 EiB");
}

TEST(FormatCount, GroupsThousands) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
}

TEST(ExitCode, TheGravestWins) {
  EXPECT_EQ(GraverExit(kExitDone, kExitSomeRejected), kExitSomeRejected);
  EXPECT_EQ(GraverExit(kExitSomeRejected, kExitNotDrained), kExitNotDrained);
  EXPECT_EQ(GraverExit(kExitNotDrained, kExitDamage), kExitDamage);
  EXPECT_EQ(GraverExit(kExitFailed, kExitDamage), kExitFailed);
  EXPECT_EQ(GraverExit(kExitFailed, kExitUsage), kExitUsage);
  EXPECT_EQ(GraverExit(kExitDone, kExitDone), kExitDone);
}

}  // namespace
}  // namespace taskwal::cli

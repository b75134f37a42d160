#include "base/shell_text.h"

#include <gtest/gtest.h>

#include "tests/support/subprocess.h"

namespace taskwal {
namespace {

TEST(ShellText, PlainWordsStayAsTheyAre) {
  EXPECT_EQ(ShellQuote("/var/lib/a-b_c.wal"), "/var/lib/a-b_c.wal");
  EXPECT_EQ(ShellQuote("sqlite:///x/t.db"), "sqlite:///x/t.db");
}

TEST(ShellText, AShellReadsBackWhatWasQuoted) {
  for (const std::string word : {"", "a b", "it's", "''", "$HOME", "`id`", "a;b", "~", "*", "a\nb",
                                 "\\", "#", "(x|y)", "postgresql://u@h/db?a=1&b=2",
                                 "gr\xc3\xb6\xc3\x9f"
                                 "e"}) {
    const auto run = taskwal::Run({"/bin/sh", "-c", "printf %s " + ShellQuote(word)});
    EXPECT_EQ(run.out, word) << ShellQuote(word) << run.err;
  }
}

}  // namespace
}  // namespace taskwal

#include "base/file_system.h"

#include <set>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

constexpr const char* kPath = "/d/STATE";
const std::string kOld = "the old content";
const std::string kNew(3000, 'n');

// A directory that holds the old content, all of it on disk.
class WriteFileAtomicallyTest : public ::testing::Test {
 protected:
  static std::unique_ptr<SimulatedFileSystem> Prepare(std::uint64_t seed) {
    auto fs = std::make_unique<SimulatedFileSystem>(seed);
    EXPECT_OK(fs->MakeDirectories("/d"));
    EXPECT_OK(WriteFileAtomically(*fs, kPath, kOld));
    return fs;
  }
};

TEST_F(WriteFileAtomicallyTest, LeavesTheOldContentOrTheNewWhicheverCallFails) {
  bool ended = false;
  for (std::uint64_t n = 1; !ended; ++n) {
    for (const bool sticky : {false, true}) {
      const auto fs = Prepare(n);
      fs->FailNth(n, {.sticky = sticky});
      const Status written = WriteFileAtomically(*fs, kPath, kNew);
      ended = written.ok();
      const std::string content = fs->Content(kPath);
      EXPECT_TRUE(content == kOld || content == kNew) << n;
      EXPECT_TRUE(!ended || content == kNew) << n;
      EXPECT_TRUE(ended || sticky || !fs->Exists("/d/STATE.tmp")) << n;
    }
    ASSERT_LT(n, 100u);
  }
}

TEST_F(WriteFileAtomicallyTest, LeavesTheOldContentOrTheNewWhereverThePowerGoes) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const auto fs = Prepare(seed);
    Random random(seed);
    fs->CrashAfter(1 + random.Below(8));
    const Status written = WriteFileAtomically(*fs, kPath, kNew);
    fs->PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(*fs, kPath));
    ASSERT_TRUE(content == kOld || content == kNew) << seed;
    EXPECT_TRUE(!written.ok() || content == kNew) << seed;
    seen.insert(content);
    // What the crash left behind is no obstacle.
    ASSERT_OK(WriteFileAtomically(*fs, kPath, "third"));
    EXPECT_EQ(ReadFile(*fs, kPath).value(), "third");
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST(ReadFile, PassesEveryFailureOn) {
  SimulatedFileSystem fs;
  EXPECT_THAT(ReadFile(fs, "/none"), StatusIs(StatusCode::kNotFound));
  ASSERT_OK(WriteFileAtomically(fs, "/file", "text"));
  for (std::uint64_t n = 1; n <= 3; ++n) {
    fs.FailNth(n, {});
    EXPECT_THAT(ReadFile(fs, "/file"), StatusIs(StatusCode::kIoError)) << n;
    fs.ClearFaults();
  }
  EXPECT_EQ(ReadFile(fs, "/file").value(), "text");
}

}  // namespace
}  // namespace taskwal

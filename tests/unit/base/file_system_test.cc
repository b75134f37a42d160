#include "base/file_system.h"

#include <set>

#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

constexpr const char* kPath = "/d/STATE";
constexpr const char* kRoom = "/d/RESERVE";
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

// On a disk without a byte left, again and again: two files are all it takes.
TEST_F(WriteFileAtomicallyTest, InPlaceOfAnotherFileItNeedsNoRoom) {
  const auto fs = Prepare(1);
  ASSERT_OK(WriteFileAtomically(*fs, kRoom, std::string(9000, '0')));
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK_AND_ASSIGN(const DiskSpace space, fs->Space("/d"));
    fs->SetCapacity(space.total - space.available);
    const std::string content(static_cast<std::size_t>(100 + 10 * i), 'n');
    ASSERT_THAT(WriteFileAtomically(*fs, kPath, content), StatusIs(StatusCode::kUnavailable));
    ASSERT_OK(WriteFileInPlaceOf(*fs, kRoom, kPath, content)) << i;
    EXPECT_EQ(fs->Content(kPath), content);
  }
  EXPECT_THAT(WriteFileInPlaceOf(*fs, "/d/none", kPath, "x"), StatusIs(StatusCode::kNotFound));
}

TEST_F(WriteFileAtomicallyTest, InPlaceOfAnotherFileItKeepsWhatItDoesNotNeed) {
  const auto fs = Prepare(1);
  ASSERT_OK(WriteFileAtomically(*fs, kRoom, std::string(40'000, '0')));
  ASSERT_OK_AND_ASSIGN(const DiskSpace space, fs->Space("/d"));
  fs->SetCapacity(space.total - space.available);
  ASSERT_OK(WriteFileInPlaceOf(*fs, kRoom, kPath, kNew));
  const std::string larger(8000, 'l');
  // It is not there yet: the room takes its name.
  ASSERT_OK(WriteFileInPlaceOf(*fs, kRoom, "/d/other", larger));
  ASSERT_OK(WriteFileInPlaceOf(*fs, kRoom, kPath, larger));
  EXPECT_EQ(fs->Content("/d/other"), larger);
  EXPECT_EQ(fs->Content(kPath), larger);
}

TEST_F(WriteFileAtomicallyTest, InPlaceOfAnotherFileItLeavesTheOldContentOrTheNew) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    const auto fs = Prepare(seed);
    ASSERT_OK(WriteFileAtomically(*fs, kRoom, std::string(9000, '0')));
    Random random(seed);
    if (seed % 2 == 0) {
      fs->CrashAfter(1 + random.Below(24));
    } else {
      fs->FailNth(1 + random.Below(24), {});
    }
    std::string before = kOld;
    std::string last = kOld;
    for (const std::string content : {"second, and longer", "third"}) {
      before = last;
      last = content;
      if (!WriteFileInPlaceOf(*fs, kRoom, kPath, content).ok()) break;
      before = content;
    }
    fs->ClearFaults();
    fs->PowerLoss(random);
    ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(*fs, kPath));
    ASSERT_TRUE(content == before || content == last) << seed << ": " << content;
    seen.insert(content);
  }
  EXPECT_EQ(seen.size(), 3u);
}

// Neither is there where a file system cannot swap names.
TEST_F(WriteFileAtomicallyTest, WithoutASwapTheOtherFileIsUsedUp) {
  const auto fs = Prepare(1);
  ASSERT_OK(WriteFileAtomically(*fs, kRoom, "room"));
  fs->FailNth(1, {.call = SimulatedCall::kExchange});
  ASSERT_OK(WriteFileInPlaceOf(*fs, kRoom, kPath, kNew));
  EXPECT_EQ(fs->Content(kPath), kNew);
  EXPECT_FALSE(fs->Exists(kRoom));
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

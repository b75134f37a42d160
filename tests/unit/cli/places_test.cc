// Places that cannot be what the command line makes of them: refused in one line that says what to
// do, with nothing changed.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Places : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.directory = dir_.path();
    Write("w.yaml", "tasks: [{id: a, kind: noop}]");
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.File(name)) << text;
  }
  RunOutcome Tool(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), TASKWAL_TOOL);
    return taskwal::Run(arguments, {}, options_);
  }
  void ExpectRefusal(const std::vector<std::string>& arguments, int code, const std::string& what,
                     const std::string& advice) {
    SCOPED_TRACE(::testing::PrintToString(arguments));
    const RunOutcome outcome = Tool(arguments);
    EXPECT_EQ(outcome.exit.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(StartsWith("taskwal "), HasSubstr(what), HasSubstr(advice)));
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1);
  }

  TempDir dir_;
  ChildOptions options_;
};

TEST_F(Places, ADirectoryThatIsNotThere) {
  const std::string what = "cannot list nothere: No such file or directory (errno 2)";
  const std::string advice = ": name a directory that is there";
  for (const char* command : {"verify", "inspect", "dump"}) {
    ExpectRefusal({command, "nothere"}, 1, what, advice);
  }
  ExpectRefusal({"recover", "--wal", "nothere", "--db", "sqlite://t.db"}, 1, what, advice);
  EXPECT_FALSE(fs::exists(dir_.File("nothere")));
}

TEST_F(Places, ALinkToNothingIsNoLogDirectory) {
  fs::create_symlink("nowhere", dir_.File("link"));
  ExpectRefusal({"run", "w.yaml", "--wal", "link"}, 1, "cannot create directory link",
                "it is a link to nothing: make what it points to, or name another");
}

TEST_F(Places, AWorkflowThatIsNestedTooDeeply) {
  Write("deep.yaml", "tasks: " + std::string(5000, '[') + std::string(5000, ']'));
  ExpectRefusal({"run", "deep.yaml"}, 1, "deep.yaml:1: it is nested too deeply",
                ": write it on fewer levels");
}

TEST_F(Places, ADatabaseInThePlaceOfAFileOfTheLog) {
  fs::create_directory(dir_.File("w"));
  fs::create_directory_symlink("w", dir_.File("link"));
  for (const char* name : {"wal-00000002.log", "spare-00000001", "METRICS", "METRICS.tmp", "STATE",
                           "RING", "LOCK", "RESERVE", "dead-letters/t.db", "quarantine"}) {
    for (const std::string directory : {"w/", "link/", "./w/../w/"}) {
      ExpectRefusal({"run", "w.yaml", "--wal", "w", "--db", "sqlite://" + directory + name}, 64,
                    "is in the place of a file of the log", ": name another file");
    }
  }
  ExpectRefusal({"recover", "--wal", "w", "--db", "sqlite://w/METRICS"}, 64,
                "is in the place of a file of the log", ": name another file");
  EXPECT_TRUE(fs::is_empty(dir_.File("w")));
}

TEST_F(Places, ADatabaseOfAnotherNameMayStandBesideTheLog) {
  for (const char* name : {"w/tasks.db", "w/metrics", "METRICS", "wal-00000002.log"}) {
    const RunOutcome outcome =
        Tool({"run", "w.yaml", "--wal", "w", "--db", std::string("sqlite://") + name});
    EXPECT_EQ(outcome.exit.code, 0) << name << ": " << outcome.err;
    fs::remove_all(dir_.File("w"));  // another log for another database
  }
}

}  // namespace
}  // namespace taskwal::cli

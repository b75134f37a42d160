// A disk without room: calls get kOverloaded and keep nothing, what was acknowledged stays, and the
// log goes on by itself once there is room again.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "taskwal/open.h"
#include "tests/fault/log_workload.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(DiskFull, AFullSimulatedDiskStopsAppendsAndNothingElse) {
  SimulatedFileSystem fs;
  fs.SetCapacity(2u << 20);
  LogLedger ledger;
  LogWorkload workload(fs, ledger);
  EXPECT_THAT(workload.AppendUntilRefused(), StatusIs(StatusCode::kOverloaded));
  EXPECT_GT(ledger.last_acknowledged(), 10u);
  fs.SetCapacity(64u << 20);
  EXPECT_OK(workload.AppendOnceMore());
  workload.KillOpenLog();
  workload.ReopenAndCheck(Durability::kProcess);
}

TEST(DiskFull, AKillOnAFullDiskLosesNothing) {
  SimulatedFileSystem fs;
  fs.SetCapacity(2u << 20);
  LogLedger ledger;
  LogWorkload workload(fs, ledger);
  EXPECT_THAT(workload.AppendUntilRefused(), StatusIs(StatusCode::kOverloaded));
  workload.KillOpenLog();
  // Recovery has the room that the log kept back, and no more.
  workload.CheckOnly(Durability::kProcess);
}

// Into a mount namespace of its own; where that takes rights that this process has not, into a user
// namespace in which it has them, as the same user.
bool Detach() {
  const uid_t user = ::geteuid();
  const gid_t group = ::getegid();
  if (::unshare(CLONE_NEWNS) == 0) return true;
  if (errno != EPERM || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << user << " " << user << " 1";
  std::ofstream("/proc/self/gid_map") << group << " " << group << " 1";
  return true;
}

// A file system of a few MiB in a mount namespace of this process's own.
class SmallDisk {
 public:
  // Empty, or why there is none.
  std::string Mount(const std::string& path, const char* size) {
    if (!Detach()) return Reason("unshare");
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Reason("mount");
    if (::mkdir(path.c_str(), 0700) != 0) return Reason("mkdir");
    if (::mount("tmpfs", path.c_str(), "tmpfs", 0, size) != 0) return Reason("mount tmpfs");
    path_ = path;
    return {};
  }
  ~SmallDisk() {
    if (!path_.empty()) ::umount2(path_.c_str(), MNT_DETACH);
  }

 private:
  static std::string Reason(const char* call) {
    return std::string("no small disk: ") + call + ": " + std::strerror(errno);
  }
  std::string path_;
};

class SmallDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(disk_.Mount(mount_, "size=48m"), "");
    options_.wal_dir = mount_ + "/wal";
    options_.flush_interval = milliseconds(20);
    ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage("sqlite://" + database_, options_));
    ASSERT_OK(storage_->Flush(seconds(30)));  // the schema is there
  }

  Status Save(milliseconds timeout, std::size_t payload_bytes = 20'000) {
    Task task;
    task.id = "task-" + std::to_string(made_++);
    task.payload = "\"" + std::string(payload_bytes, 'x') + "\"";
    const auto ack = storage_->SaveTask(task, {Durability::kDisk, {}, timeout, {}});
    if (ack.ok()) acknowledged_.insert(task.id);
    if (ack.status().code() == StatusCode::kInDoubt) in_doubt_.insert(task.id);
    return ack.status();
  }

  Status SaveUntilRefused() {
    for (int i = 0; i < 5000; ++i) {
      Status saved = Save(milliseconds(100));
      if (!saved.ok()) return saved;
    }
    return Status::Ok();
  }

  void CheckDatabase() {
    ASSERT_OK(storage_->Close());
    SQLite::Database database(database_);
    SQLite::Statement tasks(database, "SELECT id FROM dag_tasks");
    std::set<std::string> missing = acknowledged_;
    while (tasks.executeStep()) {
      const std::string id = tasks.getColumn(0);
      EXPECT_TRUE(missing.erase(id) == 1 || in_doubt_.contains(id)) << id << " was refused";
    }
    EXPECT_TRUE(missing.empty()) << missing.size() << " acknowledged tasks are lost";
  }

  TempDir directory_;
  const std::string mount_ = directory_.File("small");
  const std::string database_ = directory_.File("tasks.db");
  SmallDisk disk_;
  Options options_;
  std::unique_ptr<TaskStorage> storage_;
  std::set<std::string> acknowledged_, in_doubt_;
  int made_ = 0;
};

TEST_F(SmallDiskTest, ServiceResumesWhenTheDatabaseTakesTheBacklog) {
  auto blocker = std::make_unique<SQLite::Database>(database_, SQLite::OPEN_READWRITE, 10'000);
  blocker->exec("BEGIN IMMEDIATE");
  EXPECT_THAT(SaveUntilRefused(), StatusIs(StatusCode::kOverloaded));
  EXPECT_GT(acknowledged_.size(), 100u);
  blocker.reset();
  EXPECT_OK(Save(seconds(60)));
  CheckDatabase();
}

TEST_F(SmallDiskTest, ServiceResumesWhenSpaceReturns) {
  auto blocker = std::make_unique<SQLite::Database>(database_, SQLite::OPEN_READWRITE, 10'000);
  blocker->exec("BEGIN IMMEDIATE");
  const std::string ballast = mount_ + "/ballast";
  // More than the log keeps free for the database (a quarter) and what it may have taken of that.
  std::ofstream(ballast) << std::string(24u << 20, 'b');
  EXPECT_THAT(SaveUntilRefused(), StatusIs(StatusCode::kOverloaded));
  ASSERT_EQ(::unlink(ballast.c_str()), 0);
  EXPECT_OK(Save(seconds(60)));
  blocker.reset();
  CheckDatabase();
}

// No record that the disk had no room for has an LSN: none is in doubt, none turns up later.
TEST_F(SmallDiskTest, RecordsLargerThanWhatIsLeftAreRefusedWithNothingKept) {
  auto blocker = std::make_unique<SQLite::Database>(database_, SQLite::OPEN_READWRITE, 10'000);
  blocker->exec("BEGIN IMMEDIATE");
  constexpr std::size_t kLarge = 12u << 20;
  Status refused;
  for (int i = 0; i < 10 && refused.ok(); ++i) refused = Save(milliseconds(2000), kLarge);
  EXPECT_THAT(refused, StatusIs(StatusCode::kOverloaded));
  EXPECT_GE(acknowledged_.size(), 1u);
  for (int i = 0; i < 20; ++i) EXPECT_OK(Save(seconds(10)));  // there is room for small ones
  blocker.reset();
  EXPECT_OK(Save(seconds(60), kLarge));
  EXPECT_TRUE(in_doubt_.empty());
  CheckDatabase();
}

// What was ended cleanly keeps its reserve, too.
TEST_F(SmallDiskTest, ABacklogIsBroughtThoughTheDiskIsFullAtOpen) {
  auto blocker = std::make_unique<SQLite::Database>(database_, SQLite::OPEN_READWRITE, 10'000);
  blocker->exec("BEGIN IMMEDIATE");
  for (int i = 0; i < 20; ++i) ASSERT_OK(Save(seconds(10)));
  EXPECT_THAT(storage_->Shutdown(ShutdownMode::kImmediate, {}),
              StatusIs(StatusCode::kUnavailable));
  storage_.reset();
  blocker.reset();
  std::ofstream ballast(mount_ + "/ballast");
  const std::string page(4096, 'b');
  while (ballast.write(page.data(), static_cast<std::streamsize>(page.size())).flush()) {
  }
  ASSERT_OK_AND_ASSIGN(storage_, OpenTaskStorage("sqlite://" + database_, options_));
  EXPECT_OK(storage_->Flush(seconds(60)));
  CheckDatabase();
}

}  // namespace
}  // namespace taskwal

// Options::io_uring reaches the files, whichever way the storage is opened.
#include <gtest/gtest.h>

#include "base/io_uring_queue.h"
#include "base/posix_file_system.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/open.h"
#include "tests/support/io_uring_probe.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

class IoUringOption : public ::testing::TestWithParam<bool> {
 protected:
  IoUringOption() {
    SetIoUringAllowed(!GetParam());
    options_.io_uring = GetParam();
    options_.wal_dir = dir_.File("wal");
  }
  ~IoUringOption() override { SetIoUringAllowed(true); }

  static void ExpectTheOptionHasEffect(TaskStorage& storage) {
    Task task;
    task.id = "t";
    WriteOptions to_disk;
    to_disk.durability = Durability::kDisk;
    ASSERT_OK(storage.SaveTask(task, to_disk));
    // Where the kernel refuses it, plain calls did that.
    EXPECT_EQ(IoUringUsable(), GetParam() && KernelTakesIoUring());
    EXPECT_EQ(OpenIoUringQueues() > 0, GetParam() && KernelTakesIoUring());
    if (GetParam()) SKIP_WITHOUT_IO_URING();
  }

  TempDir dir_;
  Options options_;
};

INSTANTIATE_TEST_SUITE_P(Set, IoUringOption, ::testing::Bool(),
                         [](const auto& set) { return set.param ? "On" : "Off"; });

TEST_P(IoUringOption, HasEffectOnAStorageThatIsOpened) {
  ASSERT_OK_AND_ASSIGN(const auto storage, OpenTaskStorage("memory:", options_));
  ExpectTheOptionHasEffect(*storage);
}

TEST_P(IoUringOption, HasEffectOnALogThatIsRecovered) {
  SwitchableDatabase database;
  pipeline::WalStorageSetup setup;
  setup.options = options_;
  setup.backend = database.Open();
  ASSERT_OK_AND_ASSIGN(const auto storage, pipeline::WalTaskStorage::Open(std::move(setup)));
  ExpectTheOptionHasEffect(*storage);
}

}  // namespace
}  // namespace taskwal

#include "base/io_uring_queue.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

#include "base/posix_file_system.h"
#include "tests/support/io_uring_probe.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using ::testing::ExitedWithCode;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// From now on this process gets `error` from the system call, as in a container that forbids it.
bool Refuse(long system_call, int error) {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(system_call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{static_cast<unsigned short>(std::size(rules)), rules};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// 0 when two writes arrive although the system call is refused; else the step that went wrong.
int WriteWithout(const std::string& path, long system_call, int error, bool usable_after) {
  FileSystem& fs = FileSystem::Real();
  const auto file = fs.OpenWritable(path, true);
  if (!file.ok() || !Refuse(system_call, error)) return 1;
  if (!(*file)->WriteAndSync(0, Bytes("hello")).ok()) return 2;
  if (IoUringUsable() != usable_after) return 3;
  if (!(*file)->WriteAndSync(5, Bytes(" world")).ok()) return 4;
  const auto content = ReadFile(fs, path);
  return content.ok() && *content == "hello world" ? 0 : 5;
}

class IoUringDeathTest : public ::testing::Test {
 protected:
  TempDir dir_;
  const std::string path_ = dir_.File("file");
};

TEST_F(IoUringDeathTest, ARefusalByTheKernelHoldsForTheProcess) {
  for (const int error : {EPERM, ENOSYS}) {
    EXPECT_EXIT(std::_Exit(WriteWithout(path_, SYS_io_uring_setup, error, false)),
                ExitedWithCode(0), "");
  }
}

TEST_F(IoUringDeathTest, AShortageIsOneFilesAlone) {
  EXPECT_EXIT(std::_Exit(WriteWithout(path_, SYS_io_uring_setup, ENOMEM, true)), ExitedWithCode(0),
              "");
}

TEST_F(IoUringDeathTest, ARequestThatIsNotTakenIsDoneByPlainCalls) {
  SKIP_WITHOUT_IO_URING();  // there is nothing to be asked for then
  EXPECT_EXIT(std::_Exit(WriteWithout(path_, SYS_io_uring_enter, EAGAIN, true)), ExitedWithCode(0),
              "");
}

TEST(IoUringQueue, WritesAndSyncs) {
  const TempDir dir;
  IoUringQueue queue;
  ASSERT_OK(FileSystem::Real().OpenWritable(dir.File("file"), true));
  const int fd = ::open(dir.File("file").c_str(), O_RDWR | O_CLOEXEC);
  const auto outcome = queue.WriteAndSync(fd, 2, Bytes("text"));
  ::close(fd);
  if (!KernelTakesIoUring()) {
    EXPECT_EQ(outcome.kind, IoUringQueue::Outcome::kUsePlainCalls);
  }
  SKIP_WITHOUT_IO_URING();
  EXPECT_EQ(outcome.kind, IoUringQueue::Outcome::kDone);
  EXPECT_EQ(ReadFile(FileSystem::Real(), dir.File("file")).value(), std::string("\0\0text", 6));
}

TEST(IoUringQueue, TellsWhichHalfFailed) {
  IoUringQueue queue;
  const int full = ::open("/dev/full", O_RDWR | O_CLOEXEC);
  const auto write = queue.WriteAndSync(full, 0, Bytes("text"));
  ::close(full);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const auto sync = queue.WriteAndSync(null, 0, Bytes("text"));
  ::close(null);
  if (!KernelTakesIoUring()) {
    EXPECT_EQ(write.kind, IoUringQueue::Outcome::kUsePlainCalls);
    EXPECT_EQ(sync.kind, IoUringQueue::Outcome::kUsePlainCalls);
  }
  SKIP_WITHOUT_IO_URING();
  EXPECT_EQ(write.kind, IoUringQueue::Outcome::kWriteFailed);
  EXPECT_EQ(write.error, ENOSPC);
  EXPECT_EQ(sync.kind, IoUringQueue::Outcome::kSyncFailed);
  EXPECT_EQ(sync.error, EINVAL);
}

}  // namespace
}  // namespace taskwal

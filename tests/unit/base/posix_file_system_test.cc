#include "base/posix_file_system.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/support/io_uring_probe.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;

FileSystem& Real() { return FileSystem::Real(); }

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

mode_t ModeOf(const std::string& path) {
  struct stat found {};
  EXPECT_EQ(::stat(path.c_str(), &found), 0);
  return found.st_mode & 0777;
}

void WriteText(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

// Runs each test with io_uring allowed and forbidden: what it does and plain calls do is the same.
class PosixFile : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) SKIP_WITHOUT_IO_URING();
    SetIoUringAllowed(GetParam());
  }
  void TearDown() override { SetIoUringAllowed(true); }

  TempDir dir_;
};

INSTANTIATE_TEST_SUITE_P(IoUring, PosixFile, ::testing::Bool(), [](const auto& instance) {
  return instance.param ? "Allowed" : "Forbidden";
});

TEST_P(PosixFile, ReadsBackWhatWasWritten) {
  const std::string path = dir_.File("file");
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(path, true));
  ASSERT_OK(file->WriteAndSync(6, Bytes("world")));
  ASSERT_OK(file->Write(0, Bytes("hello")));
  ASSERT_OK(file->Sync());
  EXPECT_EQ(ReadFile(Real(), path).value(), std::string("hello\0world", 11));
  ASSERT_OK(file->WriteAndSync(0, Bytes("HELLO")));
  ASSERT_OK(file->WriteAndSync(3, {}));
  EXPECT_EQ(ReadFile(Real(), path).value(), std::string("HELLO\0world", 11));
}

// Else the other tests would run the same way twice.
TEST_P(PosixFile, WritesAndSyncsTheWayItIsTold) {
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(dir_.File("file"), true));
  ASSERT_OK(file->WriteAndSync(0, Bytes("hello")));
  EXPECT_EQ(OpenIoUringQueues(), GetParam() ? 1 : 0);
}

TEST_P(PosixFile, WritesLargeBuffersWhole) {
  const std::string path = dir_.File("file");
  std::string text(5 << 20, 'a');
  text.back() = 'z';
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(path, true));
  ASSERT_OK(file->WriteAndSync(0, Bytes(text)));
  EXPECT_EQ(ReadFile(Real(), path).value(), text);
}

TEST_P(PosixFile, TakesWritesOfSeveralThreads) {
  const std::string path = dir_.File("file");
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(path, true));
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&file, t] {
        const std::string text(512, static_cast<char>('a' + t));
        for (std::uint64_t i = 0; i < 20; ++i) {
          EXPECT_OK(file->WriteAndSync((i * 4 + static_cast<std::uint64_t>(t)) * 512, Bytes(text)));
        }
      });
    }
  }
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(Real(), path));
  ASSERT_EQ(content.size(), 80u * 512);
  for (std::size_t i = 0; i < content.size(); ++i) {
    ASSERT_EQ(content[i], static_cast<char>('a' + i / 512 % 4)) << i;
  }
}

TEST(PosixFileLimits, NoDescriptorIsOverloaded) {
  // UBSan looks at an object of a class that it meets for the first time through a pipe.
  ASSERT_FALSE(Real().OpenReadable("/dev/null/nothing").ok());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto opened = Real().OpenReadable("/dev/null");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(opened, StatusIs(StatusCode::kOverloaded, HasSubstr("Too many open files")));
}

TEST_P(PosixFile, NoSpaceIsUnavailable) {
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable("/dev/full", false));
  const auto is_full =
      StatusIs(StatusCode::kUnavailable,
               "cannot write /dev/full at 4096: No space left on device (errno 28)");
  EXPECT_THAT(file->Write(4096, Bytes("x")), is_full);
  EXPECT_THAT(file->WriteAndSync(4096, Bytes("x")), is_full);
}

TEST_P(PosixFile, AFailedSyncIsTold) {
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable("/dev/null", false));
  const auto fails = StatusIs(StatusCode::kIoError, HasSubstr("cannot sync /dev/null: "));
  EXPECT_THAT(file->Sync(), fails);
  EXPECT_THAT(file->WriteAndSync(0, Bytes("x")), fails);
}

// While it lives no file of this process may grow beyond `bytes`: the kernel writes what fits,
// then fails.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  sighandler_t old_handler_;
  rlimit old_{};
};

TEST_P(PosixFile, GoesOnAfterAShortWrite) {
  const std::string path = dir_.File("file");
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(path, true));
  const std::string text(8192, 'x');
  const FileSizeLimit limit(10000);
  EXPECT_THAT(file->Write(8192, Bytes(text)),
              StatusIs(StatusCode::kIoError, HasSubstr("at 10000: File too large")));
  EXPECT_THAT(file->WriteAndSync(4096, Bytes(text)),
              StatusIs(StatusCode::kIoError, HasSubstr("at 10000: File too large")));
  EXPECT_EQ(std::filesystem::file_size(path), 10000u);
}

TEST_P(PosixFile, TruncatesBothWays) {
  const std::string path = dir_.File("file");
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenWritable(path, true));
  ASSERT_OK(file->WriteAndSync(0, Bytes("hello")));
  ASSERT_OK(file->Truncate(2));
  ASSERT_OK(file->Truncate(4));
  EXPECT_EQ(ReadFile(Real(), path).value(), std::string("he\0\0", 4));
  ASSERT_OK_AND_ASSIGN(const auto device, Real().OpenWritable("/dev/null", false));
  EXPECT_THAT(device->Truncate(7), StatusIs(StatusCode::kIoError, HasSubstr("cannot resize")));
}

class PosixFileSystem : public ::testing::Test {
 protected:
  TempDir dir_;
};

TEST_F(PosixFileSystem, FilesAreTheOwnersAloneAndClosedOnExec) {
  const std::string path = dir_.File("file");
  const mode_t old_mask = ::umask(0);
  ASSERT_OK_AND_ASSIGN(const auto writable, Real().OpenWritable(path, true));
  ASSERT_OK_AND_ASSIGN(const auto readable, Real().OpenReadable(path));
  ASSERT_OK_AND_ASSIGN(const auto lock, Real().Lock(dir_.File("LOCK")));
  ASSERT_OK_AND_ASSIGN(const auto ring, Real().CreateRing(dir_.File("RING"), 4096));
  ASSERT_OK(Real().MakeDirectories(dir_.File("a/b")));
  ::umask(old_mask);
  for (const char* name : {"file", "LOCK", "RING"}) EXPECT_EQ(ModeOf(dir_.File(name)), 0600u);
  for (const char* name : {"a", "a/b"}) EXPECT_EQ(ModeOf(dir_.File(name)), 0700u);

  int inspected = 0;
  for (int fd = 0; fd < 256; ++fd) {
    std::error_code none;
    const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none);
    if (!target.string().starts_with(dir_.path())) continue;
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << target;
    ++inspected;
  }
  EXPECT_EQ(inspected, 3);  // the ring's descriptor is closed once it is mapped
}

TEST_F(PosixFileSystem, WhatIsAbsentIsNotFound) {
  const std::string path = dir_.File("none");
  const auto absent = [&](std::string_view what, std::string_view advice = "") {
    return StatusIs(StatusCode::kNotFound, "cannot " + std::string(what) + " " + path +
                                               ": No such file or directory (errno 2)" +
                                               std::string(advice));
  };
  const std::string_view name_a_file = ": name a file that is there";
  EXPECT_THAT(Real().OpenWritable(path, false), absent("open", name_a_file));
  EXPECT_THAT(Real().OpenReadable(path), absent("open", name_a_file));
  EXPECT_THAT(Real().OpenRing(path), absent("open", name_a_file));
  EXPECT_THAT(Real().Remove(path), absent("remove"));
  EXPECT_THAT(Real().SyncDirectory(path),
              absent("open directory", ": name a directory that is there"));
  EXPECT_THAT(Real().List(path), absent("list", ": name a directory that is there"));
  EXPECT_THAT(Real().Stat(path), absent("stat"));
  EXPECT_THAT(Real().Space(path), absent("read space of"));
  EXPECT_THAT(ReadFile(Real(), path), absent("open", name_a_file));
  EXPECT_THAT(Real().Lock(path + "/LOCK"), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Real().CreateRing(path + "/RING", 4096), StatusIs(StatusCode::kNotFound));
  EXPECT_THAT(Real().Rename(path, path + "2"),
              StatusIs(StatusCode::kNotFound, HasSubstr("cannot rename " + path + " to ")));
}

TEST_F(PosixFileSystem, ReadsUpToTheEnd) {
  WriteText(dir_.File("file"), "0123456789");
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenReadable(dir_.File("file")));
  std::array<std::byte, 8> bytes{};
  EXPECT_EQ(file->Read(0, bytes).value(), 8u);
  EXPECT_EQ(file->Read(6, bytes).value(), 4u);
  EXPECT_EQ(bytes[0], std::byte{'6'});
  EXPECT_EQ(file->Read(10, bytes).value(), 0u);
  EXPECT_EQ(file->Read(99, bytes).value(), 0u);
  EXPECT_EQ(file->Size().value(), 10u);
}

// More than a pipe holds, and more than one part of what is read.
TEST_F(PosixFileSystem, ReadsAPipeUpToItsEnd) {
  const std::string path = dir_.File("fifo");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string text;
  while (text.size() < 300'000) text += std::to_string(text.size()) + "\n";
  const std::jthread writer([&] { WriteText(path, text); });
  ASSERT_OK_AND_ASSIGN(const std::string read, ReadFile(Real(), path));
  EXPECT_TRUE(read == text) << read.size() << " of " << text.size() << " bytes";
}

TEST_F(PosixFileSystem, ReadsFilesThatTellNoSize) {
  ASSERT_OK_AND_ASSIGN(const std::string status, ReadFile(Real(), "/proc/self/status"));
  EXPECT_THAT(status, HasSubstr("Pid:"));
  WriteText(dir_.File("empty"), "");
  ASSERT_OK_AND_ASSIGN(const std::string empty, ReadFile(Real(), dir_.File("empty")));
  EXPECT_EQ(empty, "");
  EXPECT_THAT(ReadFile(Real(), "/dev/zero"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("no end within 256 MiB")));
}

TEST_F(PosixFileSystem, ReadingADirectoryIsAnError) {
  ASSERT_OK_AND_ASSIGN(const auto file, Real().OpenReadable(dir_.path()));
  std::array<std::byte, 8> bytes{};
  EXPECT_THAT(file->Read(0, bytes), StatusIs(StatusCode::kIoError, HasSubstr("cannot read")));
}

TEST_F(PosixFileSystem, ListsByName) {
  WriteText(dir_.File("b"), "");
  WriteText(dir_.File("a"), "");
  ASSERT_OK(Real().MakeDirectories(dir_.File("c")));
  ASSERT_OK_AND_ASSIGN(const auto entries, Real().List(dir_.path()));
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[1].name, "b");
  EXPECT_FALSE(entries[1].is_directory);
  EXPECT_EQ(entries[2].name, "c");
  EXPECT_TRUE(entries[2].is_directory);
}

TEST_F(PosixFileSystem, MakesDirectoriesThatMayBeThere) {
  ASSERT_OK(Real().MakeDirectories(dir_.File("x//y/z/")));
  ASSERT_OK(Real().MakeDirectories(dir_.File("x/y/z")));
  ASSERT_OK(Real().MakeDirectories("/"));
  EXPECT_TRUE(std::filesystem::is_directory(dir_.File("x/y/z")));
  WriteText(dir_.File("file"), "");
  EXPECT_THAT(Real().MakeDirectories(dir_.File("file")),
              StatusIs(StatusCode::kIoError, HasSubstr("cannot create directory")));
  EXPECT_THAT(Real().MakeDirectories(dir_.File("file/below")), StatusIs(StatusCode::kIoError));
}

TEST_F(PosixFileSystem, MakesDirectoriesBelowTheCurrentOne) {
  const std::filesystem::path old = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  EXPECT_OK(Real().MakeDirectories("log/inner"));
  EXPECT_OK(WriteFileAtomically(Real(), "plain", "text"));
  std::filesystem::current_path(old);
  EXPECT_TRUE(std::filesystem::is_directory(dir_.File("log/inner")));
  EXPECT_EQ(ReadFile(Real(), dir_.File("plain")).value(), "text");
}

TEST_F(PosixFileSystem, RenamesAndRemoves) {
  WriteText(dir_.File("a"), "new");
  WriteText(dir_.File("b"), "old");
  ASSERT_OK(Real().Rename(dir_.File("a"), dir_.File("b")));
  ASSERT_OK(Real().SyncDirectory(dir_.path()));
  EXPECT_EQ(ReadFile(Real(), dir_.File("b")).value(), "new");
  ASSERT_OK(Real().Remove(dir_.File("b")));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(PosixFileSystem, StatTellsFilesApart) {
  const auto start = std::chrono::system_clock::now();
  WriteText(dir_.File("a"), "12345");
  WriteText(dir_.File("b"), "");
  ASSERT_OK_AND_ASSIGN(const FileStat a, Real().Stat(dir_.File("a")));
  ASSERT_OK_AND_ASSIGN(const FileStat b, Real().Stat(dir_.File("b")));
  EXPECT_EQ(a.size, 5u);
  EXPECT_NE(a.inode, b.inode);
  EXPECT_LT(std::chrono::abs(a.modified - start), std::chrono::minutes(1));
  if (a.born != 0) {
    const Time born{std::chrono::microseconds(a.born / 1000)};
    EXPECT_LT(std::chrono::abs(born - start), std::chrono::minutes(1));
  }
  EXPECT_EQ(Real().Stat(dir_.File("a")).value().born, a.born);
}

TEST_F(PosixFileSystem, KnowsItsSpace) {
  ASSERT_OK_AND_ASSIGN(const DiskSpace space, Real().Space(dir_.path()));
  const auto expected = std::filesystem::space(dir_.path());
  EXPECT_EQ(space.total, expected.capacity);
  EXPECT_LE(space.available, space.total);
}

TEST_F(PosixFileSystem, BootIdIsTheKernels) {
  ASSERT_OK_AND_ASSIGN(const Uuid id, Real().BootId());
  std::string text;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> text;
  EXPECT_EQ(id.ToString(), text);
}

TEST_F(PosixFileSystem, RefusesASecondLockAndNamesTheHolder) {
  const std::string path = dir_.File("LOCK");
  WriteText(path, "1234567890\n");  // of an earlier, longer process id
  const auto before = Real().Stat(path).value();
  auto lock = Real().Lock(path);
  ASSERT_OK(lock);
  EXPECT_THAT(Real().Lock(path),
              StatusIs(StatusCode::kUnavailable,
                       path + " is in use by process " + std::to_string(::getpid())));
  *lock = nullptr;
  EXPECT_OK(Real().Lock(path));
  EXPECT_EQ(Real().Stat(path).value().inode, before.inode);
}

TEST_F(PosixFileSystem, LockEndsWithTheProcessThatHoldsIt) {
  const std::string path = dir_.File("LOCK");
  // exec, so that no shell is left that would hold the lock without being killed.
  auto holder = Child::Start(
      {"perl", "-e", "open(F, '>>', $ARGV[0]); flock(F, 2); $| = 1; print qq(held\\n); <STDIN>;",
       path});
  ASSERT_OK(holder);
  ASSERT_EQ((*holder)->ReadLine(), "held") << (*holder)->errors();
  EXPECT_THAT(Real().Lock(path),
              StatusIs(StatusCode::kUnavailable, path + " is in use by another process"));
  (*holder)->Kill();
  (*holder)->Wait();
  EXPECT_OK(Real().Lock(path));
}

TEST_F(PosixFileSystem, WritesFilesAtomically) {
  const std::string path = dir_.File("STATE");
  WriteText(path + ".tmp", "a longer leftover of an earlier crash");
  ASSERT_OK(WriteFileAtomically(Real(), path, "one"));
  EXPECT_EQ(ReadFile(Real(), path).value(), "one");
  ASSERT_OK(WriteFileAtomically(Real(), path, ""));
  EXPECT_EQ(ReadFile(Real(), path).value(), "");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_F(PosixFileSystem, AFailedAtomicWriteLeavesTheOldFileAlone) {
  const std::string path = dir_.File("STATE");
  ASSERT_OK(Real().MakeDirectories(path + "/below"));  // a file cannot be renamed onto it
  EXPECT_THAT(WriteFileAtomically(Real(), path, "new"), StatusIs(StatusCode::kIoError));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
  EXPECT_TRUE(std::filesystem::exists(path + "/below"));
}

class PosixRing : public PosixFileSystem {
 protected:
  static constexpr std::uint64_t kBytes = 16384;
  const std::string path_ = dir_.File("RING");
};

TEST_F(PosixRing, IsMappedTwiceInARow) {
  ASSERT_OK_AND_ASSIGN(const auto ring, Real().CreateRing(path_, kBytes));
  EXPECT_EQ(ring->ring_bytes(), kBytes);
  EXPECT_EQ(ring->header().size(), 4096u);
  for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{4095}, kBytes - 1}) {
    EXPECT_EQ(ring->ring()[at], std::byte{0});
    ring->ring()[at] = std::byte{7};
    EXPECT_EQ(ring->ring()[at + kBytes], std::byte{7});
    ring->ring()[at + kBytes] = std::byte{9};
    EXPECT_EQ(ring->ring()[at], std::byte{9});
  }
  EXPECT_EQ(ring->header()[0], std::byte{0});
}

TEST_F(PosixRing, HoldsItsContentAfterItIsClosed) {
  {
    ASSERT_OK_AND_ASSIGN(const auto ring, Real().CreateRing(path_, kBytes));
    ring->header()[1] = std::byte{1};
    ring->ring()[kBytes + 2] = std::byte{2};
  }
  ASSERT_OK_AND_ASSIGN(const auto ring, Real().OpenRing(path_));
  EXPECT_EQ(ring->ring_bytes(), kBytes);
  EXPECT_EQ(ring->header()[1], std::byte{1});
  EXPECT_EQ(ring->ring()[2], std::byte{2});
}

TEST_F(PosixRing, IsAllocatedForReal) {
  const auto allocated = [&] {
    struct stat found {};
    EXPECT_EQ(::stat(path_.c_str(), &found), 0);
    return static_cast<std::uint64_t>(found.st_blocks) * 512;
  };
  ASSERT_OK(Real().CreateRing(path_, kBytes));
  EXPECT_GE(allocated(), 4096 + kBytes);
}

TEST_F(PosixRing, ReadingItChangesNothing) {
  const auto look = [&] {
    struct stat found {};
    EXPECT_EQ(::stat(path_.c_str(), &found), 0);
    return std::tuple(found.st_blocks, found.st_mtim.tv_sec, found.st_mtim.tv_nsec,
                      found.st_ctim.tv_sec, found.st_ctim.tv_nsec);
  };
  ASSERT_OK(Real().CreateRing(path_, kBytes));
  const auto whole = look();
  ASSERT_OK(Real().OpenRing(path_));
  EXPECT_EQ(look(), whole);
  WriteText(path_, "ring");
  ASSERT_EQ(::truncate(path_.c_str(), 4096 + kBytes), 0);  // as a sparse copy
  const auto sparse = look();
  ASSERT_OK_AND_ASSIGN(const auto ring, Real().OpenRing(path_));
  EXPECT_EQ(ring->header()[1], std::byte{'i'});
  EXPECT_EQ(ring->ring()[kBytes * 2 - 1], std::byte{0});
  EXPECT_EQ(look(), sparse);
}

TEST_F(PosixRing, ReplacesAnOldOneAndItsLeftovers) {
  WriteText(path_, "garbage");
  WriteText(path_ + ".tmp", "a leftover");
  ASSERT_OK_AND_ASSIGN(const auto ring, Real().CreateRing(path_, kBytes));
  EXPECT_EQ(std::filesystem::file_size(path_), 4096 + kBytes);
  EXPECT_EQ(ring->header()[0], std::byte{0});
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

TEST_F(PosixRing, RefusesAWrongSize) {
  for (const std::uint64_t size : {0, 1, 4095, 4096, 4097, 4096 + 2048, 3 * 4096 + 4096}) {
    WriteText(path_, std::string(size, 'x'));
    EXPECT_THAT(Real().OpenRing(path_), StatusIs(StatusCode::kCorruption)) << size;
  }
  for (const std::uint64_t bytes : {0, 1, 2048, 4097, 3 * 4096}) {
    EXPECT_THAT(Real().CreateRing(path_, bytes), StatusIs(StatusCode::kInvalidArgument)) << bytes;
  }
}

TEST_F(PosixRing, AFullDiskIsToldOnCreation) {
  const std::string path = "/dev/shm/taskwal-ring-test-" + std::to_string(::getpid());
  EXPECT_THAT(Real().CreateRing(path, 1ull << 50),
              StatusIs(StatusCode::kUnavailable, HasSubstr("cannot allocate")));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_F(PosixRing, AFailedRenameLeavesNothingBehind) {
  ASSERT_OK(Real().MakeDirectories(path_));
  EXPECT_THAT(Real().CreateRing(path_, kBytes), StatusIs(StatusCode::kIoError));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".tmp"));
}

}  // namespace
}  // namespace taskwal

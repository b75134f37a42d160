#include "tests/kernel/loop_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/posix_file.h"
#include "base/uuid.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

// EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number, as are their flags: go down at once, the
// journal not flushed.
constexpr unsigned long kShutdown = _IOR('X', 125, std::uint32_t);
constexpr std::uint32_t kNoLogFlush = 2;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint32_t kExtentsMax = 256;
constexpr char kBootId[] = "/proc/sys/kernel/random/boot_id";

std::string Reason(const char* call) { return std::string(call) + ": " + std::strerror(errno); }

std::string TryMounts() {
  if (::geteuid() != 0) return "not root";
  if (::unshare(CLONE_NEWNS) != 0) return Reason("no mount namespace: unshare");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Reason("no private mounts: mount");
  }
  TempDir directory;
  const std::string image = directory.File("image");
  const RunOutcome made = Run({"sh", "-c", "truncate -s 2M \"$0\" && mkfs.ext2 -qF \"$0\"", image});
  if (made.exit.code != 0) return "no mkfs: " + made.err;
  const std::string at = directory.File("mnt");
  ::mkdir(at.c_str(), 0700);
  const RunOutcome mounted = Run({"mount", "-o", "loop", image, at});
  if (mounted.exit.code != 0) return "no loop device: " + mounted.err;
  ::umount(at.c_str());
  return {};
}

void MustRun(const std::vector<std::string>& command) {
  const RunOutcome outcome = Run(command);
  ASSERT_EQ(outcome.exit.code, 0) << command[0] << ": " << outcome.err << outcome.out;
}

// Where the file stands on its device, as far as it was written.
std::vector<fiemap_extent> ExtentsOf(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> buffer(sizeof(fiemap) + kExtentsMax * sizeof(fiemap_extent));
  auto* map = reinterpret_cast<fiemap*>(buffer.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_extent_count = kExtentsMax;
  // A file that has gone meanwhile has none.
  if (fd.get() < 0 || ::ioctl(fd.get(), FS_IOC_FIEMAP, map) != 0) return {};
  const auto is_elsewhere = [](const fiemap_extent& extent) {
    return (extent.fe_flags & (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_UNWRITTEN)) != 0;
  };
  std::vector<fiemap_extent> extents(map->fm_extents, map->fm_extents + map->fm_mapped_extents);
  std::erase_if(extents, is_elsewhere);
  return extents;
}

bool HoldsNothing(int image, std::uint64_t offset) {
  std::array<char, kPage> page{};
  EXPECT_EQ(::pread(image, page.data(), page.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(page.size()));
  return std::ranges::all_of(page, [](char byte) { return byte == 0; });
}

}  // namespace

const std::string& WhyNoMounts() {
  static const std::string reason = TryMounts();
  return reason;
}

bool HasProgram(const std::string& name) {
  return Run({"sh", "-c", "command -v \"$0\"", name}).exit.code == 0;
}

LoopDisk::LoopDisk(std::string directory, Kind kind, std::uint64_t bytes)
    : kind_(kind),
      bytes_(bytes),
      image_(directory + "/image"),
      mount_(std::move(directory) + "/mnt") {}

LoopDisk::~LoopDisk() {
  if (is_mounted_) ::umount2(mount_.c_str(), MNT_DETACH);
}

void LoopDisk::Make() {
  MustRun({"truncate", "-s", std::to_string(bytes_), image_});
  if (kind_ == Kind::kExt4) {
    // All of it is written now: a table made in the background would be counted with the test's
    // writes.
    MustRun({"mkfs.ext4", "-qF", "-m", "0", "-E",
             "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image_});
  } else {
    MustRun({"mkfs.xfs", "-qKf", image_});
  }
  // All its blocks are there: it never has to ask what it stands on for room.
  MustRun({"fallocate", "-l", std::to_string(bytes_), image_});
  ASSERT_EQ(::mkdir(mount_.c_str(), 0700), 0) << std::strerror(errno);
  Mount();
}

void LoopDisk::Mount() {
  MustRun({"mount", "-o", "loop", image_, mount_});
  is_mounted_ = true;
}

void LoopDisk::Unmount() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (::umount(mount_.c_str()) != 0) {
    // A process that has just been reaped may still be giving up its mappings.
    ASSERT_EQ(errno, EBUSY) << std::strerror(errno);
    ASSERT_LT(std::chrono::steady_clock::now(), end) << mount_ << " stays busy";
    std::this_thread::yield();
  }
  is_mounted_ = false;
}

void LoopDisk::CutPower() {
  {
    const UniqueFd fd(::open(mount_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::uint32_t flags = kNoLogFlush;
    ASSERT_EQ(::ioctl(fd.get(), kShutdown, &flags), 0) << std::strerror(errno);
  }
  Unmount();
  Mount();
}

void LoopDisk::Resize(std::uint64_t bytes) {
  ASSERT_EQ(::truncate(image_.c_str(), static_cast<off_t>(bytes)), 0) << std::strerror(errno);
  struct stat found {};
  ASSERT_EQ(::stat(mount_.c_str(), &found), 0) << std::strerror(errno);
  const std::string device = "/dev/loop" + std::to_string(minor(found.st_dev));
  const UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::ioctl(fd.get(), LOOP_SET_CAPACITY, 0), 0) << device << ": " << std::strerror(errno);
}

void LoopDisk::LoseUnusedBlocks(const std::string& directory, const std::string& prefix) {
  const UniqueFd mounted(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // What is on its way to the image arrives there before it is cut.
  ASSERT_EQ(::syncfs(mounted.get()), 0) << std::strerror(errno);
  const UniqueFd image(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  std::uint64_t end = bytes_;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    if (!file.path().filename().string().starts_with(prefix)) continue;
    for (const fiemap_extent& extent : ExtentsOf(file.path())) {
      const auto to = std::min<std::uint64_t>(end, extent.fe_physical + extent.fe_length);
      std::uint64_t at = (extent.fe_physical + kPage - 1) / kPage * kPage;
      while (at + kPage <= to && !HoldsNothing(image.get(), at)) at += kPage;
      if (at + kPage <= to) end = at;
    }
  }
  ASSERT_LT(end, bytes_) << "no file has room left";
  lost_.resize(bytes_ - end);
  ASSERT_EQ(::pread(image.get(), lost_.data(), lost_.size(), static_cast<off_t>(end)),
            static_cast<ssize_t>(lost_.size()));
  Resize(end);
}

void LoopDisk::Heal() {
  Resize(bytes_);
  const UniqueFd image(::open(image_.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::pwrite(image.get(), lost_.data(), lost_.size(),
                     static_cast<off_t>(bytes_ - lost_.size())),
            static_cast<ssize_t>(lost_.size()));
  Unmount();
  Mount();
}

LoopDisk::Counters LoopDisk::counters() const {
  struct stat found {};
  EXPECT_EQ(::stat(mount_.c_str(), &found), 0) << std::strerror(errno);
  std::ostringstream path;
  path << "/sys/dev/block/" << major(found.st_dev) << ":" << minor(found.st_dev) << "/stat";
  std::ifstream in(path.str());
  std::uint64_t field[17] = {};  // Documentation/block/stat.rst
  for (std::uint64_t& each : field) in >> each;
  EXPECT_TRUE(in) << path.str();
  return {field[4], field[6], field[15]};
}

void BootIdOverride::Change() {
  std::ofstream(file_) << Uuid::Make().ToString() << "\n";
  if (is_mounted_) return;
  ASSERT_EQ(::mount(file_.c_str(), kBootId, nullptr, MS_BIND, nullptr), 0) << std::strerror(errno);
  is_mounted_ = true;
}

BootIdOverride::~BootIdOverride() {
  if (is_mounted_) ::umount2(kBootId, MNT_DETACH);
}

}  // namespace taskwal

// Real file systems that can lose their power, for tests that run as root: images mounted through
// the loop device, in a mount namespace of this process's own, so that nothing is left behind
// however it ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace taskwal {

// Empty, or why this process cannot have mounts of its own: no root, no rights, no loop device.
// The first call moves the process into a mount namespace of its own; children follow it there.
const std::string& WhyNoMounts();
// Whether a program can be found and run.
bool HasProgram(const std::string& name);

class LoopDisk {
 public:
  enum class Kind : std::uint8_t { kExt4, kXfs };

  // `bytes` of image in `directory`, mounted on `directory`/mnt.
  LoopDisk(std::string directory, Kind kind, std::uint64_t bytes);
  ~LoopDisk();
  LoopDisk(const LoopDisk&) = delete;
  LoopDisk& operator=(const LoopDisk&) = delete;

  // Failures are reported to GoogleTest. Nobody may be using the disk.
  void Make();
  // What was not synced is gone, as at a power cut; then it is mounted again. The processes that
  // wrote must be dead: a sync that races with the cut may return OK (the kernel's fault).
  void CutPower();

  // The device ends in front of the first page that holds nothing yet of the files `prefix`* in
  // `directory`: what the kernel takes for a place behind fails when it is written back. Nobody may
  // be writing.
  void LoseUnusedBlocks(const std::string& directory, const std::string& prefix);
  // All that the device held is there again; mounted anew, as errors may have stopped it.
  void Heal();

  [[nodiscard]] const std::string& path() const { return mount_; }
  // Its block device's counters: since boot, of whatever was mounted through it.
  struct Counters {
    std::uint64_t writes = 0, sectors = 0, flushes = 0;
  };
  [[nodiscard]] Counters counters() const;

 private:
  void Mount();
  void Unmount();
  void Resize(std::uint64_t bytes);

  const Kind kind_;
  const std::uint64_t bytes_;
  const std::string image_;
  const std::string mount_;
  bool is_mounted_ = false;
  std::string lost_;  // what stood behind the end of the device
};

// The kernel's boot id as this process and its children see it, until the object goes.
class BootIdOverride {
 public:
  explicit BootIdOverride(std::string file) : file_(std::move(file)) {}
  ~BootIdOverride();
  BootIdOverride(const BootIdOverride&) = delete;
  BootIdOverride& operator=(const BootIdOverride&) = delete;

  void Change();  // another one, made up

 private:
  const std::string file_;
  bool is_mounted_ = false;
};

}  // namespace taskwal

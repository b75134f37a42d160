// What a simulated machine's disk and page cache hold: file content by sector and directory
// entries, each as the running processes see it (cached) and as a power cut would leave it
// (durable). No faults, no locks, no handles: that is SimulatedFileSystem. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "base/posix_file.h"
#include "base/random.h"

namespace taskwal {

// What becomes of each thing that was not synced when the power goes; else it is lost.
struct PowerLossOdds {
  double kept = 0.5;
  double garbage = 0.05;  // of a sector
};

// How often what was not synced met which end in a power cut (sectors that held the same before
// count nowhere), and what came short.
struct DiskFates {
  std::uint64_t sectors_kept = 0;
  std::uint64_t sectors_lost = 0;   // zeros, or nothing, are there
  std::uint64_t sectors_stale = 0;  // what was there before is back
  std::uint64_t sectors_garbage = 0;
  std::uint64_t names_kept = 0;  // changes of directory entries
  std::uint64_t names_lost = 0;
  std::uint64_t sizes_ahead = 0;  // files that grew by more than was kept of their content
  std::uint64_t short_writes = 0;  // failed, or the process died in them, with a part written
  std::uint64_t short_reads = 0;   // gone on with, as those of a kernel are
};

// One inode. A ring lives in a memfd, so that it can be mapped; any other content in `cached`.
class SimulatedFile {
 public:
  SimulatedFile(std::uint64_t inode_number, std::uint64_t birth_time, bool directory)
      : inode(inode_number), born(birth_time), is_directory(directory) {}

  [[nodiscard]] std::uint64_t Size() const;
  [[nodiscard]] std::vector<std::byte> Content() const;
  std::size_t ReadAt(std::uint64_t offset, std::span<std::byte> into) const;
  void WriteAt(std::uint64_t offset, std::span<const std::byte> bytes);
  void Resize(std::uint64_t size);
  // Changes cached and durable content alike, as a bad disk does.
  void FlipBits(std::uint64_t offset, std::uint8_t mask);
  void ResizeDurably(std::uint64_t size);

  void Sync();
  // Each dirty sector reaches the disk or not, and counts as clean: what Linux does.
  void FailSync(Random& random);
  // A memory mapping that belongs to a dead process no longer changes the content.
  void DetachRing();
  void LosePower(Random& random, const PowerLossOdds& odds, DiskFates* fates);

  [[nodiscard]] bool is_ring() const { return memory.get() >= 0; }
  void BecomeRing();

  const std::uint64_t inode;
  const std::uint64_t born;
  const bool is_directory;
  Time modified{};
  std::uint64_t sync_errors = 0;
  UniqueFd memory;  // of a ring

 private:
  void MarkDirty(std::uint64_t from, std::uint64_t to);
  void LosePowerOfRing(Random& random, const PowerLossOdds& odds, DiskFates* fates);

  std::vector<std::byte> cached_;  // empty for a ring
  std::vector<std::byte> durable_;
  std::set<std::uint64_t> dirty_;  // sector numbers
};

class SimulatedDisk {
 public:
  using File = std::shared_ptr<SimulatedFile>;  // shared by names and open handles, as an inode is

  // "/a//b/./c/" as "/a/b/c".
  static std::string Normal(const std::string& path);
  static std::string ParentOf(const std::string& path);

  [[nodiscard]] File Find(const std::string& path) const;  // null when absent
  [[nodiscard]] bool IsDirectory(const std::string& path) const;
  [[nodiscard]] std::vector<DirectoryEntry> List(const std::string& directory) const;
  [[nodiscard]] std::uint64_t UsedBytes() const;
  [[nodiscard]] const std::map<std::string, File>& names() const { return cached_; }

  File Create(const std::string& path);
  void MakeDirectory(const std::string& path);  // durable at once
  void Rename(const std::string& from, const std::string& to);
  void Exchange(const std::string& a, const std::string& b);
  void Remove(const std::string& path);
  // Everything under `from` again under `to`: new inodes, synced.
  void CopyTree(const std::string& from, const std::string& to);
  // Everything under `path`, synced, and with it all that was not synced yet.
  void RemoveTree(const std::string& path);

  void SyncDirectory(const std::string& path);
  void DetachRings();
  // Adds to `fates`.
  void LosePower(Random& random, const PowerLossOdds& odds, DiskFates* fates);

 private:
  // One atomic step of the name space: what each path names from then on; null for nothing.
  using Change = std::map<std::string, File>;

  File MakeFile(bool is_directory);
  void Do(Change change);
  static void Apply(const Change& change, std::map<std::string, File>* names);

  std::map<std::string, File> cached_;
  std::map<std::string, File> durable_;
  std::vector<Change> unsynced_;  // oldest first; they lead from durable_ to cached_
  std::uint64_t next_inode_ = 1;
};

}  // namespace taskwal

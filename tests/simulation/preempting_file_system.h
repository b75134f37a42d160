// The simulated disk as the threads of a simulated process meet it: each call is one step, before
// and behind which others may go on; some are slow, some hang; and the call in which the process
// dies never returns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file_system.h"
#include "tests/simulation/coverage.h"
#include "tests/simulation/simulated_threads.h"
#include "tests/support/simulated_file_system.h"

namespace taskwal {

class PreemptingFileSystem final : public FileSystem {
 public:
  struct Odds {
    std::uint64_t slow_one_in = 16;  // calls that take milliseconds
    std::uint64_t hung_one_in = 0;   // calls that take seconds; 0: none
  };

  PreemptingFileSystem(SimulatedFileSystem& disk, std::uint64_t seed, Coverage& coverage)
      : disk_(disk), random_(seed), for_reads_(~seed), coverage_(coverage) {}
  void SetOdds(const Odds& odds) { odds_ = odds; }
  void Reseed(std::uint64_t seed) {
    random_ = Random(seed);
    for_reads_ = Random(~seed);
    has_failed_reads_ = false;
  }

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override;
  Result<std::unique_ptr<ReadableFile>> OpenReadable(const std::string& path) override;
  Result<std::unique_ptr<RingFile>> CreateRing(const std::string& path,
                                               std::uint64_t ring_bytes) override;
  Result<std::unique_ptr<RingFile>> OpenRing(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Exchange(const std::string& a, const std::string& b) override;
  Status Remove(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  Status MakeDirectories(const std::string& path) override;
  Result<std::vector<DirectoryEntry>> List(const std::string& path) override;
  Result<FileStat> Stat(const std::string& path) override;
  Result<DiskSpace> Space(const std::string& path) override;
  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override;
  Result<Uuid> BootId() override;

 private:
  class Writable;
  class Readable;

  template <typename Call>
  auto Do(Seen failure, Call&& call) -> decltype(call());
  void TakeTime();
  void Note(Seen failure, const Status& status);
  void Follow(Seen failure, const Status& status);
  void FailReads(const Status& synced);

  SimulatedFileSystem& disk_;
  Random random_;
  Random for_reads_;  // behind a failed sync
  bool has_failed_reads_ = false;
  Coverage& coverage_;
  Odds odds_;
};

}  // namespace taskwal

#include "cli/settled_records.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "base/file_system.h"
#include "base/status_macros.h"
#include "storage/backend.h"
#include "wal/state_file.h"
#include "wal/tail_reader.h"

namespace taskwal::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kDatabaseBytesMax = 1u << 30;

// A directory that goes with its object.
class Scratch {
 public:
  Scratch() : path_((fs::temp_directory_path() / "taskwal-XXXXXX").string()) {
    is_made_ = ::mkdtemp(path_.data()) != nullptr;
  }
  ~Scratch() {
    std::error_code ignored;
    if (is_made_) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  [[nodiscard]] bool is_made() const { return is_made_; }
  [[nodiscard]] std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
  bool is_made_ = false;
};

// The watermarks that the database has for this log; empty where it cannot be asked.
std::vector<wal::Lsn> AskCopy(const std::string& path, const Uuid& wal_id) {
  std::error_code failed;
  const auto size = fs::file_size(path, failed);
  if (failed || size > kDatabaseBytesMax) return {};
  const Scratch scratch;
  if (!scratch.is_made()) return {};
  const std::string copy = scratch.File("copy.db");
  fs::copy_file(path, copy, failed);
  if (failed) return {};
  // What was committed and not checkpointed stands in the -wal file.
  if (fs::exists(path + "-wal", failed)) fs::copy_file(path + "-wal", copy + "-wal", failed);
  if (failed) return {};
  const auto backend = storage::MakeBackend("sqlite://" + copy, {});
  if (!backend.ok()) return {};
  const auto session = (*backend)->Connect();
  if (!session.ok()) return {};
  const auto row = (*session)->ReadLog(wal_id);
  return row.ok() ? row->watermarks : std::vector<wal::Lsn>();
}

}  // namespace

Result<std::uint64_t> CountSettledRecords(const std::string& directory,
                                          const recovery::ScanReport& scan,
                                          const storage::Dsn& database) {
  const auto state = wal::ReadState(FileSystem::Real(), directory);
  if (!state.ok()) return std::uint64_t{0};  // the scan says what is wrong with it
  std::vector<wal::Lsn> watermarks;
  wal::Lsn confirmed = 0;
  // What `memory:` had went with its process.
  if (database.kind != storage::Dsn::Kind::kMemory) confirmed = state->flushed_lsn;
  if (database.kind == storage::Dsn::Kind::kSqlite) {
    watermarks = AskCopy(database.path, state->wal_id);
  }
  watermarks.resize(state->partitions, 0);
  std::uint64_t settled = 0;
  wal::TailReader reader(FileSystem::Real(),
                         {directory, IdentitiesOf(*state), state->first_lsn, state->lost},
                         scan.lsns.from);
  wal::Frame frame;
  for (;;) {
    TASKWAL_ASSIGN(const wal::TailEvent event, reader.Next(scan.lsns.to, &frame));
    if (event.kind == wal::TailEvent::Kind::kEnd) return settled;
    if (event.kind == wal::TailEvent::Kind::kLoss) continue;
    wal::FrameRecords records(frame.header, frame.raw);
    for (wal::RecordView record; records.Next(&record);) {
      if (record.lsn < event.from || record.lsn > event.to) continue;
      const auto partition = wal::PartitionOf(record.header.key, state->partitions);
      if (record.lsn <= std::max(confirmed, watermarks[partition])) ++settled;
    }
  }
}

}  // namespace taskwal::cli

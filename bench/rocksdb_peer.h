// RocksDB's write-ahead log as a peer: each record one Put. Only where its package is present when
// we are built.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bench/workload.h"
#include "bench/writer.h"
#include "taskwal/status.h"

namespace taskwal::bench {

constexpr bool HasRocksDb() {
#ifdef TASKWAL_HAVE_ROCKSDB
  return true;
#else
  return false;
#endif
}

// The interface's WaitDurable has nothing to do: with `sync` Append itself returns after the sync.
// Made anew in `directory`; the memtable is large enough never to be written out.
Result<std::unique_ptr<Writer>> OpenRocksDb(const std::string& directory, bool sync);

// One thread, batches of 100 Puts, each synced.
Result<Rate> RocksDbSyncedBatches(const std::string& directory, std::chrono::milliseconds time);

// Writes `records`, closes, and times the opening that replays them: records by seconds.
Result<Rate> RocksDbReplay(const std::string& directory, std::uint64_t records);

}  // namespace taskwal::bench

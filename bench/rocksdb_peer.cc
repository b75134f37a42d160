#include "bench/rocksdb_peer.h"

#include "base/status_macros.h"

#ifdef TASKWAL_HAVE_ROCKSDB
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <filesystem>

#include "storage/operation.h"
#endif

namespace taskwal::bench {

#ifdef TASKWAL_HAVE_ROCKSDB

namespace {

constexpr std::uint64_t kBatch = 100;

rocksdb::Options DatabaseOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = 2ull << 30;
  options.max_total_wal_size = 4ull << 30;
  options.info_log_level = rocksdb::FATAL_LEVEL;
  options.disable_auto_compactions = true;
  return options;
}

Status StatusOf(const rocksdb::Status& status) {
  return status.ok() ? Status::Ok() : Status::IoError("RocksDB: " + status.ToString());
}

Result<std::unique_ptr<rocksdb::DB>> OpenDatabase(const std::string& directory) {
  rocksdb::DB* opened = nullptr;
  TASKWAL_TRY(StatusOf(rocksdb::DB::Open(DatabaseOptions(), directory, &opened)));
  return std::unique_ptr<rocksdb::DB>(opened);
}

rocksdb::Slice KeySlice(const std::uint64_t& key) {
  return {reinterpret_cast<const char*>(&key), sizeof key};
}

void Serialise(const Activity& activity, std::string* body) {
  body->resize(storage::EncodedBytes(activity, activity.id));
  storage::Encode(activity, activity.id, *activity.created_at,
                  std::as_writable_bytes(std::span(*body)));
}

class RocksDbWriter final : public Writer {
 public:
  RocksDbWriter(std::unique_ptr<rocksdb::DB> db, bool sync) : db_(std::move(db)) {
    how_.sync = sync;
  }

  std::uint64_t Append(const Activity& activity) override {
    thread_local std::string body;
    const std::uint64_t position = next_.fetch_add(1) + 1;
    Serialise(activity, &body);
    const rocksdb::Status put = db_->Put(how_, KeySlice(position), body);
    if (put.ok()) return position;
    failed_.store(true);
    return 0;
  }
  bool WaitDurable(std::uint64_t) override { return !failed_.load(); }
  Status health() const override {
    return failed_.load() ? Status::IoError("RocksDB refused a write") : Status::Ok();
  }

 private:
  const std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions how_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> failed_{false};
};

Status RemoveDatabase(const std::string& directory) {
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  return error ? Status::IoError("cannot remove " + directory + ": " + error.message())
               : Status::Ok();
}

}  // namespace

Result<std::unique_ptr<Writer>> OpenRocksDb(const std::string& directory, bool sync) {
  TASKWAL_TRY(RemoveDatabase(directory));
  TASKWAL_ASSIGN(std::unique_ptr<rocksdb::DB> db, OpenDatabase(directory));
  return std::unique_ptr<Writer>(std::make_unique<RocksDbWriter>(std::move(db), sync));
}

Result<Rate> RocksDbSyncedBatches(const std::string& directory, std::chrono::milliseconds time) {
  TASKWAL_TRY(RemoveDatabase(directory));
  TASKWAL_ASSIGN(const std::unique_ptr<rocksdb::DB> db, OpenDatabase(directory));
  rocksdb::WriteOptions how;
  how.sync = true;
  const auto activities = SampleActivities();
  std::string body;
  Rate rate;
  const Stopwatch watch;
  while (watch.seconds() < std::chrono::duration<double>(time).count()) {
    rocksdb::WriteBatch batch;
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      const std::uint64_t key = ++rate.records;
      Serialise(activities[key % activities.size()], &body);
      batch.Put(KeySlice(key), body);
    }
    TASKWAL_TRY(StatusOf(db->Write(how, &batch)));
  }
  rate.seconds = watch.seconds();
  return rate;
}

Result<Rate> RocksDbReplay(const std::string& directory, std::uint64_t records) {
  {
    TASKWAL_ASSIGN(const std::unique_ptr<Writer> writer, OpenRocksDb(directory, false));
    AppendRecords(*writer, 1, records);
    TASKWAL_TRY(writer->health());
  }
  const Stopwatch watch;
  TASKWAL_ASSIGN(const std::unique_ptr<rocksdb::DB> db, OpenDatabase(directory));
  return Rate{records, watch.seconds()};
}

#else

namespace {

Status NotBuilt() { return Status::Unavailable("built without RocksDB"); }

}  // namespace

Result<std::unique_ptr<Writer>> OpenRocksDb(const std::string&, bool) { return NotBuilt(); }
Result<Rate> RocksDbSyncedBatches(const std::string&, std::chrono::milliseconds) {
  return NotBuilt();
}
Result<Rate> RocksDbReplay(const std::string&, std::uint64_t) { return NotBuilt(); }

#endif

}  // namespace taskwal::bench

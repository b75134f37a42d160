// SQLite through SQLiteCpp: write-ahead mode, synchronous=FULL, BEGIN IMMEDIATE, one writer.
#pragma once

#include <string>

#include "base/mutex.h"
#include "storage/backend.h"

namespace taskwal::storage {

class SqliteConnection;

class SqliteBackend final : public Backend {
 public:
  // `name` is the masked DSN. A relative `path` is taken from the working directory of this moment.
  SqliteBackend(std::string name, const std::string& path, const BackendOptions& options);

  std::string_view kind() const override { return "sqlite"; }
  const std::string& name() const override { return name_; }
  std::uint32_t writers_max() const override { return 1; }
  bool is_volatile() const override { return false; }
  Result<std::unique_ptr<Session>> Connect() override;
  Uuid db_id() const override;

 private:
  const std::string name_;
  const std::string path_;
  const BackendOptions options_;

  mutable Mutex mutex_;
  Uuid db_id_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::storage

// Body of open.h: from a DSN and options to a storage that is ready.
#include "taskwal/open.h"

#include <utility>

#include "base/status_macros.h"
#include "pipeline/direct_task_storage.h"
#include "pipeline/open.h"
#include "pipeline/option_fields.h"
#include "pipeline/wal_task_storage.h"
#include "storage/backend.h"

namespace taskwal {
namespace pipeline {

Result<std::unique_ptr<TaskStorage>> OpenStorage(Options options, const std::stop_token& stop) {
  TASKWAL_TRY(CheckOptions(options));
  if (!options.wal_enabled) {
    return Status::InvalidArgument("wal_enabled is off, and several targets need the log");
  }
  WalStorageSetup setup;
  setup.stop = stop;
  TASKWAL_ASSIGN(setup.targets, MakeTargets(options.targets, {options.database_timeout}));
  setup.options = std::move(options);
  TASKWAL_ASSIGN(auto storage, WalTaskStorage::Open(std::move(setup)));
  return std::unique_ptr<TaskStorage>(std::move(storage));
}

Result<std::unique_ptr<TaskStorage>> OpenStorage(std::string_view dsn, Options options,
                                                 const std::stop_token& stop) {
  TASKWAL_TRY(CheckOptions(options));
  if (!options.targets.empty()) {
    return Status::InvalidArgument("one database is named, and Options::targets names others");
  }
  TASKWAL_ASSIGN(auto backend, storage::MakeBackend(dsn, {options.database_timeout}));
  if (!options.wal_enabled) {
    TASKWAL_ASSIGN(auto direct, DirectTaskStorage::Open(std::move(backend), Clock::Real(),
                                                        std::move(options)));
    return std::unique_ptr<TaskStorage>(std::move(direct));
  }
  WalStorageSetup setup;
  setup.stop = stop;
  setup.options = std::move(options);
  setup.backend = std::move(backend);
  TASKWAL_ASSIGN(auto storage, WalTaskStorage::Open(std::move(setup)));
  return std::unique_ptr<TaskStorage>(std::move(storage));
}

}  // namespace pipeline

Result<std::unique_ptr<TaskStorage>> OpenTaskStorage(Options options) {
  return pipeline::OpenStorage(std::move(options), {});
}

Result<std::unique_ptr<TaskStorage>> OpenTaskStorage(std::string_view dsn, Options options) {
  return pipeline::OpenStorage(dsn, std::move(options), {});
}

Result<std::unique_ptr<TaskStorage>> TaskStorageFactory::CreateMemoryStorage() const {
  return OpenTaskStorage("memory:", options_);
}

Result<std::unique_ptr<TaskStorage>> TaskStorageFactory::CreateSqlStorage(
    std::string_view dsn) const {
  if (dsn == "memory:") return Status::InvalidArgument("memory: is no SQL database");
  return OpenTaskStorage(dsn, options_);
}

}  // namespace taskwal

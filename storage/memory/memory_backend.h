// A database in memory: plain maps under one lock. The model that every other backend is compared
// with, and what `memory:` names. All sessions of one MemoryBackend see the same data, which ends
// with it.
#pragma once

#include <map>
#include <string>

#include "base/mutex.h"
#include "storage/backend.h"

namespace taskwal::storage {

class MemoryBackend final : public Backend {
 public:
  MemoryBackend();

  std::string_view kind() const override { return "memory"; }
  const std::string& name() const override { return name_; }
  std::uint32_t writers_max() const override { return 8; }
  bool is_volatile() const override { return true; }
  // The session borrows the backend, which must outlive it.
  Result<std::unique_ptr<Session>> Connect() override;
  Uuid db_id() const override { return db_id_; }

 private:
  friend class MemorySession;

  struct Log {
    LogRow row;
    std::uint64_t stamp = 0;
  };

  const std::string name_ = "memory:";
  const Uuid db_id_;

  Mutex mutex_;
  std::map<std::string, Session::StoredTask, std::less<>> tasks_ GUARDED_BY(mutex_);
  std::map<std::string, Activity, std::less<>> activities_ GUARDED_BY(mutex_);
  std::map<Uuid, Log> logs_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::storage

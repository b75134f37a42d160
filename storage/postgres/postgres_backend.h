// PostgreSQL, and what speaks its protocol, through libpqxx.
#pragma once

#include <memory>
#include <string>

#include "base/mutex.h"
#include "storage/backend.h"
#include "storage/name_lookup.h"
#include "storage/postgres/postgres_server.h"
#include "storage/postgres/postgres_target.h"

namespace taskwal::storage {

class PostgresBackend final : public Backend {
 public:
  // How fresh activities are written: as the server allows, or by arrays as if it had no COPY.
  enum class BulkPath : std::uint8_t { kAutomatic, kArrays };

  PostgresBackend(PostgresTarget target, bool create, BulkPath path = BulkPath::kAutomatic,
                  NameLookup::Lookup lookup = &LookUpBySystem);

  std::string_view kind() const override { return "postgres"; }
  const std::string& name() const override { return target_.name; }
  std::uint32_t writers_max() const override { return 64; }
  bool is_volatile() const override { return false; }
  Result<std::unique_ptr<Session>> Connect() override;
  Uuid db_id() const override;

 private:
  // Once per backend, however many sessions it opens.
  void Warn(const std::string& hazards);

  const PostgresTarget target_;
  const bool create_;
  const NameLookup names_;
  PostgresFeatures features_;

  mutable Mutex mutex_;
  Uuid db_id_ GUARDED_BY(mutex_);
  bool has_warned_ GUARDED_BY(mutex_) = false;
};

}  // namespace taskwal::storage

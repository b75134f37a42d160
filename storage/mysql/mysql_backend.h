// MySQL, MariaDB and what speaks their protocol (Galera, TiDB, Vitess), through SOCI and its native
// handle (libmariadb).
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "storage/backend.h"
#include "storage/mysql/mysql_dsn.h"
#include "storage/name_lookup.h"

namespace taskwal::storage {

class MysqlConnection;

class MysqlBackend final : public Backend {
 public:
  // How rows are written. Only for tests of what other servers get: kByCapability elsewhere.
  enum class BulkPath : std::uint8_t { kByCapability, kMultiRow };

  // `name` is the masked DSN.
  MysqlBackend(std::string name, MysqlTarget target, const BackendOptions& options,
               BulkPath path = BulkPath::kByCapability,
               NameLookup::Lookup lookup = &LookUpBySystem);

  std::string_view kind() const override { return "mysql"; }
  const std::string& name() const override { return name_; }
  std::uint32_t writers_max() const override { return 64; }
  bool is_volatile() const override { return false; }
  Result<std::unique_ptr<Session>> Connect() override;
  Uuid db_id() const override;

 private:
  // Each connection is asked, as another server may answer there than before; each finding is
  // named once.
  void WarnOfLostCommits(MysqlConnection& connection);

  const std::string name_;
  const MysqlTarget target_;
  const BackendOptions options_;
  const BulkPath path_;
  const std::vector<std::string> hosts_;
  const NameLookup names_;

  mutable Mutex mutex_;
  Uuid db_id_ GUARDED_BY(mutex_);
  std::set<std::string> warned_ GUARDED_BY(mutex_);
};

}  // namespace taskwal::storage

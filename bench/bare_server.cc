#include "bench/bare_server.h"

#include "base/status_macros.h"
#include "bench/row_cells.h"
#include "storage/dsn.h"

namespace taskwal::bench {

Result<std::unique_ptr<BareServer>> BareServer::Open(const std::string& dsn) {
  TASKWAL_ASSIGN(const storage::Dsn parsed, storage::ParseDsn(dsn));
  if (parsed.kind == storage::Dsn::Kind::kPostgres) return OpenPostgres(dsn);
  if (parsed.kind == storage::Dsn::Kind::kMysql) return OpenMysql(dsn);
  return Status::InvalidArgument("a benchmark of servers needs postgresql:// or mysql://");
}

std::string Joined(std::span<const std::string_view> names) {
  std::string joined;
  for (const std::string_view name : names) {
    if (!joined.empty()) joined += ", ";
    joined += name;
  }
  return joined;
}

}  // namespace taskwal::bench

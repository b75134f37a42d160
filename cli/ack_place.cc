#include "cli/ack_place.h"

#include <cstdlib>

#include "base/status_macros.h"
#include "cli/place.h"
#include "pipeline/targets/target_plan.h"
#include "storage/dsn.h"

namespace taskwal::cli {
namespace {

Status Refuse(const AckPlace& place, const std::string& what) {
  return Status::InvalidArgument("--acks " + place.acks + " is " + what +
                                 ": name a file of its own");
}

}  // namespace

Status CheckAckPlace(const AckPlace& place) {
  if (place.acks.empty()) return Status::Ok();
  if (IsSame(place.acks, place.workflow)) return Refuse(place, "the workflow itself");
  if (IsInside(place.acks, place.wal_dir)) return Refuse(place, "inside the log's directory");
  std::vector<std::string> names = place.given;
  if (const char* named = std::getenv("TASKWAL_DB")) names.emplace_back(named);
  for (const std::string& name : names) {
    const auto target = pipeline::ParseTarget(name);
    const bool is_file = target.ok() && target->dsn.size() > 1 && target->dsn.front() == '@';
    if (is_file && IsSame(place.acks, target->dsn.substr(1))) {
      return Refuse(place, "the file that names the database");
    }
  }
  for (const TargetOptions& target : place.targets) {
    TASKWAL_ASSIGN(const storage::Dsn dsn, storage::ParseDsn(target.dsn));
    if (dsn.kind != storage::Dsn::Kind::kSqlite) continue;
    for (const char* suffix : {"", "-wal", "-shm", "-journal"}) {
      if (IsSame(place.acks, dsn.path + suffix)) return Refuse(place, "a file of the database");
    }
  }
  return Status::Ok();
}

}  // namespace taskwal::cli

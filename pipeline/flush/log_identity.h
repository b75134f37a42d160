// Who the log is to a database, as settled at contact; fixed until the next contact.
#pragma once

#include <cstdint>
#include <vector>

#include "base/uuid.h"
#include "wal/record.h"
#include "wal/state_file.h"

namespace taskwal::pipeline {

struct LogIdentity {
  Uuid wal_id;
  std::uint64_t epoch = 0;
  Uuid db_id;
  std::vector<wal::FormerIdentity> former;  // by last_lsn
  // Up to here rows may be in the database already: it went back, and batches are brought again.
  wal::Lsn replayed_until = 0;

  // Under which a record's dead letter is kept: that of the log when it was appended, so that a
  // letter stays final when the directory takes another identity.
  [[nodiscard]] const Uuid& OwnerOf(wal::Lsn lsn) const {
    for (const wal::FormerIdentity& id : former) {
      if (lsn <= id.last_lsn) return id.wal_id;
    }
    return wal_id;
  }
};

}  // namespace taskwal::pipeline

// The operator's words about a directory and a database that do not go together, and which of them
// fit. A refusal offers, and `taskwal adopt` takes, what is said here and nothing else. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.h"
#include "storage/backend.h"
#include "wal/state_file.h"

namespace taskwal::pipeline {

enum class Adoption : std::uint8_t {
  kMoved,    // this is the original, at another place: it goes on as before
  kRelabel,  // a copy: what it appended since goes into the database under a new wal_id; what it
             // held before is the original's to bring
  kNewDatabase,  // feed this database from the oldest retained record on
};

// What a directory and a database are to each other.
struct Relation {
  bool is_known = false;       // the database has the directory's wal_id
  bool is_another = false;     // the directory has fed another database last
  bool is_behind = false;      // the database has LSNs that this directory never had
  bool is_taken_over = false;  // another opener has gone on under this wal_id
  bool is_copied = false;      // the directory does not know itself
  bool lived_on = false;       // of a copy: the original has brought more since

  // Another directory goes, or may go, by this wal_id in this database.
  [[nodiscard]] bool is_shared() const { return is_copied || is_taken_over; }
};
// `row`: what the database knows of state.wal_id; `end_lsn`: the log's last record.
Relation RelationOf(const wal::LogState& state, const storage::LogRow& row, const Uuid& db_id,
                    wal::Lsn end_lsn);

[[nodiscard]] bool Fits(Adoption word, const Relation& relation);

// "`taskwal adopt --wal w --db d --moved` (…) or `taskwal adopt …` (…)": commands to be pasted, for
// the words that fit.
std::string AdoptCommands(const Relation& relation, std::string_view directory,
                          std::string_view database);
// The same for several databases, each as `--db` takes it.
std::string AdoptCommands(const Relation& relation, std::string_view directory,
                          std::span<const std::string> databases);

}  // namespace taskwal::pipeline

// libpqxx's exceptions and SQLSTATEs -> Status: the one place that decides what a failure of
// PostgreSQL means.
#pragma once

#include <string>
#include <string_view>

#include "taskwal/status.h"

namespace taskwal::storage {

// kRejected for what is wrong with a row for good: classes 22 (data) and 23 (constraints), rows
// beyond the server's limits (54000, 54001) and what a trigger refuses (P0001). Everything else,
// unknown states included, is the database's trouble: kUnavailable.
StatusCode PostgresStatusCode(std::string_view sqlstate);

// The same for the answer to COMMIT, where only a known rollback is an answer: else kInDoubt.
StatusCode PostgresCommitCode(std::string_view sqlstate);

// What a call was doing when it failed.
struct PostgresCall {
  std::string_view database{};    // its masked name
  std::string_view what{};        // "write a batch"
  bool is_committing = false;     // COMMIT was sent, or may have been
  bool is_lost = false;           // the connection is no longer open
  bool has_timed_out = false;     // the watchdog closed it
};

// The exception being handled as a Status, such as
// "postgresql://…: write a batch: deadlock detected (SQLSTATE 40P01)"; call it inside a catch
// block. Of the server's message only the first line: what follows may quote the row.
Status PostgresCaught(const PostgresCall& call);

// Whether the exception being handled says that the server rolled the transaction back for another
// one's sake: serialization failure (40001), deadlock (40P01).
bool PostgresGaveWay();

// Whether the exception being handled says that the role lacks a right, ownership for one (42501).
bool PostgresLacksRight();

// Whether the exception being handled means that the connection cannot be used any more.
bool PostgresConnectionLost();

}  // namespace taskwal::storage

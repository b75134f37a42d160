// Operations of one batch composed to rows: one change per task and turn, whose result equals
// applying the operations one by one. Activities never coalesce. Pure functions.
//
//               save      update_status   delete        (by row: what came before in this batch)
//   nothing     put       patch           delete
//   put         put       put, edited     delete
//   patch       put       patch           delete
//   delete      replace   delete          delete
//   replace     replace   replace, edited delete
//
// created_at has a rank of its own (storage/created_rank.h), that of the save which it comes from:
// the one that would stand if the saves came one by one. Behind a delete the row is made anew.
//
// What must not reopen a task that has ended (protects_terminal) depends on the row, which nobody
// knows here: such operations compose among themselves, and where they meet others the next turn
// begins. Without them there is but one turn.
#pragma once

#include <cstdint>
#include <vector>

#include "base/uuid.h"
#include "storage/backend.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

struct ComposedRows {
  std::vector<storage::Batch::DagDelete> dag_deletes;
  std::vector<storage::TaskChange> tasks;               // sorted by turn and id, each once
  std::vector<storage::Batch::ActivityRow> activities;  // sorted by id, each id once
  std::uint64_t duplicates = 0;                         // activities whose id came before: left out
};

// `operations` of the log `wal_id` in LSN order; consumed.
ComposedRows Compose(std::vector<storage::Operation> operations, const Uuid& wal_id);

}  // namespace taskwal::pipeline

// Operations of one batch composed to rows: at most one change per task, whose result equals
// applying the operations one by one. Activities never coalesce. Pure functions.
//
//               save      update_status   delete        (by row: what came before in this batch)
//   nothing     put       patch           delete
//   put         put       put, edited     delete
//   patch       put       patch           delete
//   delete      replace   delete          delete
//   replace     replace   replace, edited delete
#pragma once

#include <cstdint>
#include <vector>

#include "storage/backend.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

struct ComposedRows {
  std::vector<storage::Batch::DagDelete> dag_deletes;
  std::vector<storage::TaskChange> tasks;               // sorted by id, each id once
  std::vector<storage::Batch::ActivityRow> activities;  // sorted by id, each id once
  std::uint64_t duplicates = 0;                         // activities whose id came before: left out
};

// `operations` in LSN order; consumed.
ComposedRows Compose(std::vector<storage::Operation> operations);

}  // namespace taskwal::pipeline

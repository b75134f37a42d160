// Dead letters of running storage: records that a database refused for good, kept with the reason,
// and what an operator may do about them. TaskStorage::GetDeadLetters() gives it; any thread may
// call it. `taskwal dlq` is the same from outside.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "taskwal/status.h"
#include "taskwal/task.h"

namespace taskwal {

struct DeadLetterInfo {
  std::string id;              // stays over retries
  std::string wal_id;          // of the log then
  bool is_loss = false;        // no record: LSNs that damage took away
  std::uint64_t from_lsn = 0;  // as first appended; of a loss its range
  std::uint64_t to_lsn = 0;
  std::string type;            // "task_update", … as `taskwal dump` has it; empty for a loss
  std::string task_id;
  std::string operation;       // as `taskwal ingest` takes it, JSON; empty where there is none
  std::string error;           // of the last attempt
  std::string sql_code;
  std::uint32_t attempts = 0;  // 0: never sent, it follows the refused save of its task
  std::uint32_t retries = 0;
  Time first_failed{}, last_failed{};
  std::string database;        // masked
  std::map<std::string, std::string> metadata;
};

// Which letters; what is given is combined by "and". Nothing given: none. Losses are never meant.
struct DeadLetterSelection {
  bool all = false;
  std::vector<std::string> ids;
  std::vector<std::uint64_t> lsns;   // as first appended
  std::string task_id;
  std::optional<Time> failed_before; // last failure
};

enum class RetryResult : std::uint8_t {
  kApplied = 0,  // it is in the database now
  kSuperseded,   // the database had something newer of this task
  kRejected,     // refused again: the letter is back, with the new error
  kPending,      // on its way in the log
};
std::string_view RetryResultName(RetryResult result);  // "applied", "superseded", …

struct RetryOutcome {
  std::string id;
  std::uint64_t lsn = 0;  // of the letter
  RetryResult result = RetryResult::kPending;
  std::string error;      // kRejected, kPending: why
};

class DeadLetterControl {
 public:
  virtual ~DeadLetterControl() = default;

  // At most `limit`, in the order they were added, those behind the letter `after` (empty: from the
  // start). kNotFound: that one is settled by now, so that its place is not known: begin anew.
  virtual Result<std::vector<DeadLetterInfo>> List(std::uint32_t limit,
                                                   std::string_view after = {}) = 0;
  virtual Result<DeadLetterInfo> Get(std::string_view id) = 0;  // kNotFound

  // Brings them once more, through the log, each exactly once however often this is interrupted and
  // repeated. A save goes together with the updates that follow it. Waits at most `timeout` for the
  // database; what is not there by then is kPending and safe in the log. kNotFound: nothing is
  // meant.
  virtual Result<std::vector<RetryOutcome>> Retry(const DeadLetterSelection& selection,
                                                  std::chrono::milliseconds timeout) = 0;
  // Lets them go for good. Returns how many, durably; 0 is no error.
  virtual Result<std::uint64_t> Purge(const DeadLetterSelection& selection) = 0;
};

}  // namespace taskwal

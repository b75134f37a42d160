// A dead letter on its way through the log once more, and how the flusher applies it exactly once.
//
//   dlq retry ─▶ retry record (durable) ─▶ reader, queue ─▶ worker: claim the letter ─▶ apply
//                                                             │ durable, names the record
//                                                             └ claimed by another one: nothing
//
// A claim names the record that brings the letter, so that only one of several retries does, and a
// replay of that one brings it again. Crash before the claim: the letter is open, and the record
// claims it when it is read again. Crash behind it: the record is not behind the watermark yet, and
// is applied when it is read again. The operation keeps the LSN it was appended with first: where
// the row is newer it is superseded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipeline/flush/dead_letters.h"
#include "storage/backend.h"
#include "storage/operation.h"

namespace taskwal::pipeline {

struct RetryRecord {
  LetterKey letter;      // what it claims
  LetterOrigin origin;
  storage::OperationType type{};
  std::uint32_t attempts = 0;  // before it
  std::uint32_t retries = 0;   // with it
  Time first_failed{};
  std::vector<std::byte> body;  // of the operation
};

// Type and key of the record that retries a letter: it goes where the operation went.
storage::OperationType RetryTypeOf(storage::OperationType type);
std::uint64_t RetryKeyOf(const DeadLetter& letter);
std::vector<std::byte> EncodeRetry(const DeadLetter& letter);
// Nothing where the bytes are no retry.
std::optional<RetryRecord> DecodeRetry(std::span<const std::byte> body);

// The retries of one transaction, in LSN order; nothing else is in it, so that the rows they are
// compared with are those in the database. One worker's.
class RetryComposer {
 public:
  using KeepShare = std::function<void(storage::OperationBody*)>;

  // `wal_id`: of the log now, under which rows are written. `keep_share` (may be empty) takes out
  // what is at home elsewhere.
  RetryComposer(DeadLetters& letters, storage::Session& session, const Uuid& wal_id,
                const KeepShare& keep_share)
      : letters_(letters), session_(session), wal_id_(wal_id), keep_share_(keep_share) {}

  enum class Taken : std::uint8_t {
    kAdded,    // what the record at `lsn` is to do
    kNothing,  // its letter is another's, or superseded
    kFollows,  // the save of its task was refused again: it goes to the letters once more
  };
  // kCorruption: the body is no operation, and never will be.
  Result<Taken> Take(wal::Lsn lsn, const RetryRecord& retry,
                     std::vector<storage::Operation>* operations);
  // To be called before the operations are applied. Durable on return.
  Status Claim();

 private:
  Result<bool> IsSuperseded(const std::string& task_id, wal::Lsn lsn, const RetryRecord& retry);
  // Takes out what is superseded; true when nothing is left.
  Result<bool> Trim(wal::Lsn lsn, const RetryRecord& retry, storage::OperationBody* body);
  Status Note(wal::Lsn lsn, const RetryRecord& retry, const storage::OperationBody& body);

  struct Row {
    Uuid wal_id;
    storage::Origin origin;
  };

  DeadLetters& letters_;
  storage::Session& session_;
  const Uuid wal_id_;
  const KeepShare& keep_share_;
  std::map<std::string, std::optional<Row>> rows_;  // as they will be
  std::vector<LetterResolution> claims_;
};

}  // namespace taskwal::pipeline

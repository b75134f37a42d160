#include "pipeline/letter_desk.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "pipeline/flush/letter_retry.h"
#include "storage/operation.h"
#include "wal/log_directory.h"
#include "wal/state_file.h"

namespace taskwal {

std::string_view RetryResultName(RetryResult result) {
  switch (result) {
    case RetryResult::kApplied: return "applied";
    case RetryResult::kSuperseded: return "superseded";
    case RetryResult::kRejected: return "rejected";
    case RetryResult::kPending: return "pending";
  }
  return "unknown";
}

namespace pipeline {
namespace {

using storage::OperationType;

bool IsLoss(const DeadLetter& letter) { return letter.kind == DeadLetter::Kind::kLoss; }

template <typename T>
bool IsIn(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// What is known of an open letter while a selection is made.
struct Candidate {
  LetterKey key;
  std::string id;
  wal::Lsn origin = 0;
  std::vector<std::string> saves;  // tasks
  std::string follows;             // the task whose refused save it waits for
  bool is_meant = false;
};

Candidate CandidateOf(const DeadLetter& letter, const DeadLetterSelection& selection) {
  Candidate candidate{letter.key(), letter.id(), letter.origin().key.lsn, {}, {},
                      IsMeant(selection, letter)};
  if (letter.type == OperationType::kStatusUpdate && letter.attempts == 0) {
    candidate.follows = letter.task_id;
  }
  const auto body = storage::Decode(letter.type, letter.body);
  if (!body.ok()) return candidate;
  if (const auto* save = std::get_if<storage::SaveTaskOp>(&*body)) {
    candidate.saves.push_back(save->task.id);
  } else if (const auto* batch = std::get_if<storage::SaveTasksOp>(&*body)) {
    for (const Task& task : batch->tasks) candidate.saves.push_back(task.id);
  }
  return candidate;
}

// A save and what follows it go together: alone, either would leave the row as it never was.
void MeanTogether(std::vector<Candidate>* candidates) {
  std::map<std::string, std::size_t> last_save;         // by task
  std::vector<std::pair<std::size_t, std::size_t>> pairs;  // save, follower
  for (std::size_t i = 0; i < candidates->size(); ++i) {
    const Candidate& candidate = (*candidates)[i];
    for (const std::string& task : candidate.saves) last_save[task] = i;
    const auto save = last_save.find(candidate.follows);
    if (!candidate.follows.empty() && save != last_save.end()) pairs.emplace_back(save->second, i);
  }
  for (const auto& [save, follower] : pairs) {
    if ((*candidates)[follower].is_meant) (*candidates)[save].is_meant = true;
  }
  for (const auto& [save, follower] : pairs) {
    if ((*candidates)[save].is_meant) (*candidates)[follower].is_meant = true;
  }
}

void Member(std::string_view name, std::string_view json, std::string* out) {
  *out += out->size() == 1 ? "\"" : ",\"";
  *out += name;
  *out += "\":";
  *out += json;
}

void TextMember(std::string_view name, std::string_view value, std::string* out) {
  Member(name, JsonQuote(value), out);
}

std::string MetadataJson(const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  for (const auto& [name, value] : metadata) {
    if (json.size() > 1) json += ',';
    json += JsonQuote(name) + ":" + JsonQuote(value);
  }
  return json + "}";
}

std::chrono::milliseconds TimeLeft(Monotonic until, Clock& clock) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock.Now());
  return std::max(left, std::chrono::milliseconds(0));
}

// What list, show and export share.
void Describe(const DeadLetterInfo& letter, std::string* out) {
  Member("lsn", std::to_string(letter.from_lsn), out);
  if (letter.is_loss) {
    Member("from", std::to_string(letter.from_lsn), out);
    Member("to", std::to_string(letter.to_lsn), out);
  }
  TextMember("wal_id", letter.wal_id, out);
  if (!letter.is_loss) {
    TextMember("type", letter.type, out);
    TextMember("task_id", letter.task_id, out);
    TextMember("sql_code", letter.sql_code, out);
    Member("attempts", std::to_string(letter.attempts), out);
    Member("retries", std::to_string(letter.retries), out);
    TextMember("database", letter.database, out);
  }
  if (!letter.is_loss || !letter.metadata.empty()) {
    Member("metadata", MetadataJson(letter.metadata), out);
  }
  TextMember("first_failed_at", FormatTime(letter.first_failed), out);
  TextMember("last_failed_at", FormatTime(letter.last_failed), out);
}

}  // namespace

DeadLetterInfo InfoOf(const DeadLetter& letter) {
  DeadLetterInfo info;
  info.id = letter.id();
  info.wal_id = letter.origin().key.wal_id.ToString();
  info.is_loss = IsLoss(letter);
  info.from_lsn = letter.origin().key.lsn;
  info.to_lsn = info.is_loss ? letter.lsns.to : info.from_lsn;
  info.error = letter.error;
  info.first_failed = letter.first_failed;
  info.last_failed = letter.last_failed;
  info.metadata = letter.metadata;
  if (info.is_loss) return info;
  info.type = storage::OperationTypeName(letter.type);
  info.task_id = letter.task_id;
  const auto body = storage::Decode(letter.type, letter.body);
  if (body.ok()) info.operation = storage::OperationToJson(*body);
  info.sql_code = letter.sql_code;
  info.attempts = letter.attempts;
  info.retries = letter.retries;
  info.database = letter.backend;
  return info;
}

bool IsMeant(const DeadLetterSelection& selection, const DeadLetter& letter) {
  if (IsLoss(letter)) return false;
  const bool has_filter = !selection.ids.empty() || !selection.lsns.empty() ||
                          !selection.task_id.empty() || selection.failed_before;
  if (!has_filter) return selection.all;
  if (!selection.ids.empty() && !IsIn(selection.ids, letter.id())) return false;
  if (!selection.lsns.empty() && !IsIn(selection.lsns, letter.origin().key.lsn)) return false;
  if (!selection.task_id.empty() && letter.task_id != selection.task_id) return false;
  return !selection.failed_before || letter.last_failed < *selection.failed_before;
}

std::string LetterJson(const DeadLetterInfo& letter, bool with_operation) {
  std::string json = "{";
  TextMember("id", letter.id, &json);
  TextMember("kind", letter.is_loss ? "loss" : "rejected", &json);
  TextMember("error", letter.error, &json);
  Describe(letter, &json);
  if (with_operation && !letter.is_loss) {
    // As text: payload and data keep their bytes.
    Member("operation", letter.operation.empty() ? "null" : letter.operation, &json);
  }
  return json + "}";
}

std::string LetterExportJson(const DeadLetterInfo& letter) {
  std::string packet = "{";
  TextMember("id", letter.id, &packet);
  Member("messages", letter.operation.empty() ? "[]" : "[" + letter.operation + "]", &packet);
  const std::uint32_t after_the_first = letter.attempts - std::min(letter.attempts, 1u);
  Member("retry_count", std::to_string(after_the_first), &packet);
  std::string json = "{";
  Member("packet", packet + "}", &json);
  TextMember("final_error", letter.error, &json);
  TextMember("failed_at", FormatTime(letter.last_failed), &json);
  TextMember("id", letter.id, &json);
  TextMember("kind", letter.is_loss ? "loss" : "rejected", &json);
  Describe(letter, &json);
  return json + "}";
}

// --- running storage ---

Result<std::vector<DeadLetterInfo>> LetterDesk::List(std::uint32_t limit, std::string_view after) {
  std::vector<DeadLetterInfo> page;
  bool is_behind = !after.empty();
  TASKWAL_TRY(parties_.letters.ForEach([&](const DeadLetter& letter) {
    if (is_behind) {
      is_behind = letter.id() != after;
      return true;
    }
    if (page.size() < limit) page.push_back(InfoOf(letter));
    return page.size() < limit;
  }));
  if (is_behind) {
    return Status::NotFound("dead letter " + std::string(after) +
                            " is settled by now: begin the list anew");
  }
  return page;
}

Result<DeadLetterInfo> LetterDesk::Get(std::string_view id) {
  std::optional<DeadLetterInfo> found;
  TASKWAL_TRY(parties_.letters.ForEach([&](const DeadLetter& letter) {
    if (letter.id() == id) found = InfoOf(letter);
    return !found;
  }));
  if (!found) return Status::NotFound("no dead letter " + std::string(id));
  return *std::move(found);
}

Result<std::vector<RetryOutcome>> LetterDesk::Retry(const DeadLetterSelection& selection,
                                                    std::chrono::milliseconds timeout) {
  const Monotonic until = parties_.clock.Now() + timeout;
  TASKWAL_ASSIGN(const Sending sending, Send(selection, timeout));
  return OutcomesOf(sending, Await(sending, until));
}

Status LetterDesk::Await(const Sending& sending, Monotonic until) {
  if (sending.last == 0) return sending.refused;
  TASKWAL_TRY(parties_.log.WaitDurable(sending.last, {until, {}}));
  TASKWAL_TRY(parties_.wait_applied(sending.last, TimeLeft(until, parties_.clock)));
  return sending.refused;
}

Result<std::vector<LetterDesk::Chosen>> LetterDesk::Select(
    const DeadLetterSelection& selection) const {
  std::vector<Candidate> candidates;
  TASKWAL_TRY(parties_.letters.ForEach([&](const DeadLetter& letter) {
    if (!IsLoss(letter)) candidates.push_back(CandidateOf(letter, selection));
    return true;
  }));
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.origin < b.origin; });
  MeanTogether(&candidates);
  std::vector<Chosen> chosen;
  for (Candidate& candidate : candidates) {
    if (!candidate.is_meant) continue;
    chosen.push_back({candidate.key, std::move(candidate.id), candidate.origin, {}, {}});
  }
  return chosen;
}

// In the order in which they were appended first; one that finds no room ends it, so that none
// overtakes another.
Result<LetterDesk::Sending> LetterDesk::Send(const DeadLetterSelection& selection,
                                             std::chrono::milliseconds timeout,
                                             const std::stop_token& stop) {
  const Monotonic until = parties_.clock.Now() + timeout;
  Sending sending;
  TASKWAL_ASSIGN(sending.letters, Select(selection));
  if (sending.letters.empty()) return Status::NotFound("no dead letter is meant");
  for (Chosen& one : sending.letters) {
    if (sending.refused.ok() && stop.stop_requested()) {
      sending.refused = Status::Overloaded("told to stop before it was sent");
    }
    Result<Sent> by = Status::NotFound({});
    if (sending.refused.ok()) {
      const auto letter = parties_.letters.Read(one.key);
      by = letter.ok() ? Append(*letter, TimeLeft(until, parties_.clock), stop)
                       : Result<Sent>(letter.status());
    } else {
      by = sending.refused;
    }
    if (by.ok()) {
      one.by = *by;
      sending.last = by->lsn;
      continue;
    }
    one.error = by.status().message();
    // Settled by somebody else since it was selected: no reason for the others to wait.
    if (by.status().code() != StatusCode::kNotFound) sending.refused = by.status();
  }
  return sending;
}

Result<LetterDesk::Sent> LetterDesk::Append(const DeadLetter& letter,
                                            std::chrono::milliseconds timeout,
                                            const std::stop_token& stop) {
  const std::vector<std::byte> body = EncodeRetry(letter);
  wal::RecordHeader header;
  header.type = static_cast<std::uint8_t>(RetryTypeOf(letter.type));
  header.target = letter.target;
  header.key = RetryKeyOf(letter);
  // A rebalance may have moved the task since.
  const bool is_of_one_task = letter.type == OperationType::kTaskUpdate ||
                              letter.type == OperationType::kStatusUpdate ||
                              letter.type == OperationType::kTaskDelete;
  return parties_.append(header, body, is_of_one_task, timeout, stop);
}

Result<std::vector<RetryOutcome>> LetterDesk::OutcomesOf(const Sending& sending,
                                                         const Status& waited) const {
  const Uuid wal_id = parties_.log.state().wal_id;
  std::vector<RetryOutcome> outcomes;
  for (const Chosen& one : sending.letters) {
    RetryOutcome outcome{one.id, one.origin, RetryResult::kPending, one.error};
    const auto standing = parties_.letters.StandingOf(one.key).value_or(LetterStanding());
    if (standing.outcome == LetterOutcome::kSuperseded) {
      outcome.result = RetryResult::kSuperseded;
    } else if (standing.outcome == LetterOutcome::kRetried) {
      // One that an earlier retry brings went where the letter is from, or to what was home then.
      const bool is_own = standing.by == one.by.lsn;
      const LetterKey again{wal_id, standing.by, is_own ? one.by.target : one.key.target};
      const auto letter = parties_.letters.Read(again);
      if (parties_.letters.Contains(again)) {
        outcome.result = RetryResult::kRejected;
        if (letter.ok()) outcome.error = letter->error;
      } else if (waited.ok() || parties_.wait_applied(standing.by, {}).ok()) {
        outcome.result = RetryResult::kApplied;
      }
    }
    if (outcome.result == RetryResult::kPending && outcome.error.empty()) {
      outcome.error = waited.message();
    }
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

Result<std::uint64_t> LetterDesk::Purge(const DeadLetterSelection& selection) {
  return PurgeLetters(parties_.letters, {parties_.log.first_lsn(), parties_.log.end_lsn()},
                      selection);
}

// --- without it ---

Result<std::uint64_t> PurgeLetters(DeadLetters& letters, const wal::LsnRange& log,
                                   const DeadLetterSelection& selection) {
  std::vector<LetterResolution> purged;
  TASKWAL_TRY(letters.ForEach([&](const DeadLetter& letter) {
    if (IsMeant(selection, letter)) purged.push_back({letter.key(), {LetterOutcome::kPurged, 0}});
    return true;
  }));
  if (purged.empty()) return std::uint64_t{0};
  TASKWAL_TRY(letters.Resolve(purged));
  TASKWAL_TRY(letters.Clean(log.from, log.to));
  return std::uint64_t{purged.size()};
}

Result<std::uint64_t> PurgeOffline(FileSystem& fs, const std::string& directory,
                                   const DeadLetterSelection& selection) {
  // Before the lock, which would make a file where there is no log.
  TASKWAL_ASSIGN(const wal::LogState state, wal::ReadState(fs, directory));
  TASKWAL_ASSIGN(const auto lock, fs.Lock(wal::JoinPath(directory, "LOCK")));
  TASKWAL_ASSIGN(const auto letters, DeadLetters::Open(fs, directory, false));
  return PurgeLetters(*letters, {state.first_lsn, UINT64_MAX}, selection);
}

}  // namespace pipeline
}  // namespace taskwal

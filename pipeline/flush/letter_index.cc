#include "pipeline/flush/letter_index.h"

#include <algorithm>
#include <iterator>

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

void SortByFrom(std::vector<LsnRange>* ranges) {
  std::sort(ranges->begin(), ranges->end(),
            [](const LsnRange& a, const LsnRange& b) { return a.from < b.from; });
}

// The parts of `range` that `covered` (ascending) leaves open.
std::vector<LsnRange> Uncovered(LsnRange range, const std::vector<LsnRange>& covered) {
  std::vector<LsnRange> parts;
  for (const LsnRange& taken : covered) {
    if (taken.to < range.from || taken.from > range.to) continue;
    if (taken.from > range.from) parts.push_back({range.from, taken.from - 1});
    if (taken.to >= range.to) return parts;
    range.from = taken.to + 1;
  }
  parts.push_back(range);
  return parts;
}

// Tasks saved by the letter's record, each with its DAG.
std::vector<std::pair<std::string, std::string>> SavesOf(const DeadLetter& letter) {
  const bool is_save = letter.type == storage::OperationType::kTaskUpdate;
  if (!is_save && letter.type != storage::OperationType::kBatchUpdate) return {};
  const auto body = storage::Decode(letter.type, letter.body);
  if (!body.ok()) {
    // What it is about is known, if not what it says.
    if (is_save) return {{letter.task_id, {}}};
    return {};
  }
  if (is_save) {
    const Task& task = std::get<storage::SaveTaskOp>(*body).task;
    return {{task.id, task.dag_id}};
  }
  std::vector<std::pair<std::string, std::string>> saves;
  for (const Task& task : std::get<storage::SaveTasksOp>(*body).tasks) {
    saves.emplace_back(task.id, task.dag_id);
  }
  return saves;
}

// The newest among those below `before`: what was appended first decides, since the later of two
// retries may bring the older operation; then the LSN of the last retry. Zeros: there is none.
std::pair<Lsn, Lsn> Newest(const std::map<Lsn, Lsn>& origins, Lsn before) {
  std::pair<Lsn, Lsn> newest;
  for (auto at = origins.begin(); at != origins.lower_bound(before); ++at) {
    newest = std::max(newest, {at->second, at->first});
  }
  return newest;
}

}  // namespace

void LetterIndex::Show(const LetterPlace& place, std::uint64_t sequence) {
  visible_[sequence] = place;
  visible_bytes_ += place.bytes;
}

void LetterIndex::Add(const DeadLetter& letter, const LetterPlace& place) {
  if (letter.kind == DeadLetter::Kind::kLoss) {
    // A copy that cleaning made adds nothing.
    if (OpenPartsOf(letter).empty()) return;
    AddLoss(letter);
    Show(place, next_sequence_++);
    return;
  }
  // One whose sync failed was added again to the next file; one that is settled stays so.
  const auto [entry, is_new] = known_.try_emplace(letter.key());
  if (!is_new) return;
  Letter& known = entry->second;
  known.sequence = next_sequence_++;
  known.bytes = place.bytes;
  known.origin = letter.origin().key.lsn;
  known.is_activity = letter.type == storage::OperationType::kActivityLog;
  known.first_failed = letter.first_failed;
  known.last_failed = letter.last_failed;
  known.saves = SavesOf(letter);
  for (const auto& [task, dag] : known.saves) {
    tasks_[task].letters[letter.lsns.from] = known.origin;
  }
  if (letter.metadata.contains(kGuardMark)) newest_[{letter.target, letter.type}] = letter.key();
  ++open_;
  open_bytes_ += known.bytes;
  Show(place, known.sequence);
}

LetterIndex::LossScope LetterIndex::ScopeOf(const DeadLetter& loss) {
  const auto partitions = loss.metadata.find(kLossPartitions);
  return {loss.wal_id, loss.target,
          partitions == loss.metadata.end() ? std::string() : partitions->second};
}

void LetterIndex::AddLoss(const DeadLetter& loss) {
  // An LSN counts once, whoever has lost a record of it.
  std::vector<LsnRange> known;
  for (const auto& [scope, ranges] : losses_) {
    if (scope.wal_id == loss.wal_id) known.insert(known.end(), ranges.begin(), ranges.end());
  }
  SortByFrom(&known);
  for (const LsnRange& part : Uncovered(loss.lsns, known)) lost_ += part.count();
  std::vector<LsnRange>& same = losses_[ScopeOf(loss)];
  same.push_back(loss.lsns);
  SortByFrom(&same);
}

void LetterIndex::Clear(const TaskCleared& cleared) {
  tasks_[cleared.task_id].clears[cleared.lsn] = cleared.origin;
}

bool LetterIndex::Resolve(const LetterResolution& resolution) {
  const auto [entry, is_unknown] = known_.try_emplace(resolution.key);
  Letter& letter = entry->second;
  if (is_unknown) {
    letter.standing = resolution.standing;
    return false;
  }
  if (letter.standing.outcome != LetterOutcome::kOpen) return false;
  Settle(resolution.key, &letter, resolution.standing);
  return true;
}

void LetterIndex::Settle(const LetterKey& key, Letter* letter, const LetterStanding& standing) {
  letter->standing = standing;
  const auto place = visible_.find(letter->sequence);
  visible_bytes_ -= place->second.bytes;
  visible_.erase(place);
  --open_;
  open_bytes_ -= letter->bytes;
  for (const auto& [task, dag] : letter->saves) tasks_[task].letters.erase(key.lsn);
}

void LetterIndex::TakeRetired(const LettersRetired& retired) {
  for (const LetterResolution& resolution : retired.settled) Resolve(resolution);
  for (const TaskCleared& cleared : retired.clears) Clear(cleared);
}

void LetterIndex::ForgetIdleClears() {
  std::erase_if(tasks_, [](const auto& entry) { return entry.second.letters.empty(); });
}

std::optional<LetterStanding> LetterIndex::StandingOf(const LetterKey& key) const {
  const auto letter = known_.find(key);
  if (letter == known_.end()) return std::nullopt;
  return letter->second.standing;
}

bool LetterIndex::HoldsSaveOf(const std::string& task_id, Lsn before) const {
  const auto task = tasks_.find(task_id);
  if (task == tasks_.end()) return false;
  const auto held = Newest(task->second.letters, before);
  return held.first > 0 && held >= Newest(task->second.clears, before);
}

bool LetterIndex::WasClearedSince(const std::string& task_id, Lsn origin, Lsn before) const {
  const auto task = tasks_.find(task_id);
  return task != tasks_.end() && Newest(task->second.clears, before).first > origin;
}

std::vector<std::string> LetterIndex::TasksHeldOf(const std::string& dag_id, Lsn before) const {
  std::vector<std::string> tasks;
  for (const auto& [key, letter] : known_) {
    if (letter.standing.outcome != LetterOutcome::kOpen || key.lsn >= before) continue;
    for (const auto& [task, dag] : letter.saves) {
      if (dag == dag_id && HoldsSaveOf(task, before)) tasks.push_back(task);
    }
  }
  return tasks;
}

std::vector<TaskCleared> LetterIndex::ClearsIn(const LsnRange& lsns) const {
  std::vector<TaskCleared> found;
  for (const auto& [task, history] : tasks_) {
    const auto& clears = history.clears;
    const auto end = clears.upper_bound(lsns.to);
    for (auto at = clears.lower_bound(lsns.from); at != end; ++at) {
      if (at->second != 0) found.push_back({task, at->first, at->second});
    }
  }
  return found;
}

std::vector<LsnRange> LetterIndex::OpenPartsOf(const DeadLetter& loss) const {
  const LossScope scope = ScopeOf(loss);
  std::vector<LsnRange> covered;
  for (const LossScope& one : {scope, LossScope{scope.wal_id, scope.target, {}}}) {
    const auto known = losses_.find(one);
    if (known == losses_.end()) continue;
    covered.insert(covered.end(), known->second.begin(), known->second.end());
  }
  SortByFrom(&covered);
  return Uncovered(loss.lsns, covered);
}

std::vector<LetterKey> LetterIndex::ActivitiesBefore(Time before) const {
  std::vector<LetterKey> keys;
  for (const auto& [key, letter] : known_) {
    const bool is_open = letter.standing.outcome == LetterOutcome::kOpen;
    if (is_open && letter.is_activity && letter.last_failed < before) keys.push_back(key);
  }
  return keys;
}

std::optional<LetterIndex::Visible> LetterIndex::Next(std::uint64_t after) const {
  const auto next = visible_.upper_bound(after);
  if (next == visible_.end()) return std::nullopt;
  return Visible{next->first, next->second};
}

std::optional<LetterPlace> LetterIndex::PlaceOf(const LetterKey& key) const {
  const auto letter = known_.find(key);
  if (letter == known_.end()) return std::nullopt;
  const auto place = visible_.find(letter->second.sequence);
  if (place == visible_.end()) return std::nullopt;
  return place->second;
}

std::vector<LetterKey> LetterIndex::NewestRejected(std::uint16_t target) const {
  std::vector<LetterKey> keys;
  for (const auto& [whose, key] : newest_) {
    if (whose.first == target) keys.push_back(key);
  }
  return keys;
}

void LetterIndex::Move(std::uint64_t sequence, const LetterPlace& place) {
  const auto entry = visible_.find(sequence);
  if (entry != visible_.end()) entry->second = place;
}

void LetterIndex::NoteEnd(Lsn end) {
  for (auto& [key, letter] : known_) {
    const bool is_settled = letter.standing.outcome != LetterOutcome::kOpen;
    if (is_settled && !letter.named_until) letter.named_until = end;
  }
}

bool LetterIndex::IsMetFrom(Lsn first_lsn, const LetterKey& key, const Letter& settled) {
  return key.lsn >= first_lsn || settled.named_until.value_or(first_lsn) >= first_lsn;
}

LettersRetired LetterIndex::StandingFrom(Lsn first_lsn) const {
  LettersRetired standing;
  for (const auto& [key, letter] : known_) {
    if (letter.standing.outcome == LetterOutcome::kOpen) continue;
    if (!IsMetFrom(first_lsn, key, letter)) continue;
    standing.settled.push_back({key, letter.standing});
  }
  for (const auto& [task, history] : tasks_) {
    if (history.letters.empty()) continue;
    for (const auto& [lsn, origin] : history.clears) standing.clears.push_back({task, lsn, origin});
  }
  return standing;
}

void LetterIndex::ForgetSettledBelow(Lsn first_lsn) {
  std::erase_if(known_, [&](const auto& entry) {
    const auto& [key, letter] = entry;
    const bool is_settled = letter.standing.outcome != LetterOutcome::kOpen;
    return is_settled && !IsMetFrom(first_lsn, key, letter);
  });
}

std::optional<Time> LetterIndex::oldest() const {
  std::optional<Time> oldest;
  for (const auto& [key, letter] : known_) {
    if (letter.standing.outcome != LetterOutcome::kOpen) continue;
    if (!oldest || letter.first_failed < *oldest) oldest = letter.first_failed;
  }
  return oldest;
}

}  // namespace taskwal::pipeline

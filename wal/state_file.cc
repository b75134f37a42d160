#include "wal/state_file.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <span>
#include <string_view>

#include "base/checksum.h"
#include "base/status_macros.h"
#include "wal/format.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

namespace {

constexpr char kStateName[] = "STATE";
constexpr char kTargetListName[] = "TARGETS";
constexpr std::string_view kFirstLine = "taskwal-state=1\n";
constexpr std::string_view kFirstLineOfTargets = "taskwal-state=2\n";
static_assert(kFirstLine.size() == kFirstLineOfTargets.size());
constexpr std::string_view kTargetPrefix = "target_";
constexpr std::string_view kChecksumKey = "checksum=";
constexpr std::size_t kChecksumDigits = 16;

std::string HexOf(std::uint64_t value) {
  char digits[kChecksumDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

void Append(std::string* text, std::string_view key, std::string_view value) {
  text->append(key).append("=").append(value).append("\n");
}

void Append(std::string* text, std::string_view key, std::uint64_t value) {
  Append(text, key, std::to_string(value));
}

void AppendTarget(std::string* text, const TargetState& target) {
  Append(text, "target", std::to_string(target.number) + ":" + target.name);
  Append(text, "target_weight", target.weight);
  Append(text, "target_next_weight", target.next_weight);
  Append(text, "target_joined_lsn", target.joined_lsn);
  Append(text, "target_removed", target.removed ? 1 : 0);
  Append(text, "target_db_id", target.db_id.ToString());
  Append(text, "target_registered_epoch", target.registered_epoch);
  for (const Lsn watermark : target.watermarks) Append(text, "target_watermark", watermark);
  Append(text, "target_flushed_lsn", target.flushed_lsn);
}

std::string TextOf(const LogState& state) {
  std::string text(state.targets.empty() ? kFirstLine : kFirstLineOfTargets);
  Append(&text, "wal_id", state.wal_id.ToString());
  for (const FormerIdentity& former : state.former) {
    Append(&text, "former", former.wal_id.ToString() + ":" + std::to_string(former.last_lsn));
  }
  Append(&text, "partitions", state.partitions);
  Append(&text, "epoch", state.epoch);
  Append(&text, "registered_epoch", state.registered_epoch);
  Append(&text, "first_lsn", state.first_lsn);
  Append(&text, "last_lsn", state.last_lsn);
  Append(&text, "clean", state.clean ? 1 : 0);
  Append(&text, "db_id", state.db_id.ToString());
  for (const Lsn watermark : state.watermarks) Append(&text, "watermark", watermark);
  Append(&text, "flushed_lsn", state.flushed_lsn);
  for (const LsnRange& range : state.lost) {
    Append(&text, "lost", std::to_string(range.from) + ":" + std::to_string(range.to));
  }
  for (const std::uint64_t number : state.unsealed) Append(&text, "unsealed", number);
  Append(&text, "lock_inode", state.lock_inode);
  Append(&text, "lock_born", state.lock_born);
  Append(&text, "copied", state.copied ? 1 : 0);
  Append(&text, "copied_at", state.copied_at);
  for (const TargetState& target : state.targets) AppendTarget(&text, target);
  if (!state.targets.empty()) Append(&text, "rebalancing", state.rebalancing ? 1 : 0);
  if (!state.targets.empty() && state.turns_lsn > 0) {
    Append(&text, "turns", state.turns);
    Append(&text, "turns_lsn", state.turns_lsn);
  }
  text.append(kChecksumKey).append(HexOf(Checksum(std::as_bytes(std::span(text))))).append("\n");
  return text;
}

bool ParseNumber(std::string_view text, std::uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool ParseUuid(std::string_view text, Uuid* value) {
  const auto parsed = Uuid::Parse(text);
  if (parsed) *value = *parsed;
  return parsed.has_value();
}

bool ParsePair(std::string_view text, std::string_view* first, std::string_view* second) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  *first = text.substr(0, colon);
  *second = text.substr(colon + 1);
  return true;
}

bool ParseFormer(std::string_view text, LogState* state) {
  std::string_view id;
  std::string_view lsn;
  FormerIdentity former;
  if (!ParsePair(text, &id, &lsn) || !ParseUuid(id, &former.wal_id)) return false;
  if (!ParseNumber(lsn, &former.last_lsn)) return false;
  state->former.push_back(former);
  return true;
}

bool ParseLost(std::string_view text, LogState* state) {
  std::string_view from;
  std::string_view to;
  LsnRange range;
  if (!ParsePair(text, &from, &to)) return false;
  if (!ParseNumber(from, &range.from) || !ParseNumber(to, &range.to)) return false;
  state->lost.push_back(range);
  return true;
}

bool ParseWatermark(std::string_view text, LogState* state) {
  Lsn lsn = 0;
  if (!ParseNumber(text, &lsn)) return false;
  state->watermarks.push_back(lsn);
  return true;
}

bool ParseTarget(std::string_view text, LogState* state) {
  std::string_view number;
  std::string_view name;
  std::uint64_t value = 0;
  if (!ParsePair(text, &number, &name) || name.empty()) return false;
  if (!ParseNumber(number, &value) || value >= kEveryTarget) return false;
  TargetState target;
  target.number = static_cast<std::uint16_t>(value);
  target.name = std::string(name);
  state->targets.push_back(std::move(target));
  return true;
}

// A line of the target named last.
bool ParseTargetField(std::string_view key, std::string_view value, TargetState* target) {
  if (key == "db_id") return ParseUuid(value, &target->db_id);
  std::uint64_t number = 0;
  if (!ParseNumber(value, &number)) return false;
  if (key == "watermark") {
    target->watermarks.push_back(number);
  } else if (key == "joined_lsn") {
    target->joined_lsn = number;
  } else if (key == "flushed_lsn") {
    target->flushed_lsn = number;
  } else if (key == "registered_epoch") {
    target->registered_epoch = number;
  } else if (key == "weight" && number <= UINT32_MAX) {
    target->weight = static_cast<std::uint32_t>(number);
  } else if (key == "next_weight" && number <= UINT32_MAX) {
    target->next_weight = static_cast<std::uint32_t>(number);
  } else if (key == "removed" && number <= 1) {
    target->removed = number == 1;
  } else {
    return false;
  }
  return true;
}

// One line of STATE. False for an unknown key or a value that does not fit it: the checksum passed,
// so a newer program wrote it under the same version, or there is a bug; neither may be guessed at.
bool ParseField(std::string_view key, std::string_view value, LogState* state) {
  if (key == "wal_id") return ParseUuid(value, &state->wal_id);
  if (key == "db_id") return ParseUuid(value, &state->db_id);
  if (key == "former") return ParseFormer(value, state);
  if (key == "lost") return ParseLost(value, state);
  if (key == "watermark") return ParseWatermark(value, state);
  if (key == "target") return ParseTarget(value, state);
  if (key.starts_with(kTargetPrefix) && !state->targets.empty()) {
    return ParseTargetField(key.substr(kTargetPrefix.size()), value, &state->targets.back());
  }
  std::uint64_t number = 0;
  if (!ParseNumber(value, &number)) return false;
  if (key == "unsealed") {
    state->unsealed.push_back(number);
    return true;
  }
  const std::map<std::string_view, std::uint64_t*> numbers = {
      {"epoch", &state->epoch},           {"first_lsn", &state->first_lsn},
      {"last_lsn", &state->last_lsn},     {"flushed_lsn", &state->flushed_lsn},
      {"lock_inode", &state->lock_inode}, {"lock_born", &state->lock_born},
      {"copied_at", &state->copied_at},   {"registered_epoch", &state->registered_epoch}};
  if (const auto found = numbers.find(key); found != numbers.end()) {
    *found->second = number;
  } else if (key == "partitions" && number > 0 && number <= UINT32_MAX) {
    state->partitions = static_cast<std::uint32_t>(number);
  } else if (key == "clean" && number <= 1) {
    state->clean = number == 1;
  } else if (key == "copied" && number <= 1) {
    state->copied = number == 1;
  } else if (key == "rebalancing" && number <= 1) {
    state->rebalancing = number == 1;
  } else if (key == "turns" && !state->targets.empty()) {
    state->turns = number;
  } else if (key == "turns_lsn" && !state->targets.empty()) {
    state->turns_lsn = number;
  } else {
    return false;
  }
  return true;
}

// What stands before the checksum line, or nothing where that line does not fit it exactly.
std::string_view CheckedPart(std::string_view text) {
  const std::size_t line = kChecksumKey.size() + kChecksumDigits + 1;
  if (text.size() < kFirstLine.size() + line) return {};
  const std::string_view body = text.substr(0, text.size() - line);
  std::string expected(kChecksumKey);
  const std::string_view checked = text.substr(0, body.size() + kChecksumKey.size());
  expected.append(HexOf(Checksum(std::as_bytes(std::span(checked))))).append("\n");
  return text.substr(body.size()) == expected ? body : std::string_view();
}

Result<LogState> Parse(const std::string& path, std::string_view text) {
  std::string_view rest = CheckedPart(text);
  if (rest.empty()) return Status::Corruption(path + ": the checksum does not match");
  const bool has_targets = rest.starts_with(kFirstLineOfTargets);
  if (!rest.starts_with(kFirstLine) && !has_targets) {
    return Status::Corruption(path + ": a version this program does not read");
  }
  rest.remove_prefix(kFirstLine.size());
  LogState state;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos ||
        !ParseField(line.substr(0, equals), line.substr(equals + 1), &state)) {
      return Status::Corruption(path + ": cannot read the line '" + std::string(line) + "'");
    }
  }
  if (state.targets.empty() == has_targets) {
    return Status::Corruption(path + ": its targets do not fit its version");
  }
  if (state.wal_id.IsZero()) return Status::Corruption(path + ": names no wal_id");
  return state;
}

// Beside a process on a full disk what was opened as STATE may be RESERVE by the time it is read,
// and may be written over once more meanwhile: only what reads the same twice is damage.
Result<LogState> ReadNamed(FileSystem& fs, const std::string& path) {
  constexpr int kReadingsMax = 100;
  TASKWAL_ASSIGN(std::string text, ReadFile(fs, path));
  Result<LogState> state = Parse(path, text);
  for (int reading = 1; reading < kReadingsMax && state.status().code() == StatusCode::kCorruption;
       ++reading) {
    TASKWAL_ASSIGN(std::string again, ReadFile(fs, path));
    if (again == text) break;
    text = std::move(again);
    state = Parse(path, text);
  }
  return state;
}

Status WriteNamed(FileSystem& fs, const std::string& directory, std::string_view name,
                  std::string_view text, bool* used_reserve) {
  const std::string path = JoinPath(directory, name);
  Status written = WriteFileAtomically(fs, path, text);
  if (written.code() != StatusCode::kUnavailable) return written;
  const std::string reserve = JoinPath(directory, kReserveFileName);
  if (used_reserve != nullptr) *used_reserve = true;
  const Status replaced = WriteFileInPlaceOf(fs, reserve, path, text);
  // Without a reserve there is only the full disk to tell of.
  return replaced.code() == StatusCode::kNotFound ? written : replaced;
}

template <typename Entry>
void AddSpares(const Entry& largest, std::vector<Entry>* list) {
  constexpr std::size_t kSpareEntries = 16;
  for (Entry& entry : *list) entry = largest;
  list->insert(list->end(), kSpareEntries, largest);
}

void MakeLargest(std::uint32_t partitions, FedDatabase* database) {
  database->registered_epoch = UINT64_MAX;
  database->watermarks.assign(partitions, UINT64_MAX);
  database->flushed_lsn = UINT64_MAX;
}

LogState LargestOf(LogState state) {
  MakeLargest(state.partitions, &state);
  if (!state.targets.empty()) state.watermarks.clear();
  state.turns = state.turns_lsn = UINT64_MAX;
  state.epoch = state.first_lsn = state.last_lsn = UINT64_MAX;
  state.lock_inode = state.lock_born = state.copied_at = UINT64_MAX;
  AddSpares({{}, UINT64_MAX}, &state.former);
  AddSpares({UINT64_MAX, UINT64_MAX}, &state.lost);
  AddSpares(UINT64_MAX, &state.unsealed);
  for (TargetState& target : state.targets) {
    MakeLargest(state.partitions, &target);
    target.weight = target.next_weight = UINT32_MAX;
    target.joined_lsn = UINT64_MAX;
  }
  return state;
}

// The epoch is that of the last change: a later one changes nothing of it.
std::string UndatedTextOf(LogState list) {
  list.epoch = 0;
  return TextOf(list);
}

}  // namespace

FedDatabase& FedOf(LogState* state, std::uint16_t target) {
  const auto found = std::find_if(state->targets.begin(), state->targets.end(),
                                  [&](const TargetState& t) { return t.number == target; });
  if (found == state->targets.end()) return *state;
  return *found;
}

LogState StateOfTarget(const LogState& state, std::uint16_t target) {
  LogState view = state;
  for (const TargetState& one : state.targets) {
    if (one.number != target) continue;
    static_cast<FedDatabase&>(view) = one;
    view.first_lsn = std::max(view.first_lsn, one.joined_lsn + 1);
  }
  view.targets.clear();
  return view;
}

void NoteFlushed(std::uint16_t target, Lsn flushed, const std::vector<Lsn>& watermarks,
                 LogState* state) {
  FedDatabase& fed = FedOf(state, target);
  fed.flushed_lsn = flushed;
  if (!watermarks.empty()) fed.watermarks = watermarks;
  if (state->targets.empty()) return;
  Lsn lowest = UINT64_MAX;
  for (const TargetState& one : state->targets) {
    if (!one.removed) lowest = std::min(lowest, one.flushed_lsn);
  }
  state->flushed_lsn = lowest;
}

Result<LogState> ReadState(FileSystem& fs, const std::string& directory) {
  return ReadNamed(fs, JoinPath(directory, kStateName));
}

Status WriteState(FileSystem& fs, const std::string& directory, const LogState& state,
                  bool* used_reserve) {
  return WriteNamed(fs, directory, kStateName, TextOf(state), used_reserve);
}

// The first one to be so large leaves an old one that may be of no use to the next: so STATE counts
// twice.
std::uint64_t RoomToRewrite(const LogState& state) {
  constexpr std::uint64_t kBlockBytes = 4096;
  const LogState largest = LargestOf(state);
  const std::uint64_t list = state.targets.empty() ? 0 : TextOf(TargetListOf(largest)).size();
  return 2 * AlignUp(TextOf(largest).size(), kBlockBytes) + AlignUp(list, kBlockBytes);
}

LogState TargetListOf(const LogState& state) {
  LogState list;
  list.wal_id = state.wal_id;
  list.former = state.former;
  list.partitions = state.partitions;
  list.epoch = state.epoch;
  list.rebalancing = state.rebalancing;
  list.targets = state.targets;
  for (TargetState& target : list.targets) {
    target.registered_epoch = 0;
    target.watermarks.clear();
    NoteFlushed(target.number, target.joined_lsn, {}, &list);
  }
  return list;
}

Result<LogState> ReadTargetList(FileSystem& fs, const std::string& directory) {
  return ReadNamed(fs, JoinPath(directory, kTargetListName));
}

Status KeepTargetList(FileSystem& fs, const std::string& directory, const LogState& state,
                      std::string* written, bool* used_reserve) {
  if (state.targets.empty()) return Status::Ok();
  const LogState list = TargetListOf(state);
  if (written->empty()) {
    const Result<LogState> there = ReadTargetList(fs, directory);
    if (there.ok()) *written = UndatedTextOf(*there);
  }
  const std::string text = UndatedTextOf(list);
  if (text == *written) return Status::Ok();
  TASKWAL_TRY(WriteNamed(fs, directory, kTargetListName, TextOf(list), used_reserve));
  *written = text;
  return Status::Ok();
}

}  // namespace taskwal::wal

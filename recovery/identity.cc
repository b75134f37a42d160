#include "recovery/identity.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/byte_codec.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"
#include "wal/ring_buffer.h"
#include "wal/segment_reader.h"

namespace taskwal::recovery {

namespace {

constexpr char kRingMagic[8] = {'T', 'W', 'A', 'L', 'R', 'N', 'G', '\1'};

struct RingIdentity {
  Uuid wal_id;
  Uuid boot_id;
  std::uint64_t epoch = 0;
  wal::Lsn written_lsn = 0;  // the segments had everything up to here
};

// The LSN with these low bits that is nearest to `near`.
wal::Lsn WholeLsn(std::uint32_t bits, wal::Lsn near) {
  return near + static_cast<std::uint64_t>(static_cast<std::int64_t>(
                    static_cast<std::int32_t>(bits - static_cast<std::uint32_t>(near))));
}

// Nothing where there is no ring, or something else under its name.
Result<std::optional<RingIdentity>> ReadRing(FileSystem& fs, const std::string& directory) {
  const auto file = fs.OpenReadable(wal::JoinPath(directory, wal::kRingFileName));
  if (!file.ok()) {
    if (file.status().code() == StatusCode::kNotFound) return std::optional<RingIdentity>();
    return file.status();
  }
  std::byte bytes[offsetof(wal::RingHeader, released_lsn) + sizeof(std::uint64_t)];
  TASKWAL_ASSIGN(const std::size_t count, (*file)->Read(0, bytes));
  if (count < sizeof bytes || std::memcmp(bytes, kRingMagic, sizeof kRingMagic) != 0) {
    return std::optional<RingIdentity>();
  }
  RingIdentity ring;
  ring.wal_id = LoadLittle<Uuid>(bytes + offsetof(wal::RingHeader, wal_id));
  ring.boot_id = LoadLittle<Uuid>(bytes + offsetof(wal::RingHeader, boot_id));
  ring.epoch = LoadLittle<std::uint64_t>(bytes + offsetof(wal::RingHeader, epoch));
  const auto consumed = LoadLittle<std::uint64_t>(bytes + offsetof(wal::RingHeader, consumed));
  const auto released = LoadLittle<wal::Lsn>(bytes + offsetof(wal::RingHeader, released_lsn));
  if (consumed != 0) {
    ring.written_lsn = WholeLsn(static_cast<std::uint32_t>(consumed >> 32), released) - 1;
  }
  return std::optional(ring);
}

// The header alone, whoever it belongs to; nothing where it does not validate under this number.
Result<std::optional<wal::SegmentHeader>> ReadHeader(FileSystem& fs, const std::string& directory,
                                                     std::uint64_t number) {
  const auto reader = wal::SegmentReader::Open(fs, directory, number, {});
  if (!reader.ok()) return reader.status();
  // With no identity given, every intact header of this format is a foreign one.
  const bool intact = (*reader)->header_state() == wal::HeaderState::kForeign &&
                      (*reader)->header().number == number;
  if (!intact) return std::optional<wal::SegmentHeader>();
  return std::optional((*reader)->header());
}

// The newest intact header says who the log is, the oldest of the same log where it begins.
Result<bool> RebuildFromSegments(FileSystem& fs, const std::string& directory,
                                 const std::vector<std::uint64_t>& segments, wal::LogState* state) {
  std::optional<wal::SegmentHeader> newest;
  for (auto number = segments.rbegin(); number != segments.rend() && !newest; ++number) {
    TASKWAL_ASSIGN(newest, ReadHeader(fs, directory, *number));
  }
  if (!newest) return false;
  state->wal_id = newest->wal_id;
  state->partitions = newest->partitions;
  state->epoch = newest->epoch;
  for (const std::uint64_t number : segments) {
    TASKWAL_ASSIGN(const auto oldest, ReadHeader(fs, directory, number));
    if (!oldest || oldest->wal_id != newest->wal_id) continue;
    state->first_lsn = oldest->first_lsn;
    break;
  }
  return true;
}

bool IsAbsentOrDamaged(const Status& status) {
  return status.code() == StatusCode::kNotFound || status.code() == StatusCode::kCorruption;
}

bool IsOneOf(const Uuid& id, const std::vector<Uuid>& ids) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// The list of another log is none.
bool IsListOf(const wal::LogState& list, const wal::LogState& state) {
  return IsOneOf(state.wal_id, wal::IdentitiesOf(list)) ||
         IsOneOf(list.wal_id, wal::IdentitiesOf(state));
}

// Rebuilt, and no database met since.
bool IsRebuilt(const wal::LogState& state) {
  return state.copied && std::none_of(state.targets.begin(), state.targets.end(),
                                      [](const auto& one) { return one.registered_epoch > 0; });
}

bool NamesMore(const wal::LogState& list, const wal::LogState& state) {
  return std::any_of(list.targets.begin(), list.targets.end(), [&](const auto& one) {
    return std::none_of(state.targets.begin(), state.targets.end(),
                        [&](const auto& known) { return known.number == one.number; });
  });
}

// STATE is written first, and a log that has had targets always has some: where the list has more
// to say, STATE was put back from an older date, or rebuilt before the list was put back.
bool IsOlderThan(const wal::LogState& list, const wal::LogState& state) {
  if (!IsListOf(list, state)) return false;
  return list.epoch > state.epoch || state.targets.empty() ||
         (IsRebuilt(state) && NamesMore(list, state));
}

void TakeList(wal::LogState list, wal::LogState* state) {
  list.epoch = std::max(list.epoch, state->epoch);
  list.first_lsn = state->first_lsn;
  *state = std::move(list);
}

// What only the boot that wrote the ring can believe of it.
void CompareBoot(FileSystem& fs, const std::optional<RingIdentity>& ring, LogIdentity* identity) {
  const std::vector<Uuid> ids = identity->wal_ids();
  if (!ring || !IsOneOf(ring->wal_id, ids)) return;
  const auto boot = fs.BootId();
  if (!boot.ok() || *boot != ring->boot_id) return;
  identity->other_boot = false;
  identity->written_lsn = ring->written_lsn;
}

}  // namespace

std::vector<Uuid> LogIdentity::wal_ids() const {
  std::vector<Uuid> ids = {state.wal_id};
  for (const wal::FormerIdentity& former : state.former) ids.push_back(former.wal_id);
  return ids;
}

Result<LogIdentity> ReadIdentity(FileSystem& fs, const std::string& directory,
                                 const std::vector<std::uint64_t>& segments) {
  LogIdentity identity;
  TASKWAL_ASSIGN(const std::optional<RingIdentity> ring, ReadRing(fs, directory));
  // Before STATE, which a process beside us writes first.
  const Result<wal::LogState> list = wal::ReadTargetList(fs, directory);
  const bool has_list = list.ok();
  if (!has_list && !IsAbsentOrDamaged(list.status())) return list.status();
  identity.targets_damaged = list.status().code() == StatusCode::kCorruption;
  identity.targets_detail = list.status().message();
  Result<wal::LogState> state = wal::ReadState(fs, directory);
  const bool is_older = state.ok() && has_list && IsOlderThan(*list, *state);
  if (state.ok() && !is_older) {
    identity.state = std::move(state).value();
    CompareBoot(fs, ring, &identity);
    return identity;
  }
  if (!state.ok() && !IsAbsentOrDamaged(state.status())) return state.status();
  const bool absent = state.status().code() == StatusCode::kNotFound;
  if (absent && segments.empty() && !ring) {
    return Status::NotFound(directory +
                            " holds no log: name the directory that was --wal when it was written");
  }
  identity.state_damaged = true;
  identity.state_detail = is_older ? "older than TARGETS"
                          : absent ? "missing, though there is a log"
                                   : state.status().message();
  TASKWAL_ASSIGN(const bool rebuilt, RebuildFromSegments(fs, directory, segments, &identity.state));
  if (!rebuilt && ring) {
    identity.state.wal_id = ring->wal_id;
  } else if (!rebuilt) {
    return Status::Corruption(wal::JoinPath(directory, "STATE") +
                              " is damaged or missing, and no segment is left to rebuild it from: "
                              "put a copy of the directory back, or begin with a new one");
  }
  if (has_list && IsListOf(*list, identity.state)) TakeList(*list, &identity.state);
  if (ring && ring->wal_id == identity.state.wal_id) {
    identity.state.epoch = std::max(identity.state.epoch, ring->epoch);
  }
  CompareBoot(fs, ring, &identity);
  return identity;
}

}  // namespace taskwal::recovery

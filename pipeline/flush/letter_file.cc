#include "pipeline/flush/letter_file.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "base/byte_codec.h"
#include "base/checksum.h"

namespace taskwal::pipeline {
namespace {

constexpr std::string_view kNamePrefix = "letters-";
constexpr char kFileMagic[8] = {'T', 'W', 'A', 'L', 'D', 'L', 'Q', 1};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kEntryMagic = 0x314c5754;  // "TWL1"
constexpr std::uint32_t kBodyBytesMax = (1u << 30) + (16u << 20);  // a record, and what was said

struct FileHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t number;
  std::uint64_t previous_bytes;
  std::uint64_t checksum;  // of the 32 bytes before
};
static_assert(sizeof(FileHeader) == kLetterFileHeaderBytes);

struct EntryHeader {
  std::uint32_t magic;
  std::uint16_t kind;
  std::uint16_t reserved0;
  std::uint32_t body_bytes;
  std::uint32_t reserved1;
  std::uint64_t body_checksum;
  std::uint64_t header_checksum;  // of the 24 bytes before
};
static_assert(sizeof(EntryHeader) == 32);

// An entry validates nowhere but in its own place.
std::uint64_t SeedAt(std::uint64_t number, std::uint64_t offset) {
  return number * 0x9e3779b97f4a7c15ull + offset;
}

template <typename Header>
std::uint64_t HeaderChecksum(const Header& header, std::uint64_t seed) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return Checksum(bytes.first(sizeof header - sizeof(std::uint64_t)), seed);
}

Time TimeOf(std::int64_t microseconds) { return Time(std::chrono::microseconds(microseconds)); }

Uuid GetUuid(ByteReader& in) {
  Uuid uuid;
  const auto bytes = in.GetBytes(uuid.bytes.size());
  if (in.ok()) std::memcpy(uuid.bytes.data(), bytes.data(), bytes.size());
  return uuid;
}

std::size_t ClearedBytes(const TaskCleared& cleared) {
  return 2 * sizeof(wal::Lsn) + sizeof(std::uint32_t) + cleared.task_id.size();
}

void PutCleared(ByteWriter& out, const TaskCleared& cleared) {
  out.Put(cleared.lsn);
  out.Put(cleared.origin);
  out.PutText(cleared.task_id);
}

TaskCleared GetCleared(ByteReader& in) {
  TaskCleared cleared;
  cleared.lsn = in.Get<wal::Lsn>();
  cleared.origin = in.Get<wal::Lsn>();
  cleared.task_id = in.GetText();
  return cleared;
}

constexpr std::size_t kResolutionBytes = kLetterKeyBytes + 1 + sizeof(wal::Lsn);

void PutResolutions(ByteWriter& out, std::span<const LetterResolution> resolutions) {
  out.Put(static_cast<std::uint32_t>(resolutions.size()));
  for (const auto& [key, standing] : resolutions) {
    PutLetterKey(out, key);
    out.Put(static_cast<std::uint8_t>(standing.outcome));
    out.Put(standing.by);
  }
}

std::vector<LetterResolution> GetResolutions(ByteReader& in) {
  std::vector<LetterResolution> resolutions;
  const auto count = in.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
    LetterResolution resolution;
    resolution.key = GetLetterKey(in);
    resolution.standing.outcome = static_cast<LetterOutcome>(in.Get<std::uint8_t>());
    resolution.standing.by = in.Get<wal::Lsn>();
    resolutions.push_back(resolution);
  }
  return resolutions;
}

}  // namespace

void PutLetterKey(ByteWriter& out, const LetterKey& key) {
  out.PutBytes(key.wal_id.bytes.data(), key.wal_id.bytes.size());
  out.Put(key.lsn);
  out.Put(key.target);
}

LetterKey GetLetterKey(ByteReader& in) {
  LetterKey key;
  key.wal_id = GetUuid(in);
  key.lsn = in.Get<wal::Lsn>();
  key.target = in.Get<std::uint16_t>();
  return key;
}

std::string LetterFileName(std::uint64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%08llu", static_cast<unsigned long long>(number));
  return std::string(kNamePrefix) + digits;
}

std::optional<std::uint64_t> ParseLetterFileName(std::string_view name) {
  if (!name.starts_with(kNamePrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kNamePrefix.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (number == 0 || LetterFileName(number) != name) return std::nullopt;
  return number;
}

std::vector<std::byte> MakeLetterFileHeader(std::uint64_t number, std::uint64_t previous_bytes) {
  FileHeader header{};
  std::memcpy(header.magic, kFileMagic, sizeof kFileMagic);
  header.version = kVersion;
  header.header_bytes = sizeof header;
  header.number = number;
  header.previous_bytes = previous_bytes;
  header.checksum = HeaderChecksum(header, 0);
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return {bytes.begin(), bytes.end()};
}

std::optional<std::uint64_t> ParseLetterFileHeader(std::span<const std::byte> bytes,
                                                   std::uint64_t number) {
  if (bytes.size() < sizeof(FileHeader)) return std::nullopt;
  const auto header = LoadLittle<FileHeader>(bytes.data());
  if (header.checksum != HeaderChecksum(header, 0)) return std::nullopt;
  const bool is_ours = std::memcmp(header.magic, kFileMagic, sizeof kFileMagic) == 0 &&
                       header.version == kVersion && header.number == number;
  if (!is_ours) return std::nullopt;
  return header.previous_bytes;
}

std::vector<std::byte> EncodeLetter(const DeadLetter& letter) {
  std::size_t texts = letter.task_id.size() + letter.error.size() + letter.sql_code.size() +
                      letter.backend.size();
  for (const auto& [name, value] : letter.metadata) texts += 8 + name.size() + value.size();
  std::vector<std::byte> bytes(192 + texts + letter.body.size());
  ByteWriter writer(bytes);
  writer.Put(static_cast<std::uint8_t>(letter.kind));
  writer.Put(static_cast<std::uint8_t>(letter.type));
  PutLetterKey(writer, letter.key());
  writer.Put(letter.lsns.to);
  writer.Put(letter.stamp);
  const LetterOrigin origin = letter.origin();
  PutLetterKey(writer, origin.key);
  writer.Put(origin.stamp);
  writer.Put(letter.attempts);
  writer.Put(letter.retries);
  writer.Put(std::int64_t{letter.first_failed.time_since_epoch().count()});
  writer.Put(std::int64_t{letter.last_failed.time_since_epoch().count()});
  writer.PutText(letter.task_id);
  writer.PutText(letter.error);
  writer.PutText(letter.sql_code);
  writer.PutText(letter.backend);
  writer.Put(static_cast<std::uint32_t>(letter.metadata.size()));
  for (const auto& [name, value] : letter.metadata) {
    writer.PutText(name);
    writer.PutText(value);
  }
  writer.PutText({reinterpret_cast<const char*>(letter.body.data()), letter.body.size()});
  bytes.resize(writer.used());
  return bytes;
}

std::optional<DeadLetter> DecodeLetter(std::span<const std::byte> body) {
  ByteReader reader(body);
  DeadLetter letter;
  letter.kind = static_cast<DeadLetter::Kind>(reader.Get<std::uint8_t>());
  letter.type = static_cast<storage::OperationType>(reader.Get<std::uint8_t>());
  const LetterKey key = GetLetterKey(reader);
  letter.wal_id = key.wal_id;
  letter.target = key.target;
  letter.lsns = {key.lsn, reader.Get<wal::Lsn>()};
  letter.stamp = reader.Get<std::uint64_t>();
  LetterOrigin origin;
  origin.key = GetLetterKey(reader);
  origin.stamp = reader.Get<std::uint64_t>();
  if (origin != letter.origin()) letter.retried_from = origin;
  letter.attempts = reader.Get<std::uint32_t>();
  letter.retries = reader.Get<std::uint32_t>();
  letter.first_failed = TimeOf(reader.Get<std::int64_t>());
  letter.last_failed = TimeOf(reader.Get<std::int64_t>());
  letter.task_id = reader.GetText();
  letter.error = reader.GetText();
  letter.sql_code = reader.GetText();
  letter.backend = reader.GetText();
  const auto entries = reader.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < entries && reader.ok(); ++i) {
    std::string name(reader.GetText());
    letter.metadata.emplace(std::move(name), reader.GetText());
  }
  const std::string_view bytes = reader.GetText();
  const auto raw = std::as_bytes(std::span(bytes));
  letter.body.assign(raw.begin(), raw.end());
  if (!reader.ok() || reader.left() > 0 || letter.lsns.empty()) return std::nullopt;
  return letter;
}

std::vector<std::byte> EncodeTaskCleared(const TaskCleared& cleared) {
  std::vector<std::byte> bytes(ClearedBytes(cleared));
  ByteWriter writer(bytes);
  PutCleared(writer, cleared);
  return bytes;
}

std::optional<TaskCleared> DecodeTaskCleared(std::span<const std::byte> body) {
  ByteReader reader(body);
  TaskCleared cleared = GetCleared(reader);
  if (!reader.ok() || reader.left() > 0) return std::nullopt;
  return cleared;
}

std::vector<std::byte> EncodeResolved(std::span<const LetterResolution> resolutions) {
  std::vector<std::byte> bytes(sizeof(std::uint32_t) + resolutions.size() * kResolutionBytes);
  ByteWriter writer(bytes);
  PutResolutions(writer, resolutions);
  return bytes;
}

std::optional<std::vector<LetterResolution>> DecodeResolved(std::span<const std::byte> body) {
  ByteReader reader(body);
  auto resolutions = GetResolutions(reader);
  if (!reader.ok() || reader.left() > 0) return std::nullopt;
  return resolutions;
}

std::vector<std::byte> EncodeRetired(const LettersRetired& retired) {
  std::size_t size = sizeof(std::uint64_t) + 2 * sizeof(std::uint32_t) +
                     retired.settled.size() * kResolutionBytes;
  for (const TaskCleared& cleared : retired.clears) size += ClearedBytes(cleared);
  std::vector<std::byte> bytes(size);
  ByteWriter writer(bytes);
  writer.Put(retired.files_to);
  PutResolutions(writer, retired.settled);
  writer.Put(static_cast<std::uint32_t>(retired.clears.size()));
  for (const TaskCleared& cleared : retired.clears) PutCleared(writer, cleared);
  return bytes;
}

std::optional<LettersRetired> DecodeRetired(std::span<const std::byte> body) {
  ByteReader reader(body);
  LettersRetired retired;
  retired.files_to = reader.Get<std::uint64_t>();
  retired.settled = GetResolutions(reader);
  const auto clears = reader.Get<std::uint32_t>();
  for (std::uint32_t i = 0; i < clears && reader.ok(); ++i) {
    retired.clears.push_back(GetCleared(reader));
  }
  if (!reader.ok() || reader.left() > 0) return std::nullopt;
  return retired;
}

std::vector<std::byte> MakeEntry(EntryKind kind, std::span<const std::byte> body,
                                 std::uint64_t number, std::uint64_t offset) {
  const std::uint64_t seed = SeedAt(number, offset);
  EntryHeader header{};
  header.magic = kEntryMagic;
  header.kind = static_cast<std::uint16_t>(kind);
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.body_checksum = Checksum(body, seed);
  header.header_checksum = HeaderChecksum(header, seed);
  std::vector<std::byte> bytes(sizeof header + body.size());
  StoreLittle(bytes.data(), header);
  std::copy(body.begin(), body.end(), bytes.begin() + sizeof header);
  return bytes;
}

std::optional<EntryView> ParseEntry(std::span<const std::byte> bytes, std::uint64_t number,
                                    std::uint64_t offset) {
  if (bytes.size() < sizeof(EntryHeader)) return std::nullopt;
  const auto header = LoadLittle<EntryHeader>(bytes.data());
  if (header.magic != kEntryMagic) return std::nullopt;
  const std::uint64_t seed = SeedAt(number, offset);
  if (header.header_checksum != HeaderChecksum(header, seed)) return std::nullopt;
  if (header.body_bytes > kBodyBytesMax) return std::nullopt;
  if (bytes.size() - sizeof header < header.body_bytes) return std::nullopt;
  const auto body = bytes.subspan(sizeof header, header.body_bytes);
  if (header.body_checksum != Checksum(body, seed)) return std::nullopt;
  return EntryView{static_cast<EntryKind>(header.kind), offset,
                   offset + sizeof header + header.body_bytes, body};
}

LetterFileScan ScanLetterFile(std::span<const std::byte> bytes, std::uint64_t number,
                              const std::function<void(const EntryView&)>& visit) {
  LetterFileScan scan;
  const bool has_header = ParseLetterFileHeader(bytes, number).has_value();
  if (has_header) scan.sound_bytes = kLetterFileHeaderBytes;
  std::uint64_t at = kLetterFileHeaderBytes;
  while (at < bytes.size()) {
    const auto entry = ParseEntry(bytes.subspan(at), number, at);
    if (!entry) {
      ++at;
      continue;
    }
    if (at > scan.sound_bytes) scan.bad.emplace_back(scan.sound_bytes, at);
    visit(*entry);
    at = entry->end_offset;
    scan.sound_bytes = at;
  }
  return scan;
}

}  // namespace taskwal::pipeline

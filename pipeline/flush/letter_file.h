// One file of dead letters: its framing and the encoding of an entry (docs/FORMAT.md "Dead
// letters"). Pure functions over bytes.
//
//   file header (40 bytes) │ entry header (32) body │ entry header body │ …
//
// Each entry is synced before the next one is written (a file that cleaning makes appears as a
// whole), and each file names how many bytes of the one before it count. So only what stands behind
// the last sound entry of the last file can be torn.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_codec.h"
#include "pipeline/flush/dead_letters.h"

namespace taskwal::pipeline {

inline constexpr std::uint64_t kLetterFileHeaderBytes = 40;
inline constexpr std::uint64_t kLetterFileBytes = 16u << 20;  // then the next file begins

enum class EntryKind : std::uint16_t {
  kLetter = 1,
  kTaskCleared = 2,  // operations on this task do not follow its letter any more
  kResolved = 3,     // what became of letters
  kRetired = 4,      // files up to a number are gone on purpose, and what they said of settled ones
};

struct TaskCleared {
  std::string task_id;
  wal::Lsn lsn = 0;
  // lsn, or that of the record which the one at lsn retries; 0 takes back what an earlier entry
  // said of this task and lsn.
  wal::Lsn origin = 0;
};

struct LettersRetired {
  std::uint64_t files_to = 0;
  std::vector<LetterResolution> settled;
  std::vector<TaskCleared> clears;
};

std::string LetterFileName(std::uint64_t number);  // "letters-00000001"
std::optional<std::uint64_t> ParseLetterFileName(std::string_view name);

// `previous_bytes`: how much of file number - 1 counts.
std::vector<std::byte> MakeLetterFileHeader(std::uint64_t number, std::uint64_t previous_bytes);
// Its previous_bytes, when the bytes are the sound header of this file.
std::optional<std::uint64_t> ParseLetterFileHeader(std::span<const std::byte> bytes,
                                                   std::uint64_t number);

inline constexpr std::size_t kLetterKeyBytes = 26;
void PutLetterKey(ByteWriter& out, const LetterKey& key);
LetterKey GetLetterKey(ByteReader& in);

std::vector<std::byte> EncodeLetter(const DeadLetter& letter);
std::optional<DeadLetter> DecodeLetter(std::span<const std::byte> body);
std::vector<std::byte> EncodeTaskCleared(const TaskCleared& cleared);
std::optional<TaskCleared> DecodeTaskCleared(std::span<const std::byte> body);
std::vector<std::byte> EncodeResolved(std::span<const LetterResolution> resolutions);
std::optional<std::vector<LetterResolution>> DecodeResolved(std::span<const std::byte> body);
std::vector<std::byte> EncodeRetired(const LettersRetired& retired);
std::optional<LettersRetired> DecodeRetired(std::span<const std::byte> body);

// The bytes of an entry that stands at `offset` of file `number`.
std::vector<std::byte> MakeEntry(EntryKind kind, std::span<const std::byte> body,
                                 std::uint64_t number, std::uint64_t offset);

struct EntryView {
  EntryKind kind{};
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  std::span<const std::byte> body;
};
// The sound entry that stands at `offset`, `bytes` being the file from there on.
std::optional<EntryView> ParseEntry(std::span<const std::byte> bytes, std::uint64_t number,
                                    std::uint64_t offset);

struct LetterFileScan {
  std::uint64_t sound_bytes = 0;  // end of the last sound entry, or of the header; 0: not even that
  // [from, to) before sound_bytes that hold nothing sound.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> bad;
};
// Visits the sound entries of a whole file, passing over what is not.
LetterFileScan ScanLetterFile(std::span<const std::byte> bytes, std::uint64_t number,
                              const std::function<void(const EntryView&)>& visit);

}  // namespace taskwal::pipeline

// Scans and decodes files of dead letters: the input as it is, or entries whose bodies come from
// the input and whose checksums are right. What is decoded must survive its encoding unchanged; of
// entries that were made, each comes back as it was, and nothing else does.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "pipeline/flush/letter_file.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using namespace taskwal;  // NOLINT: one small program
using namespace taskwal::pipeline;

constexpr std::uint64_t kNumber = 3;

std::vector<std::byte> Copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

struct Made {
  std::vector<std::byte> file;
  std::vector<std::vector<std::byte>> bodies;
  bool is_forged = false;
  bool is_whole = false;  // nothing but entries
};

Made Forge(FuzzInput input) {
  Made made;
  made.is_forged = made.is_whole = true;
  made.file = MakeLetterFileHeader(kNumber, input.TakeValue<std::uint16_t>());
  while (!input.empty()) {
    const auto shape = input.TakeValue<std::uint8_t>();
    const auto body = input.Take(input.TakeValue<std::uint16_t>());
    if ((shape & 0x80) != 0) {  // bytes that are no entry
      made.file.insert(made.file.end(), body.begin(), body.end());
      made.is_whole = made.is_whole && body.empty();
      continue;
    }
    const auto entry =
        MakeEntry(static_cast<EntryKind>(shape & 7), body, kNumber, made.file.size());
    made.file.insert(made.file.end(), entry.begin(), entry.end());
    made.bodies.push_back(Copy(body));
  }
  return made;
}

void DecodeEntry(const EntryView& entry) {
  if (const auto letter = DecodeLetter(entry.body)) {
    const auto again = DecodeLetter(EncodeLetter(*letter));
    TASKWAL_CHECK(again && again->key() == letter->key() && again->body == letter->body);
    TASKWAL_CHECK(again->metadata == letter->metadata && again->error == letter->error);
  }
  if (const auto cleared = DecodeTaskCleared(entry.body)) {
    TASKWAL_CHECK(EncodeTaskCleared(*cleared) == Copy(entry.body));
  }
  if (const auto resolved = DecodeResolved(entry.body)) {
    TASKWAL_CHECK(EncodeResolved(*resolved) == Copy(entry.body));
  }
  if (const auto retired = DecodeRetired(entry.body)) {
    TASKWAL_CHECK(EncodeRetired(*retired) == Copy(entry.body));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  Made made;
  if ((data[0] & 1) != 0) {
    made.file = Copy(bytes.subspan(1));
  } else {
    made = Forge(FuzzInput(bytes.subspan(1)));
  }
  std::vector<std::vector<std::byte>> seen;
  auto next = made.bodies.begin();
  const LetterFileScan scan = ScanLetterFile(made.file, kNumber, [&](const EntryView& entry) {
    TASKWAL_CHECK(entry.offset < entry.end_offset && entry.end_offset <= made.file.size());
    seen.push_back(Copy(entry.body));
    if (made.is_forged) {
      next = std::find(next, made.bodies.end(), seen.back());
      TASKWAL_CHECK(next != made.bodies.end());
      ++next;
    }
    DecodeEntry(entry);
  });
  TASKWAL_CHECK(scan.sound_bytes <= made.file.size());
  for (const auto& [from, to] : scan.bad) TASKWAL_CHECK(from < to && to <= scan.sound_bytes);
  if (made.is_whole) {
    TASKWAL_CHECK(seen == made.bodies && scan.bad.empty());
    TASKWAL_CHECK(scan.sound_bytes == made.file.size());
  }
  return 0;
}

// Feeds SegmentReader with segment files: the input as it is, or frames whose fields and bodies
// come from the input and whose checksums are right, so that what stands behind a checksum is
// reached too. Of a segment that was made, nothing is found that was not put into it.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/checksum.h"
#include "tests/fuzz/fuzz_file.h"
#include "tests/fuzz/fuzz_input.h"
#include "wal/frame.h"
#include "wal/log_directory.h"
#include "wal/segment_file.h"
#include "wal/segment_reader.h"

namespace {

using namespace taskwal;  // NOLINT: one small program
using namespace taskwal::wal;

constexpr std::uint64_t kNumber = 1;
constexpr std::uint64_t kEpoch = 1;
const Uuid kWalId = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

struct Made {
  std::vector<std::byte> file;
  std::map<std::uint64_t, std::vector<std::byte>> bodies;  // by the offset of their frames
};

void AppendFrame(FuzzInput* input, Made* made) {
  const auto shape = input->TakeValue<std::uint8_t>();
  FrameHeader header{};
  header.magic = (shape & 1) != 0 ? kFooterMagic : kFrameMagic;
  header.header_bytes = sizeof header;
  header.flags = (shape & 2) != 0 ? kFrameZstd : 0;
  header.first_lsn = input->TakeValue<std::uint16_t>();
  header.count = input->TakeValue<std::uint16_t>();
  header.epoch = kEpoch;
  header.synced_lsn = input->TakeValue<std::uint16_t>();
  const auto body = input->Take(input->TakeValue<std::uint16_t>());
  header.body_bytes = static_cast<std::uint32_t>(body.size());
  header.raw_bytes = (shape & 4) != 0 ? input->TakeValue<std::uint32_t>() : header.body_bytes;
  if ((shape & 8) != 0) header.body_bytes = input->TakeValue<std::uint32_t>();

  std::vector<std::byte>* file = &made->file;
  const std::uint64_t offset = file->size();
  const std::uint64_t seed = FrameSeed(kWalId, kNumber, kEpoch);
  header.body_checksum = Checksum(body, seed);
  header.header_checksum =
      Checksum(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8), seed + offset);
  const auto bytes = std::as_bytes(std::span(&header, 1));
  file->insert(file->end(), bytes.begin(), bytes.end());
  file->insert(file->end(), body.begin(), body.end());
  made->bodies[offset] = {body.begin(), body.end()};
  if ((shape & 16) == 0) file->resize(AlignUp(file->size(), kSectorBytes));
}

Made ForgedSegment(FuzzInput input) {
  SegmentHeader header = SegmentFile::MakeHeader(kWalId, kNumber, kEpoch, 16);
  header.first_lsn = 1;
  header.checksum = Checksum(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8));
  Made made;
  made.file.resize(kSegmentHeaderBytes);
  std::memcpy(made.file.data(), &header, sizeof header);
  while (!input.empty()) AppendFrame(&input, &made);
  return made;
}

void WalkRecords(const Frame& frame) {
  FrameRecords records(frame.header, frame.raw);
  RecordView record;
  std::uint64_t seen = 0;
  while (records.Next(&record)) {
    ++seen;
    // The sanitizer sees a body that reaches out of the frame.
    (void)Checksum(record.body);
  }
  TASKWAL_CHECK(seen <= frame.header.count);
  TASKWAL_CHECK(!records.ok() || seen == frame.header.count);
}

void ExpectMade(const Frame& frame, const Made& made) {
  const auto body = made.bodies.find(frame.offset);
  TASKWAL_CHECK(body != made.bodies.end());
  if ((frame.header.flags & kFrameZstd) == 0) TASKWAL_CHECK(frame.raw == body->second);
}

// `made`: what is in it, where that is known.
void ReadAll(const std::string& directory, const Made* made) {
  auto opened = SegmentReader::Open(FileSystem::Real(), directory, kNumber, {kWalId});
  if (!opened.ok()) return;
  SegmentReader& reader = **opened;
  (void)reader.header_padding_clean();
  (void)reader.ReadFooter().ok();
  const auto size = reader.FileBytes();
  TASKWAL_CHECK(size.ok());
  Frame frame;
  std::uint64_t position = reader.position();
  while (true) {
    const auto event = reader.Next(&frame);
    if (!event.ok()) return;
    using Kind = SegmentEvent::Kind;
    const bool is_valid = event->kind == Kind::kFrame || event->kind == Kind::kFooter;
    if (is_valid && made != nullptr) ExpectMade(frame, *made);
    if (event->kind == Kind::kFrame) WalkRecords(frame);
    if (event->kind == Kind::kEnd) return;
    TASKWAL_CHECK(event->offset <= event->end_offset);
    TASKWAL_CHECK(event->end_offset <= AlignUp(*size, kSectorBytes));
    TASKWAL_CHECK(reader.position() > position || event->is_padding);  // it comes to an end
    position = reader.position();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static FuzzDirectory directory;
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  if ((data[0] & 1) != 0) {
    directory.Write(SegmentName(kNumber), bytes.subspan(1));
    ReadAll(directory.path(), nullptr);
  } else {
    const Made made = ForgedSegment(FuzzInput(bytes.subspan(1)));
    directory.Write(SegmentName(kNumber), made.file);
    ReadAll(directory.path(), &made);
  }
  return 0;
}

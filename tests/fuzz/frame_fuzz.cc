// Feeds SegmentReader with segment files: the input as it is, or frames whose fields and bodies
// come from the input and whose checksums are right, so that what stands behind a checksum is
// reached too; or frames as the product packs them, compressed ones among them. Of a segment that
// was made, nothing is found that was not put into it: header, LSNs and records are compared. Where
// all its frames are whole, each is found.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
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
// Of segments made here: no other, since what the corpus has of whole ones would be valid frames in
// the midst of a body, which nobody made.
const Uuid kMadeWalId = {{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}};

struct MadeFrame {
  FrameHeader header{};
  std::optional<std::vector<std::byte>> raw;  // where it is known: of no bytes said to be zstd's
};

struct Made {
  std::vector<std::byte> file;
  std::map<std::uint64_t, MadeFrame> frames;  // by their offset
  bool is_whole = true;                       // each frame is one that a writer could have written
};

void Put(std::span<const std::byte> bytes, std::vector<std::byte>* into) {
  into->insert(into->end(), bytes.begin(), bytes.end());
}

std::uint64_t HeaderChecksum(const FrameHeader& header, std::uint64_t seed, std::uint64_t offset) {
  return Checksum(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8), seed + offset);
}

// Records of all lengths; their bodies repeat themselves, so that they become smaller. `raw`: what
// the frame's body has to be.
void AddRecords(FuzzInput* input, FrameBuilder* builder, std::vector<std::byte>* raw) {
  const auto count = 1 + input->TakeValue<std::uint8_t>() % 8;
  for (int i = 0; i < count; ++i) {
    RecordPrefix prefix{};
    prefix.type = input->TakeValue<std::uint8_t>();
    prefix.target = input->TakeValue<std::uint16_t>();
    prefix.key = input->TakeValue<std::uint64_t>();
    prefix.stamp = input->TakeValue<std::uint32_t>();
    const auto times = input->TakeValue<std::uint8_t>() % 64;
    const auto unit = input->Take(input->TakeValue<std::uint8_t>());
    std::vector<std::byte> body;
    for (int time = 0; time < times; ++time) Put(unit, &body);
    prefix.bytes = static_cast<std::uint32_t>(body.size());
    builder->Add({prefix.type, prefix.target, prefix.key, prefix.stamp}, body);
    Put(std::as_bytes(std::span(&prefix, 1)), raw);
    Put(body, raw);
  }
}

// As the log writer makes one; `is_changed`: with a byte of its body another, and checksums that
// are right.
void AppendPacked(FuzzInput* input, bool compress, bool is_changed, Made* made) {
  std::vector<std::byte>* file = &made->file;
  file->resize(AlignUp(file->size(), kSectorBytes));
  const std::uint64_t offset = file->size();
  const std::uint64_t seed = FrameSeed(kMadeWalId, kNumber, kEpoch);
  const Lsn first_lsn = 1 + input->TakeValue<std::uint16_t>();
  const Lsn synced_lsn = input->TakeValue<std::uint16_t>();
  FrameBuilder builder;
  builder.Reset(first_lsn);
  std::vector<std::byte> raw;
  AddRecords(input, &builder, &raw);
  builder.Pack(compress);
  Put(builder.Finish({seed, offset, kEpoch, synced_lsn}), file);
  MadeFrame& frame = made->frames[offset];
  std::memcpy(&frame.header, file->data() + offset, sizeof frame.header);
  // Not taken from the frame: what it has to say.
  FrameHeader& header = frame.header;
  TASKWAL_CHECK(header.first_lsn == first_lsn && header.synced_lsn == synced_lsn);
  TASKWAL_CHECK(header.count == builder.count() && header.raw_bytes == raw.size());
  if (!is_changed) {
    frame.raw = std::move(raw);
    return;
  }
  made->is_whole = false;
  const std::span<std::byte> body =
      std::span(*file).subspan(offset + sizeof header, header.body_bytes);
  body[input->TakeValue<std::uint16_t>() % body.size()] ^= std::byte{1};
  header.body_checksum = Checksum(body, seed);
  header.header_checksum = HeaderChecksum(header, seed, offset);
  std::memcpy(file->data() + offset, &header, sizeof header);
  if ((header.flags & kFrameZstd) == 0) frame.raw.emplace(body.begin(), body.end());
}

void AppendForged(FuzzInput* input, std::uint8_t shape, Made* made) {
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
  const std::uint64_t seed = FrameSeed(kMadeWalId, kNumber, kEpoch);
  header.body_checksum = Checksum(body, seed);
  header.header_checksum = HeaderChecksum(header, seed, offset);
  Put(std::as_bytes(std::span(&header, 1)), file);
  Put(body, file);
  made->is_whole = false;
  MadeFrame& frame = made->frames[offset];
  frame.header = header;
  if ((header.flags & kFrameZstd) == 0) frame.raw.emplace(body.begin(), body.end());
  if ((shape & 16) == 0) file->resize(AlignUp(file->size(), kSectorBytes));
}

void AppendFrame(FuzzInput* input, Made* made) {
  const auto shape = input->TakeValue<std::uint8_t>();
  if ((shape & 32) == 0) return AppendForged(input, shape, made);
  AppendPacked(input, (shape & 2) != 0, (shape & 64) != 0, made);
}

Made ForgedSegment(FuzzInput input) {
  SegmentHeader header = SegmentFile::MakeHeader(kMadeWalId, kNumber, kEpoch, 16);
  header.first_lsn = 1;
  header.checksum = Checksum(std::as_bytes(std::span(&header, 1)).first(sizeof header - 8));
  Made made;
  made.file.resize(kSegmentHeaderBytes);
  std::memcpy(made.file.data(), &header, sizeof header);
  while (!input.empty()) AppendFrame(&input, &made);
  return made;
}

// `raw`: the body by which each record is told, where it is known.
void WalkRecords(const Frame& frame, const std::vector<std::byte>* raw) {
  FrameRecords records(frame.header, frame.raw);
  RecordView record;
  std::uint64_t seen = 0;
  std::size_t at = 0;
  while (records.Next(&record)) {
    // The sanitizer sees a body that reaches out of the frame.
    (void)Checksum(record.body);
    TASKWAL_CHECK(record.lsn == frame.header.first_lsn + seen);
    ++seen;
    if (raw == nullptr) continue;
    RecordPrefix prefix;
    TASKWAL_CHECK(raw->size() - at >= sizeof prefix);
    std::memcpy(&prefix, raw->data() + at, sizeof prefix);
    at += sizeof prefix;
    const RecordHeader& header = record.header;
    TASKWAL_CHECK(header.type == prefix.type && header.target == prefix.target);
    TASKWAL_CHECK(header.key == prefix.key && header.stamp == prefix.stamp);
    TASKWAL_CHECK(record.body.size() == prefix.bytes && raw->size() - at >= prefix.bytes);
    const auto body = std::span(*raw).subspan(at, prefix.bytes);
    TASKWAL_CHECK(std::equal(body.begin(), body.end(), record.body.begin()));
    at += prefix.bytes;
  }
  TASKWAL_CHECK(seen <= frame.header.count);
  TASKWAL_CHECK(!records.ok() || seen == frame.header.count);
  TASKWAL_CHECK(raw == nullptr || !records.ok() || at == raw->size());
}

// Null: nobody knows.
const std::vector<std::byte>* ExpectMade(const Frame& frame, const Made& made) {
  const auto found = made.frames.find(frame.offset);
  TASKWAL_CHECK(found != made.frames.end());
  const auto& [header, raw] = found->second;
  TASKWAL_CHECK(std::memcmp(&frame.header, &header, sizeof header) == 0);
  if (!raw) return nullptr;
  TASKWAL_CHECK(frame.raw == *raw);
  return &*raw;
}

// `made`: what is in it, where that is known.
void ReadAll(const std::string& directory, const Made* made) {
  const Uuid& wal_id = made == nullptr ? kWalId : kMadeWalId;
  auto opened = SegmentReader::Open(FileSystem::Real(), directory, kNumber, {wal_id});
  if (!opened.ok()) return;
  SegmentReader& reader = **opened;
  (void)reader.header_padding_clean();
  (void)reader.ReadFooter().ok();
  const auto size = reader.FileBytes();
  TASKWAL_CHECK(size.ok());
  Frame frame;
  std::size_t found = 0;
  std::uint64_t position = reader.position();
  while (true) {
    const auto event = reader.Next(&frame);
    if (!event.ok()) return;
    using Kind = SegmentEvent::Kind;
    const bool is_valid = event->kind == Kind::kFrame || event->kind == Kind::kFooter;
    const auto* raw = is_valid && made != nullptr ? ExpectMade(frame, *made) : nullptr;
    if (is_valid) ++found;
    if (event->kind == Kind::kFrame) WalkRecords(frame, raw);
    if (event->kind == Kind::kEnd) break;
    TASKWAL_CHECK(event->offset <= event->end_offset);
    TASKWAL_CHECK(event->end_offset <= AlignUp(*size, kSectorBytes));
    TASKWAL_CHECK(reader.position() > position || event->is_padding);  // it comes to an end
    position = reader.position();
  }
  TASKWAL_CHECK(made == nullptr || !made->is_whole || found == made->frames.size());
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

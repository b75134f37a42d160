// Rescues what a killed process left in its ring: slots published, claimed, or not begun, with the
// checksums they would have; then, by choice, bytes of the ring or its header changed. Whatever is
// rescued was published under that LSN, without a gap; and of an unchanged ring of this boot, all
// of it is.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/checksum.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/support/forwarding_file_system.h"
#include "wal/ring_buffer.h"

namespace {

using namespace taskwal;  // NOLINT: one small program
using namespace taskwal::wal;

constexpr std::uint64_t kRingBytes = 4096;
constexpr Lsn kFirstLsn = 1000;
constexpr Lsn kLateLsn = (Lsn{1} << 32) - 3;  // the low half runs over soon
const Uuid kWalId = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
const Uuid kBootId = {{7}};
constexpr std::uint64_t kEpoch = 3;

// The bytes of a RING file. The second half of the address space repeats the first.
struct RingImage {
  alignas(64) std::byte header[4096] = {};
  alignas(64) std::byte ring[2 * kRingBytes] = {};

  RingHeader& head() { return *reinterpret_cast<RingHeader*>(header); }
  void Mirror() { std::memcpy(ring + kRingBytes, ring, kRingBytes); }
};

class ImageFile final : public RingFile {
 public:
  explicit ImageFile(RingImage& image) : image_(image) {}
  std::span<std::byte> header() override { return image_.header; }
  std::byte* ring() override { return image_.ring; }
  std::uint64_t ring_bytes() const override { return kRingBytes; }

 private:
  RingImage& image_;
};

class ImageFileSystem final : public ForwardingFileSystem {
 public:
  explicit ImageFileSystem(RingImage& image)
      : ForwardingFileSystem(FileSystem::Real()), image_(image) {}
  Result<std::unique_ptr<RingFile>> OpenRing(const std::string&) override {
    return std::unique_ptr<RingFile>(std::make_unique<ImageFile>(image_));
  }
  Result<Uuid> BootId() override { return kBootId; }

 private:
  RingImage& image_;
};

using Bodies = std::map<Lsn, std::vector<std::byte>>;

std::uint64_t PackPosition(Lsn next_lsn, std::uint64_t bytes) {
  return next_lsn << 32 | bytes / 8;
}

// Puts a slot into the ring at `at`, which may wrap; returns its size, 0 where it has no room.
std::uint64_t AppendSlot(FuzzInput* input, std::uint64_t at, std::uint64_t room, Lsn lsn,
                         RingImage* image, Bodies* published) {
  enum Shape { kPublished, kLarge, kClaimed, kNotBegun, kShapes };
  const auto shape = static_cast<Shape>(input->TakeValue<std::uint8_t>() % kShapes);
  const auto body = input->Take(input->TakeValue<std::uint8_t>());
  const std::uint64_t bytes = RingBuffer::SlotBytes(body.size());
  if (bytes > room) return 0;
  if (shape == kNotBegun) return bytes;
  alignas(64) std::byte place[sizeof(RingSlot) + 256] = {};
  auto* slot = reinterpret_cast<RingSlot*>(place);
  slot->lsn = lsn;
  slot->key = lsn * 7;
  slot->stamp = lsn * 11;
  slot->target = static_cast<std::uint16_t>(lsn * 13);
  slot->type = kFirstUserType;
  slot->flags = shape == kLarge ? kSlotLarge : 0;
  std::copy(body.begin(), body.end(), place + sizeof(RingSlot));
  constexpr std::size_t kChecked = offsetof(RingSlot, key);
  const std::uint64_t seed = Checksum(std::as_bytes(std::span(&kEpoch, 1)),
                                      Checksum(std::as_bytes(std::span(kWalId.bytes)))) +
                             lsn;
  slot->checksum = static_cast<std::uint32_t>(
      Checksum({place + kChecked, sizeof(RingSlot) - kChecked + body.size()}, seed));
  const auto state = static_cast<std::int32_t>(body.size() + 1);
  slot->state = shape == kClaimed ? -state : state;
  if (shape == kPublished) published->emplace(lsn, std::vector(body.begin(), body.end()));
  for (std::uint64_t i = 0; i < bytes; ++i) image->ring[(at + i) % kRingBytes] = place[i];
  return bytes;
}

struct Forged {
  Lsn first_lsn = kFirstLsn;
  bool is_sound = false;  // left as a process leaves it
};
Forged Forge(FuzzInput* input, RingImage* image, Bodies* published) {
  RingHeader& header = image->head();
  std::memcpy(header.magic, "TWALRNG\1", 8);
  header.version = kRingVersion;
  header.epoch = kEpoch;
  header.header_bytes = sizeof image->header;
  header.wal_id = kWalId;
  header.ring_bytes = kRingBytes;
  const auto how = input->TakeValue<std::uint8_t>();
  header.boot_id = (how & 1) != 0 ? Uuid{{8}} : kBootId;
  const Lsn first = (how & 4) != 0 ? kLateLsn : kFirstLsn;
  const std::uint64_t begin = input->TakeValue<std::uint16_t>() % (kRingBytes / 8) * 8;
  const auto slots = input->TakeValue<std::uint8_t>();
  std::uint64_t at = begin;
  Lsn lsn = first;
  for (int i = 0; i < slots; ++i) {
    const std::uint64_t bytes =
        AppendSlot(input, at, begin + kRingBytes - at, lsn, image, published);
    if (bytes == 0) break;
    at += bytes;
    ++lsn;
  }
  header.released = PackPosition(first, begin);
  header.consumed = PackPosition(first, begin);
  header.claimed = PackPosition(lsn, at);
  header.released_lsn = first;
  const auto changes = (how & 2) != 0 ? input->TakeValue<std::uint8_t>() % 8 : 0;
  for (int i = 0; i < changes; ++i) {
    const std::size_t where = input->TakeValue<std::uint16_t>() % (128 + kRingBytes);
    const auto value = input->TakeValue<std::byte>();
    // The words of the header are changed, too: they may be older or newer than the slots.
    (where < 128 ? image->header[128 + where * 2 % 256] : image->ring[where - 128]) = value;
  }
  image->Mirror();
  return {first, changes == 0 && (how & 1) == 0};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzInput input(std::as_bytes(std::span(data, size)));
  const auto image = std::make_unique<RingImage>();
  Bodies published;
  const Forged forged = Forge(&input, image.get(), &published);
  ImageFileSystem fs(*image);
  const auto rescue = RescueRing(fs, "RING", {kWalId}, forged.first_lsn);
  TASKWAL_CHECK(rescue.ok());
  Lsn next = forged.first_lsn;
  std::size_t rescued = 0;
  for (const RecordView& record : rescue->records) {
    TASKWAL_CHECK(record.lsn == next++);
    if (record.header.type == kVoidRecord) continue;
    ++rescued;
    const auto written = published.find(record.lsn);
    TASKWAL_CHECK(written != published.end());
    const RecordHeader& header = record.header;
    TASKWAL_CHECK(header.type == kFirstUserType && header.key == record.lsn * 7 &&
                  header.stamp == record.lsn * 11 &&
                  header.target == static_cast<std::uint16_t>(record.lsn * 13));
    TASKWAL_CHECK(std::equal(record.body.begin(), record.body.end(), written->second.begin(),
                             written->second.end()));
  }
  if (forged.is_sound) TASKWAL_CHECK(rescued == published.size());
  return 0;
}

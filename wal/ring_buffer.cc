#include "wal/ring_buffer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/check.h"
#include "base/checksum.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

namespace {

constexpr char kMagic[8] = {'T', 'W', 'A', 'L', 'R', 'N', 'G', 1};
constexpr std::uint64_t kUnit = 8;

constexpr std::uint64_t kClosedBit = 1u << 31;
constexpr std::uint32_t kUnitsMask = kClosedBit - 1;

constexpr std::uint64_t Pack(Lsn next_lsn, std::uint64_t bytes) {
  return (next_lsn << 32) | (static_cast<std::uint32_t>(bytes / kUnit) & kUnitsMask);
}
constexpr std::uint32_t UnitsOf(std::uint64_t word) {
  return static_cast<std::uint32_t>(word) & kUnitsMask;
}
constexpr std::uint32_t UnitsBetween(std::uint64_t from, std::uint64_t to) {
  return (UnitsOf(to) - UnitsOf(from)) & kUnitsMask;
}
constexpr std::uint32_t LsnBitsOf(std::uint64_t word) {
  return static_cast<std::uint32_t>(word >> 32);
}

// The LSN with these low bits that is nearest to `near`.
Lsn WholeLsn(std::uint32_t bits, Lsn near) {
  return near + static_cast<std::uint64_t>(static_cast<std::int64_t>(
                    static_cast<std::int32_t>(bits - static_cast<std::uint32_t>(near))));
}

// With the epoch: pages of an earlier ring that a loss of power leaves behind a newer header must
// not validate under it. (Version 1 was without.)
std::uint64_t SeedOf(const RingHeader& header) {
  const std::uint64_t seed = Checksum(std::as_bytes(std::span(header.wal_id.bytes)));
  if (header.version == 1) return seed;
  return Checksum(std::as_bytes(std::span(&header.epoch, 1)), seed);
}

std::uint32_t SlotChecksum(const RingSlot* slot, std::size_t body_bytes, std::uint64_t seed,
                           Lsn lsn) {
  constexpr std::size_t kFrom = offsetof(RingSlot, key);
  const auto* from = reinterpret_cast<const std::byte*>(slot) + kFrom;
  return static_cast<std::uint32_t>(
      Checksum({from, sizeof(RingSlot) - kFrom + body_bytes}, seed + lsn));
}

}  // namespace

Result<std::unique_ptr<RingBuffer>> RingBuffer::Create(FileSystem& fs, const std::string& path,
                                                       std::uint64_t ring_bytes, const Uuid& wal_id,
                                                       std::uint64_t epoch, Lsn next_lsn) {
  TASKWAL_ASSIGN(const Uuid boot_id, fs.BootId());
  TASKWAL_ASSIGN(std::unique_ptr<RingFile> file, fs.CreateRing(path, ring_bytes));
  std::unique_ptr<RingBuffer> ring(new RingBuffer());
  ring->header_ = new (file->header().data()) RingHeader{};
  ring->ring_ = file->ring();
  ring->ring_bytes_ = ring_bytes;
  ring->released_ = {0, next_lsn};
  RingHeader& header = *ring->header_;
  header.version = kRingVersion;
  header.header_bytes = kSegmentHeaderBytes;
  header.wal_id = wal_id;
  header.ring_bytes = ring_bytes;
  header.boot_id = boot_id;
  header.epoch = epoch;
  ring->seed_ = SeedOf(header);
  header.claimed.store(Pack(next_lsn, 0), std::memory_order_relaxed);
  header.released.store(Pack(next_lsn, 0), std::memory_order_relaxed);
  header.consumed.store(Pack(next_lsn, 0), std::memory_order_relaxed);
  header.released_lsn.store(next_lsn, std::memory_order_relaxed);
  // Last, so that a ring found with the magic is whole.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  ring->file_ = std::move(file);
  return ring;
}

RingBuffer::Claim RingBuffer::TryClaim(const RecordHeader& header, std::size_t body_bytes,
                                       std::uint8_t flags) {
  const std::uint64_t need = SlotBytes(body_bytes);
  const auto need_units = static_cast<std::uint32_t>(need / kUnit);
  const auto all_units = static_cast<std::uint32_t>(ring_bytes_ / kUnit);
  std::uint64_t word = header_->claimed.load(std::memory_order_relaxed);
  std::uint64_t next;
  do {
    if ((word & kClosedBit) != 0) return {};
    // Pairs with the release store in Release: the space is seen zeroed before it is written again.
    const std::uint64_t released = header_->released.load(std::memory_order_acquire);
    if (UnitsBetween(released, word) + need_units > all_units) return {};
    next = (std::uint64_t{LsnBitsOf(word) + 1} << 32) | ((UnitsOf(word) + need_units) & kUnitsMask);
    // Acquire and release: a claim is ordered after the claim it builds on.
  } while (!header_->claimed.compare_exchange_weak(word, next, std::memory_order_acq_rel,
                                                   std::memory_order_relaxed));
  // Never more than a ring's worth of records below: the high half cannot be mistaken.
  const Lsn lsn = WholeLsn(LsnBitsOf(word), header_->released_lsn.load(std::memory_order_relaxed));
  auto* slot = reinterpret_cast<RingSlot*>(
      ring_ + (std::uint64_t{UnitsOf(word)} * kUnit & (ring_bytes_ - 1)));
  slot->lsn = lsn;
  // Release: a rescuer that finds the length finds the LSN too. Crash before: a zero slot; after: a
  // claimed one. Both become a void record.
  slot->state.store(-static_cast<std::int32_t>(body_bytes + 1), std::memory_order_release);
  // No store of the body may come before it: in a slot without a header the rescue looks for the
  // next header, and a body may look like one. (A kill sees a processor's stores in its order.)
  std::atomic_signal_fence(std::memory_order_seq_cst);
  slot->key = header.key;
  slot->stamp = header.stamp;
  slot->type = header.type;
  slot->flags = flags;
  slot->target = header.target;
  slot->reserved = 0;
  return {slot, lsn};
}

void RingBuffer::Publish(RingSlot* slot, Lsn lsn, std::size_t body_bytes) {
  slot->checksum = SlotChecksum(slot, body_bytes, seed_, lsn);
  // Pairs with the acquire load in Read. Crash before: never acknowledged; after: rescued.
  slot->state.store(static_cast<std::int32_t>(body_bytes + 1), std::memory_order_release);
}

// Pairs with the claim's compare-and-swap: nothing is read beyond what was claimed (a full ring
// would otherwise be walked twice).
RingBuffer::Limit RingBuffer::Claimed() const {
  return {UnitsOf(header_->claimed.load(std::memory_order_acquire))};
}

bool RingBuffer::ReadUpTo(const Limit& limit, const RingPosition& at, RecordView* record,
                          std::uint8_t* flags, RingPosition* next) const {
  if (limit.units == (static_cast<std::uint32_t>(at.bytes / kUnit) & kUnitsMask)) return false;
  auto* slot = reinterpret_cast<RingSlot*>(ring_ + (at.bytes & (ring_bytes_ - 1)));
  const std::int32_t state = slot->state.load(std::memory_order_acquire);
  if (state <= 0) return false;
  const auto body_bytes = static_cast<std::size_t>(state - 1);
  TASKWAL_CHECK(slot->lsn == at.next_lsn);
  record->lsn = slot->lsn;
  record->header = {slot->type, slot->target, slot->key, slot->stamp};
  record->body = BodyOf(slot, body_bytes);
  *flags = slot->flags;
  *next = {at.bytes + SlotBytes(body_bytes), at.next_lsn + 1};
  return true;
}

void RingBuffer::Release(const RingPosition& to) {
  const std::uint64_t size = to.bytes - released_.bytes;
  if (size == 0) return;
  header_->consumed.store(Pack(to.next_lsn, to.bytes), std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memset(ring_ + (released_.bytes & (ring_bytes_ - 1)), 0, size);
  released_ = to;
  header_->released_lsn.store(to.next_lsn, std::memory_order_relaxed);
  // Pairs with the acquire load in TryClaim: whoever claims this space finds it zero.
  header_->released.store(Pack(to.next_lsn, to.bytes), std::memory_order_release);
}

void RingBuffer::CloseForClaims() {
  header_->claimed.fetch_or(kClosedBit, std::memory_order_acq_rel);
}

Lsn RingBuffer::end_lsn() const {
  const std::uint64_t word = header_->claimed.load(std::memory_order_acquire);
  return WholeLsn(LsnBitsOf(word), header_->released_lsn.load(std::memory_order_acquire)) - 1;
}

std::uint64_t RingBuffer::used_bytes() const {
  const std::uint64_t released = header_->released.load(std::memory_order_relaxed);
  const std::uint64_t claimed = header_->claimed.load(std::memory_order_relaxed);
  const std::uint64_t used = UnitsBetween(released, claimed) * kUnit;
  return used > ring_bytes_ ? 0 : used;  // the two loads are not one
}

namespace {

// Walks what a killed process left between `consumed` and `claimed`.
class RingWalk {
 public:
  RingWalk(RingFile& file, const RingHeader& header, Lsn near, bool same_boot)
      : ring_(file.ring()),
        ring_bytes_(header.ring_bytes),
        seed_(SeedOf(header)),
        same_boot_(same_boot) {
    // On another boot the log may lack what had been consumed when the pages were written back.
    const std::uint64_t first = same_boot ? header.consumed.load(std::memory_order_relaxed)
                                          : header.released.load(std::memory_order_relaxed);
    const std::uint64_t claimed = header.claimed.load(std::memory_order_relaxed);
    start_ = std::uint64_t{UnitsOf(first)} * kUnit & (ring_bytes_ - 1);
    lsn_ = WholeLsn(LsnBitsOf(first), near);
    const std::uint64_t span = std::uint64_t{UnitsBetween(first, claimed)} * kUnit;
    // On another boot the header page may be older or newer than the slots: validation alone
    // decides.
    left_ = same_boot ? (span <= ring_bytes_ ? span : 0) : ring_bytes_;
  }

  [[nodiscard]] Lsn lsn() const { return lsn_; }

  // The next record, void ones included; false at the end.
  bool Next(RecordView* record) {
    if (voids_ > 0) {
      --voids_;
      *record = VoidRecord(lsn_++);
      return true;
    }
    if (left_ < sizeof(RingSlot)) return false;
    const std::int32_t state = Published(0, lsn_);
    if (state > 0) {
      Take(state, record);
      return true;
    }
    if (!same_boot_) return false;
    return StepOver(record);
  }

 private:
  static RecordView VoidRecord(Lsn lsn) { return {lsn, {kVoidRecord, 0, 0, 0}, {}}; }
  RingSlot* SlotAt(std::uint64_t offset) const {
    return reinterpret_cast<RingSlot*>(ring_ + ((start_ + offset) & (ring_bytes_ - 1)));
  }

  // The state of a slot that holds `lsn`, validated: positive when published, negative when
  // claimed, 0 for anything else.
  std::int32_t Published(std::uint64_t offset, Lsn lsn) const {
    const RingSlot* slot = SlotAt(offset);
    const std::int32_t state = slot->state.load(std::memory_order_acquire);
    if (state == 0 || state == INT32_MIN || slot->lsn != lsn) return 0;
    const auto body_bytes = static_cast<std::size_t>(std::abs(state)) - 1;
    if (RingBuffer::SlotBytes(body_bytes) > left_ - offset) return 0;
    if (state > 0 && SlotChecksum(slot, body_bytes, seed_, lsn) != slot->checksum) return 0;
    return state;
  }

  void Take(std::int32_t state, RecordView* record) {
    RingSlot* slot = SlotAt(0);
    const auto body_bytes = static_cast<std::size_t>(state - 1);
    // A large record's body died with its process; it was not acknowledged.
    if ((slot->flags & kSlotLarge) != 0) {
      *record = VoidRecord(lsn_);
    } else {
      record->lsn = lsn_;
      record->header = {slot->type, slot->target, slot->key, slot->stamp};
      record->body = RingBuffer::BodyOf(slot, body_bytes);
    }
    Skip(RingBuffer::SlotBytes(body_bytes));
    ++lsn_;
  }

  // A slot that its producer did not live to publish. A claimed one tells its length; behind a zero
  // one the next header is searched: its LSN tells how many records never came to be.
  bool StepOver(RecordView* record) {
    const std::int32_t state = Published(0, lsn_);
    if (state < 0) {
      Skip(RingBuffer::SlotBytes(static_cast<std::size_t>(-state) - 1));
      *record = VoidRecord(lsn_++);
      return true;
    }
    for (std::uint64_t offset = sizeof(RingSlot); offset + sizeof(RingSlot) <= left_;
         offset += kUnit) {
      const Lsn found = SlotAt(offset)->lsn;
      if (found <= lsn_ || found - lsn_ > offset / sizeof(RingSlot)) continue;
      if (Published(offset, found) == 0) continue;
      voids_ = found - lsn_;
      Skip(offset);
      return Next(record);
    }
    return false;
  }

  void Skip(std::uint64_t bytes) {
    start_ += bytes;
    left_ -= bytes;
  }

  std::byte* ring_;
  std::uint64_t ring_bytes_;
  std::uint64_t seed_;
  bool same_boot_;
  std::uint64_t start_ = 0;
  std::uint64_t left_ = 0;
  Lsn lsn_ = 0;
  Lsn voids_ = 0;
};

}  // namespace

Result<Rescue> RescueRing(FileSystem& fs, const std::string& path, const std::vector<Uuid>& wal_ids,
                          Lsn next_lsn) {
  Rescue rescue;
  Result<std::unique_ptr<RingFile>> opened = fs.OpenRing(path);
  if (opened.status().code() == StatusCode::kNotFound) return rescue;
  if (opened.status().code() == StatusCode::kCorruption) {
    rescue.refused = opened.status().message();  // half made: its process never used it
    return rescue;
  }
  if (!opened.ok()) return opened.status();
  std::unique_ptr<RingFile> file = std::move(opened).value();
  const auto& header = *reinterpret_cast<const RingHeader*>(file->header().data());
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 ||
      header.version < 1 || header.version > kRingVersion ||
      header.ring_bytes != file->ring_bytes() ||
      std::find(wal_ids.begin(), wal_ids.end(), header.wal_id) == wal_ids.end()) {
    rescue.refused = "not a ring of this log";
    return rescue;
  }
  TASKWAL_ASSIGN(const Uuid boot_id, fs.BootId());
  rescue.same_boot = header.boot_id == boot_id;
  RingWalk walk(*file, header, next_lsn, rescue.same_boot);
  if (walk.lsn() > next_lsn) {
    rescue.refused = "it starts behind the end of the log";
    return rescue;
  }
  RecordView record;
  std::size_t whole = 0;  // up to the last record that is not void
  while (walk.Next(&record)) {
    if (record.lsn < next_lsn) continue;
    // A large record's body went with the power, and nothing that came later may outlive it.
    if (!rescue.same_boot && record.header.type == kVoidRecord) break;
    rescue.records.push_back(record);
    if (record.header.type != kVoidRecord) whole = rescue.records.size();
  }
  rescue.records.resize(whole);
  rescue.file = std::move(file);
  return rescue;
}

Result<std::uint64_t> CountRingRecords(FileSystem& fs, const std::string& directory,
                                       const std::vector<Uuid>& wal_ids, Lsn next_lsn) {
  TASKWAL_ASSIGN(const Rescue rescue,
                 RescueRing(fs, JoinPath(directory, kRingFileName), wal_ids, next_lsn));
  std::uint64_t count = 0;
  for (const RecordView& record : rescue.records) {
    if (record.header.type != kVoidRecord) ++count;
  }
  return count;
}

}  // namespace taskwal::wal

#include "wal/frame.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "base/byte_codec.h"
#include "base/check.h"
#include "base/checksum.h"

namespace taskwal::wal {

namespace {

constexpr int kZstdLevel = 1;
constexpr std::size_t kBytesKept = 4u << 20;

std::uint64_t HeaderChecksum(const FrameHeader& header, std::uint64_t seed, std::uint64_t offset) {
  const auto bytes =
      std::as_bytes(std::span(&header, 1)).first(offsetof(FrameHeader, header_checksum));
  return Checksum(bytes, seed + offset);
}

FrameHeader MakeHeader(std::uint32_t magic, Lsn first_lsn,
                       const FrameBuilder::Placement& placement) {
  FrameHeader header{};
  header.magic = magic;
  header.header_bytes = sizeof(FrameHeader);
  header.first_lsn = first_lsn;
  header.epoch = placement.epoch;
  header.synced_lsn = placement.synced_lsn;
  return header;
}

}  // namespace

std::uint64_t FrameSeed(const Uuid& wal_id, std::uint64_t segment_number, std::uint64_t epoch) {
  std::byte bytes[32];
  std::memcpy(bytes, wal_id.bytes.data(), 16);
  StoreLittle(bytes + 16, segment_number);
  StoreLittle(bytes + 24, epoch);
  return Checksum(bytes);
}

void FrameBuilder::Reset(Lsn first_lsn) {
  if (buffer_.size() > kBytesKept) buffer_ = {};
  if (packed_.size() > kBytesKept) packed_ = {};
  if (buffer_.size() < sizeof(FrameHeader)) buffer_.resize(sizeof(FrameHeader));
  used_ = sizeof(FrameHeader);
  first_lsn_ = first_lsn;
  count_ = 0;
  stamp_max_ = 0;
  is_packed_ = false;
  is_compressed_ = false;
}

void FrameBuilder::Add(const RecordHeader& header, std::span<const std::byte> body) {
  const RecordPrefix prefix{static_cast<std::uint32_t>(body.size()),
                            header.type,
                            0,
                            header.target,
                            header.key,
                            header.stamp};
  const std::size_t need = used_ + sizeof prefix + body.size();
  // Sized ahead and kept: growing by each record would write every byte twice.
  if (buffer_.size() < need) buffer_.resize(std::max(need, 2 * buffer_.size()));
  std::memcpy(buffer_.data() + used_, &prefix, sizeof prefix);
  if (!body.empty()) std::memcpy(buffer_.data() + used_ + sizeof prefix, body.data(), body.size());
  used_ = need;
  ++count_;
  stamp_max_ = std::max(stamp_max_, header.stamp);
}

std::uint64_t FrameBuilder::Pack(bool compress) {
  TASKWAL_CHECK(!is_packed_ && body_bytes() <= kFrameBodyBytesMax);
  is_packed_ = true;
  raw_bytes_ = stored_bytes_ = static_cast<std::uint32_t>(body_bytes());
  if (compress && raw_bytes_ > kSectorBytes) {
    packed_.resize(sizeof(FrameHeader) + ZSTD_compressBound(raw_bytes_));
    const std::size_t size =
        ZSTD_compress(packed_.data() + sizeof(FrameHeader), packed_.size() - sizeof(FrameHeader),
                      buffer_.data() + sizeof(FrameHeader), raw_bytes_, kZstdLevel);
    is_compressed_ = ZSTD_isError(size) == 0 && size < raw_bytes_;
    if (is_compressed_) stored_bytes_ = static_cast<std::uint32_t>(size);
  }
  return AlignUp(sizeof(FrameHeader) + stored_bytes_, kSectorBytes);
}

std::span<const std::byte> FrameBuilder::Finish(const Placement& placement) {
  if (!is_packed_) Pack(false);
  FrameHeader header = MakeHeader(kFrameMagic, first_lsn_, placement);
  header.count = count_;
  header.raw_bytes = raw_bytes_;
  header.body_bytes = stored_bytes_;
  if (is_compressed_) header.flags |= kFrameZstd;
  std::vector<std::byte>& out = is_compressed_ ? packed_ : buffer_;
  const std::size_t used = sizeof(FrameHeader) + stored_bytes_;
  header.body_checksum =
      Checksum(std::span(out).subspan(sizeof(FrameHeader), stored_bytes_), placement.seed);
  header.header_checksum = HeaderChecksum(header, placement.seed, placement.offset);
  const std::size_t size = AlignUp(used, kSectorBytes);
  if (out.size() < size) out.resize(size);
  std::memcpy(out.data(), &header, sizeof header);
  std::memset(out.data() + used, 0, size - used);
  return {out.data(), size};
}

std::vector<std::byte> MakeFooter(const FooterSummary& summary, std::span<const FooterEntry> index,
                                  const FrameBuilder::Placement& placement) {
  const std::size_t body = sizeof summary + index.size_bytes();
  std::vector<std::byte> bytes(AlignUp(sizeof(FrameHeader) + body, kSectorBytes));
  std::memcpy(bytes.data() + sizeof(FrameHeader), &summary, sizeof summary);
  if (!index.empty()) {
    std::memcpy(bytes.data() + sizeof(FrameHeader) + sizeof summary, index.data(),
                index.size_bytes());
  }
  FrameHeader header = MakeHeader(kFooterMagic, summary.last_lsn + 1, placement);
  header.body_bytes = static_cast<std::uint32_t>(body);
  header.raw_bytes = header.body_bytes;
  header.body_checksum = Checksum(std::span(bytes).subspan(sizeof header, body), placement.seed);
  header.header_checksum = HeaderChecksum(header, placement.seed, placement.offset);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

bool IsFrameHeader(std::span<const std::byte> bytes, std::uint64_t offset, const Uuid& wal_id,
                   std::uint64_t segment_number, std::uint64_t epoch, FrameHeader* header) {
  if (bytes.size() < sizeof(FrameHeader)) return false;
  std::memcpy(header, bytes.data(), sizeof *header);
  if (header->magic != kFrameMagic && header->magic != kFooterMagic) return false;
  if (epoch != 0 && header->epoch != epoch) return false;
  const std::uint64_t seed = FrameSeed(wal_id, segment_number, header->epoch);
  return header->header_checksum == HeaderChecksum(*header, seed, offset);
}

bool IsFrameBody(const FrameHeader& header, const Uuid& wal_id, std::uint64_t segment_number,
                 std::span<const std::byte> stored) {
  return stored.size() == header.body_bytes &&
         Checksum(stored, FrameSeed(wal_id, segment_number, header.epoch)) == header.body_checksum;
}

bool UnpackFrameBody(const FrameHeader& header, std::span<const std::byte> stored,
                     std::vector<std::byte>* raw) {
  if ((header.flags & kFrameZstd) == 0) {
    raw->assign(stored.begin(), stored.end());
    return stored.size() == header.raw_bytes;
  }
  // Looked at before there is so much memory for it.
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != header.raw_bytes) return false;
  raw->resize(header.raw_bytes);
  return ZSTD_decompress(raw->data(), raw->size(), stored.data(), stored.size()) ==
         header.raw_bytes;
}

bool FrameRecords::Next(RecordView* record) {
  if (left_ == 0) {
    if (!bytes_.empty()) ok_ = false;
    return false;
  }
  RecordPrefix prefix;
  if (bytes_.size() < sizeof prefix) return ok_ = false;
  std::memcpy(&prefix, bytes_.data(), sizeof prefix);
  if (bytes_.size() - sizeof prefix < prefix.bytes) return ok_ = false;
  record->lsn = next_lsn_++;
  record->header = {prefix.type, prefix.target, prefix.key, prefix.stamp};
  record->body = bytes_.subspan(sizeof prefix, prefix.bytes);
  bytes_ = bytes_.subspan(sizeof prefix + prefix.bytes);
  --left_;
  return true;
}

}  // namespace taskwal::wal

#include "wal/segment_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/byte_codec.h"
#include "base/checksum.h"
#include "base/status_macros.h"
#include "wal/log_directory.h"

namespace taskwal::wal {

namespace {

constexpr std::size_t kWindowBytes = 1u << 20;  // read ahead
constexpr std::size_t kPeekBytes = 4096;        // read where something new is hoped for
constexpr std::size_t kBackwardBytes = 64u << 10;
constexpr char kMagic[8] = {'T', 'W', 'A', 'L', 'S', 'E', 'G', '\1'};

// Compares the bytes with themselves one further on: as fast as memcmp.
bool IsZero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

bool HasMagic(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(FrameHeader)) return false;
  const auto magic = LoadLittle<std::uint32_t>(bytes.data());
  return magic == kFrameMagic || magic == kFooterMagic;
}

// Whether the body holds what a checksummed header says; otherwise a program wrote nonsense.
bool IsWellFormed(const FrameHeader& header, std::span<const std::byte> raw) {
  if (header.magic == kFooterMagic) {
    if (raw.size() < sizeof(FooterSummary)) return false;
    const auto summary = LoadLittle<FooterSummary>(raw.data());
    return raw.size() == sizeof summary + std::uint64_t{summary.index_count} * sizeof(FooterEntry);
  }
  FrameRecords records(header, raw);
  RecordView record;
  while (records.Next(&record)) {
  }
  return records.ok();
}

// Compressed ones go through the window: there they are small.
bool IsReadInPlace(const FrameHeader& header) {
  return (header.flags & kFrameZstd) == 0 && header.body_bytes > kWindowBytes;
}

}  // namespace

struct SegmentReader::Impl {
  std::unique_ptr<ReadableFile> file;
  std::string path;
  std::uint64_t number = 0;
  std::vector<Uuid> wal_ids;  // that frames are tried with; one, once it is known
  HeaderState state = HeaderState::kEmpty;
  SegmentHeader header{};
  bool padding_clean = true;
  std::uint64_t position = kSegmentHeaderBytes;
  std::uint64_t footer_end = 0;                   // 0: none passed
  std::pair<std::uint64_t, std::uint64_t> dirty;  // padding to be told next; empty when equal

  // The part of the file read last. A hit may be stale beside a writer, so only what validates is
  // taken from it; what does not is read again.
  std::unique_ptr<std::byte[]> window;
  std::size_t window_capacity = 0;
  std::size_t window_bytes = 0;
  std::uint64_t window_offset = 0;
  std::uint64_t bytes_at_open = 0;  // bounds the reading ahead, nothing else: the file may grow

  enum class Found : std::uint8_t { kNothing, kBadBody, kValid };
  struct Probe {
    Found found = Found::kNothing;
    FrameHeader header{};
    std::uint64_t end_offset = 0;  // of padding, within the file
    std::string detail;
  };

  std::uint64_t epoch() const { return state == HeaderState::kValid ? header.epoch : 0; }

  // Up to `size` bytes at `offset`: fewer at the end of the file. Valid until the next View.
  Result<std::span<const std::byte>> View(std::uint64_t offset, std::size_t size,
                                          std::size_t ahead = kWindowBytes) {
    const bool held = offset >= window_offset && offset + size <= window_offset + window_bytes;
    if (!held) TASKWAL_TRY(LoadWindow(offset, size, ahead));
    const std::size_t at = offset - window_offset;
    return std::span<const std::byte>(window.get() + at, std::min(size, window_bytes - at));
  }

  // One that held a frame of many MiB, which is delivered by now.
  void ForgetLargeWindow() {
    if (window_capacity <= 4 * kWindowBytes) return;
    window.reset();
    window_capacity = window_bytes = 0;
  }

  Status LoadWindow(std::uint64_t offset, std::size_t size, std::size_t ahead) {
    // Of a frame that says it is large there may be but the beginning.
    if (size > kWindowBytes) {
      TASKWAL_ASSIGN(const std::uint64_t bytes, file->Size());
      size = std::min<std::uint64_t>(size, bytes - std::min(offset, bytes));
    }
    const std::uint64_t left = bytes_at_open - std::min(offset, bytes_at_open);
    const std::size_t wanted = std::max(size, std::min<std::uint64_t>(ahead, left));
    if (wanted > window_capacity) {
      window = std::make_unique_for_overwrite<std::byte[]>(wanted);
      window_capacity = wanted;
    }
    window_bytes = 0;
    window_offset = offset;
    TASKWAL_ASSIGN(window_bytes, file->Read(offset, {window.get(), wanted}));
    return Status::Ok();
  }

  void DropWindow() { window_bytes = 0; }

  // A frame header of this segment that does not validate, rather than what an older use left.
  bool LooksLikeOurs(std::span<const std::byte> bytes) const {
    if (!HasMagic(bytes)) return false;
    return epoch() == 0 || LoadLittle<FrameHeader>(bytes.data()).epoch == epoch();
  }

  void ReadHeader(std::span<const std::byte> block);
  bool IsHeader(std::span<const std::byte> bytes, std::uint64_t offset, FrameHeader* found);
  Result<Probe> ProbeWindow(std::uint64_t offset, Frame* frame);
  Status ReadLargeBody(std::uint64_t offset, std::uint64_t bytes, std::vector<std::byte>* body);
  Result<Probe> ProbeLarge(std::uint64_t offset, Probe probe, Frame* frame);
  Result<Probe> ProbeFresh(std::uint64_t offset, Frame* frame);
  Status CheckPadding(const Probe& probe, std::uint64_t offset);
  Result<SegmentEvent> Take(const Probe& probe, const Frame& frame);
  Result<bool> ResemblesFooter(std::span<const std::byte> bytes, std::uint64_t offset) const;
  Result<bool> IsWholeFooter(std::uint64_t offset, const Probe& probe);
  Result<SegmentEvent> SearchBehind(std::uint64_t offset);
  Result<SegmentEvent> TellAfterFooter();
  Result<Footer> FooterAt(std::uint64_t offset, const FrameHeader& found, std::uint64_t size) const;
};

void SegmentReader::Impl::ReadHeader(std::span<const std::byte> block) {
  const std::size_t compared = std::min(block.size(), sizeof kMagic);
  const bool has_magic = std::memcmp(block.data(), kMagic, compared) == 0;
  if (IsZero(block) || (block.size() < sizeof header && has_magic)) {
    state = HeaderState::kEmpty;
    return;
  }
  if (block.size() < sizeof header) {
    state = HeaderState::kDamaged;
    return;
  }
  std::memcpy(&header, block.data(), sizeof header);
  const auto checked = block.first(offsetof(SegmentHeader, checksum));
  if (!has_magic || Checksum(checked) != header.checksum) {
    state = HeaderState::kDamaged;
    return;
  }
  if (header.version != kFormatVersion || header.header_bytes != kSegmentHeaderBytes) {
    state = HeaderState::kOtherVersion;
    return;
  }
  const bool ours = std::find(wal_ids.begin(), wal_ids.end(), header.wal_id) != wal_ids.end();
  state = ours && header.number == number ? HeaderState::kValid : HeaderState::kForeign;
  padding_clean = IsZero(block.subspan(sizeof header));
  if (state == HeaderState::kValid) wal_ids = {header.wal_id};
}

bool SegmentReader::Impl::IsHeader(std::span<const std::byte> bytes, std::uint64_t offset,
                                   FrameHeader* found) {
  if (!HasMagic(bytes)) return false;
  for (const Uuid& id : wal_ids) {
    if (!IsFrameHeader(bytes, offset, id, number, epoch(), found)) continue;
    wal_ids = {Uuid(id)};
    return found->header_bytes == sizeof(FrameHeader) && found->body_bytes <= kFrameBodyBytesMax &&
           found->raw_bytes <= kFrameBodyBytesMax && found->first_lsn > 0 &&
           found->first_lsn + found->count >= found->first_lsn;
  }
  return false;
}

// The window, which holds what stands before it, has its beginning.
Status SegmentReader::Impl::ReadLargeBody(std::uint64_t offset, std::uint64_t bytes,
                                          std::vector<std::byte>* body) {
  body->resize(bytes);
  const std::span<const std::byte> held(window.get() + (offset - window_offset),
                                        window_bytes - (offset - window_offset));
  const std::size_t known = std::min(held.size(), body->size());
  std::copy_n(held.begin(), known, body->begin());
  TASKWAL_ASSIGN(const std::size_t count,
                 file->Read(offset + known, std::span(*body).subspan(known)));
  body->resize(known + count);
  return Status::Ok();
}

// Of many MiB: read where it is to be delivered, so that it is in memory once.
Result<SegmentReader::Impl::Probe> SegmentReader::Impl::ProbeLarge(std::uint64_t offset,
                                                                   Probe probe, Frame* frame) {
  const FrameHeader& frame_header = probe.header;
  std::vector<std::byte>& body = frame->raw;
  TASKWAL_ASSIGN(const std::uint64_t size, file->Size());
  const std::uint64_t begin = offset + sizeof(FrameHeader);
  const std::uint64_t left = size - std::min(begin, size);
  probe.end_offset = std::min(offset + FrameBytesOnDisk(frame_header), begin + left);
  probe.found = Found::kBadBody;
  probe.detail = "cut off";
  if (left < frame_header.body_bytes) return probe;
  TASKWAL_TRY(ReadLargeBody(begin, frame_header.body_bytes, &body));
  if (body.size() < frame_header.body_bytes) return probe;
  if (!IsFrameBody(frame_header, wal_ids.front(), number, body)) {
    probe.detail = "body checksum";
  } else if (body.size() != frame_header.raw_bytes || !IsWellFormed(frame_header, body)) {
    probe.detail = "body does not hold what its header says";
  } else {
    probe.found = Found::kValid;
    frame->header = frame_header;
    frame->offset = offset;
    frame->end_offset = offset + FrameBytesOnDisk(frame_header);
  }
  return probe;
}

Result<SegmentReader::Impl::Probe> SegmentReader::Impl::ProbeWindow(std::uint64_t offset,
                                                                    Frame* frame) {
  Probe probe;
  TASKWAL_ASSIGN(auto bytes, View(offset, sizeof(FrameHeader)));
  if (!IsHeader(bytes, offset, &probe.header)) return probe;
  if (IsReadInPlace(probe.header)) return ProbeLarge(offset, std::move(probe), frame);
  TASKWAL_ASSIGN(bytes, View(offset, FrameBytesOnDisk(probe.header)));
  probe.end_offset = offset + bytes.size();
  probe.found = Found::kBadBody;
  const auto stored = bytes.subspan(sizeof(FrameHeader));
  if (stored.size() < probe.header.body_bytes) {
    probe.detail = "cut off";
  } else if (!IsFrameBody(probe.header, wal_ids.front(), number,
                          stored.first(probe.header.body_bytes))) {
    probe.detail = "body checksum";
  } else if (!UnpackFrameBody(probe.header, stored.first(probe.header.body_bytes), &frame->raw) ||
             !IsWellFormed(probe.header, frame->raw)) {
    probe.detail = "body does not hold what its header says";
  } else {
    probe.found = Found::kValid;
    frame->header = probe.header;
    frame->offset = offset;
    frame->end_offset = offset + FrameBytesOnDisk(probe.header);
  }
  return probe;
}

// Nothing is called bad before it was read from the file anew: the window may be older than a frame
// that its writer has finished since.
Result<SegmentReader::Impl::Probe> SegmentReader::Impl::ProbeFresh(std::uint64_t offset,
                                                                   Frame* frame) {
  TASKWAL_ASSIGN(Probe probe, ProbeWindow(offset, frame));
  if (probe.found == Found::kValid) return probe;
  DropWindow();
  TASKWAL_ASSIGN(const auto peeked, View(offset, sizeof(FrameHeader), kPeekBytes));
  if (!HasMagic(peeked)) return Probe{};
  return ProbeWindow(offset, frame);
}

Status SegmentReader::Impl::CheckPadding(const Probe& probe, std::uint64_t offset) {
  const std::uint64_t begin = offset + sizeof(FrameHeader) + probe.header.body_bytes;
  const std::uint64_t size = offset + FrameBytesOnDisk(probe.header) - begin;
  TASKWAL_ASSIGN(const auto padding, View(begin, size));
  // A file that ends inside the padding has lost bytes that counted.
  if (padding.size() < size || !IsZero(padding)) dirty = {begin, begin + size};
  return Status::Ok();
}

Result<SegmentEvent> SegmentReader::Impl::Take(const Probe& probe, const Frame& frame) {
  TASKWAL_TRY(CheckPadding(probe, frame.offset));
  ForgetLargeWindow();
  SegmentEvent event;
  event.kind = SegmentEvent::Kind::kFrame;
  event.offset = frame.offset;
  event.end_offset = frame.end_offset;
  position = frame.end_offset;
  if (probe.header.magic == kFooterMagic) {
    event.kind = SegmentEvent::Kind::kFooter;
    footer_end = frame.end_offset;
  }
  return event;
}

// A power cut while sealing leaves a footer some of whose sectors are missing; one that is all
// there and does not validate was changed afterwards.
Result<bool> SegmentReader::Impl::IsWholeFooter(std::uint64_t offset, const Probe& probe) {
  const std::uint64_t size = FrameBytesOnDisk(probe.header);
  TASKWAL_ASSIGN(const auto bytes, View(offset, size));
  if (bytes.size() < size) return false;
  for (std::uint64_t at = 0; at < size; at += kSectorBytes) {
    if (IsZero(bytes.subspan(at, kSectorBytes))) return false;
  }
  return true;
}

// A file that is not sealed may hold stale bytes behind its last frame, a sealed one a footer: with
// a field of it changed it is still told from them by the others. Stale bytes may be a whole footer
// of this epoch, and end with the file, too; but then both of its LSNs are those of an older use.
Result<bool> SegmentReader::Impl::ResemblesFooter(std::span<const std::byte> bytes,
                                                  std::uint64_t offset) const {
  constexpr int kFieldsEnough = 5;
  constexpr std::size_t kBytesEnough = sizeof(FrameHeader) + sizeof(FooterSummary);
  if (bytes.size() < kBytesEnough || state != HeaderState::kValid) return false;
  const auto found = LoadLittle<FrameHeader>(bytes.data());
  const auto summary = LoadLittle<FooterSummary>(bytes.data() + sizeof found);
  TASKWAL_ASSIGN(const std::uint64_t size, file->Size());
  const bool fields[] = {
      found.magic == kFooterMagic,
      found.header_bytes == sizeof found && found.flags == 0 && found.count == 0,
      found.first_lsn >= header.first_lsn,
      summary.first_lsn == header.first_lsn,
      found.epoch == header.epoch,
      found.body_bytes == found.raw_bytes && offset + FrameBytesOnDisk(found) == size,
  };
  return std::count(std::begin(fields), std::end(fields), true) >= kFieldsEnough;
}

// From a sector where no frame header stands to the next one where one does, or to the end.
Result<SegmentEvent> SegmentReader::Impl::SearchBehind(std::uint64_t offset) {
  SegmentEvent event;
  event.offset = offset;
  DropWindow();
  for (std::uint64_t at = offset;; at += kSectorBytes) {
    TASKWAL_ASSIGN(const auto sector, View(at, kSectorBytes));
    FrameHeader found;
    if (at > offset && IsHeader(sector, at, &found)) {
      event.kind = SegmentEvent::Kind::kBadBytes;
      event.detail = "no frame header";
      event.end_offset = position = at;
      return event;
    }
    event.only_zeros = event.only_zeros && IsZero(sector);
    if (at == offset) {
      if (LooksLikeOurs(sector)) event.detail = "frame header";
      TASKWAL_ASSIGN(event.resembles_footer, ResemblesFooter(sector, at));
    }
    if (sector.size() < kSectorBytes) {
      event.kind = SegmentEvent::Kind::kEnd;
      event.end_offset = at + sector.size();
      return event;
    }
  }
}

Result<SegmentEvent> SegmentReader::Impl::TellAfterFooter() {
  SegmentEvent event;
  event.offset = position;
  TASKWAL_ASSIGN(event.end_offset, file->Size());
  if (event.end_offset <= position) {
    event.end_offset = position;
    return event;
  }
  event.kind = SegmentEvent::Kind::kBadBytes;
  event.only_zeros = false;
  event.detail = "after footer";
  position = event.end_offset;
  return event;
}

Result<std::unique_ptr<SegmentReader>> SegmentReader::Open(FileSystem& fs,
                                                           const std::string& directory,
                                                           std::uint64_t number,
                                                           std::vector<Uuid> wal_ids) {
  auto impl = std::make_unique<Impl>();
  impl->path = JoinPath(directory, SegmentName(number));
  impl->number = number;
  impl->wal_ids = std::move(wal_ids);
  if (impl->wal_ids.empty()) impl->wal_ids.emplace_back();
  TASKWAL_ASSIGN(impl->file, fs.OpenReadable(impl->path));
  TASKWAL_ASSIGN(impl->bytes_at_open, impl->file->Size());
  TASKWAL_ASSIGN(const auto block, impl->View(0, kSegmentHeaderBytes, kSegmentHeaderBytes));
  impl->ReadHeader(block);
  return std::unique_ptr<SegmentReader>(new SegmentReader(std::move(impl)));
}

SegmentReader::SegmentReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SegmentReader::~SegmentReader() = default;

HeaderState SegmentReader::header_state() const { return impl_->state; }
const SegmentHeader& SegmentReader::header() const { return impl_->header; }
const Uuid& SegmentReader::wal_id() const { return impl_->wal_ids.front(); }
std::uint64_t SegmentReader::number() const { return impl_->number; }
bool SegmentReader::header_padding_clean() const { return impl_->padding_clean; }
Result<std::uint64_t> SegmentReader::FileBytes() const { return impl_->file->Size(); }
std::uint64_t SegmentReader::position() const { return impl_->position; }

void SegmentReader::SeekTo(std::uint64_t offset) {
  impl_->position = offset;
  impl_->footer_end = 0;
  impl_->dirty = {};
}

Result<SegmentEvent> SegmentReader::NextHere(Frame* frame) {
  impl_->dirty = {};
  TASKWAL_ASSIGN(const Impl::Probe probe, impl_->ProbeFresh(impl_->position, frame));
  if (probe.found == Impl::Found::kValid) return impl_->Take(probe, *frame);
  SegmentEvent event;
  event.offset = event.end_offset = impl_->position;
  return event;
}

Result<SegmentEvent> SegmentReader::Next(Frame* frame) {
  SegmentEvent event;
  if (const auto dirty = std::exchange(impl_->dirty, {}); dirty.first < dirty.second) {
    event.kind = SegmentEvent::Kind::kBadBytes;
    event.offset = dirty.first;
    event.end_offset = dirty.second;
    event.only_zeros = false;
    event.is_padding = true;
    event.detail = "padding not zero";
    return event;
  }
  if (impl_->footer_end != 0) return impl_->TellAfterFooter();
  const std::uint64_t offset = impl_->position;
  TASKWAL_ASSIGN(const Impl::Probe probe, impl_->ProbeFresh(offset, frame));
  if (probe.found == Impl::Found::kValid) return impl_->Take(probe, *frame);
  if (probe.found == Impl::Found::kNothing) return impl_->SearchBehind(offset);
  event.kind = SegmentEvent::Kind::kBadBytes;
  event.offset = offset;
  event.end_offset = impl_->position = probe.end_offset;
  event.only_zeros = false;
  event.names_footer = probe.header.magic == kFooterMagic;
  if (event.names_footer) {
    TASKWAL_ASSIGN(event.resembles_footer, impl_->IsWholeFooter(offset, probe));
  }
  event.named_first = probe.header.first_lsn;
  event.named_count = probe.header.count;
  event.detail = probe.detail;
  return event;
}

Status SegmentReader::SkipBelow(Lsn lsn) {
  while (true) {
    TASKWAL_ASSIGN(const auto bytes, impl_->View(impl_->position, sizeof(FrameHeader), kPeekBytes));
    FrameHeader found;
    if (!impl_->IsHeader(bytes, impl_->position, &found)) return Status::Ok();
    if (found.magic != kFrameMagic || found.first_lsn + found.count > lsn) return Status::Ok();
    SeekTo(impl_->position + FrameBytesOnDisk(found));
  }
}

Result<SegmentReader::Footer> SegmentReader::Impl::FooterAt(std::uint64_t offset,
                                                            const FrameHeader& found,
                                                            std::uint64_t size) const {
  std::vector<std::byte> body(found.body_bytes);
  TASKWAL_ASSIGN(const std::size_t count, file->Read(offset + sizeof found, body));
  const bool whole = count == body.size() && offset + FrameBytesOnDisk(found) == size;
  if (!whole || !IsFrameBody(found, wal_ids.front(), number, body) || !IsWellFormed(found, body)) {
    return Status::Corruption(path + ": the footer at offset " + std::to_string(offset) +
                              " does not validate");
  }
  Footer footer;
  footer.summary = LoadLittle<FooterSummary>(body.data());
  footer.index.resize(footer.summary.index_count);
  if (!footer.index.empty()) {
    std::memcpy(footer.index.data(), body.data() + sizeof footer.summary,
                footer.index.size() * sizeof(FooterEntry));
  }
  return footer;
}

// Its length stands at its beginning only, so it is looked for sector by sector from the end. That
// is short in any case: the last sector of a footer is never all zero, a frame before it ends the
// search, and so does a footer that an older use of the file left at its end.
Result<SegmentReader::Footer> SegmentReader::ReadFooter() const {
  const Status none = Status::NotFound(impl_->path + ": not sealed");
  TASKWAL_ASSIGN(const std::uint64_t size, impl_->file->Size());
  if (size % kSectorBytes != 0 || size <= kSegmentHeaderBytes) return none;
  std::vector<std::byte> chunk;
  for (std::uint64_t end = size; end > kSegmentHeaderBytes;) {
    const std::uint64_t begin =
        std::max(kSegmentHeaderBytes, end > kBackwardBytes ? end - kBackwardBytes : 0);
    chunk.resize(end - begin);
    TASKWAL_ASSIGN(const std::size_t count, impl_->file->Read(begin, chunk));
    if (count < chunk.size()) return none;
    for (std::uint64_t at = end - kSectorBytes; at >= begin; at -= kSectorBytes) {
      const auto sector = std::span<const std::byte>(chunk).subspan(at - begin, kSectorBytes);
      if (at + kSectorBytes == size && IsZero(sector)) return none;
      if (!HasMagic(sector)) continue;
      FrameHeader found;
      const bool valid = impl_->IsHeader(sector, at, &found);
      if (valid && found.magic == kFooterMagic) return impl_->FooterAt(at, found, size);
      std::memcpy(&found, sector.data(), sizeof found);
      const bool stale_footer = found.magic == kFooterMagic && at + FrameBytesOnDisk(found) == size;
      if (valid || stale_footer) return none;
    }
    end = begin;
  }
  return none;
}

}  // namespace taskwal::wal

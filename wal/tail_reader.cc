#include "wal/tail_reader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/status_macros.h"
#include "wal/log_directory.h"
#include "wal/segment_chain.h"

namespace taskwal::wal {

struct TailReader::Impl {
  Impl(FileSystem& fs_in, TailSource source_in, Lsn from)
      : fs(fs_in),
        source(std::move(source_in)),
        chain(fs, source.directory, source.wal_ids),
        position(std::max(from, source.first_lsn)) {}

  FileSystem& fs;
  const TailSource source;
  SegmentChain chain;
  Lsn position;
  std::unique_ptr<SegmentReader> reader;  // on the segment that owns `position`; null: to be found
  Lsn takeover = SegmentChain::kNever;    // known first LSN of a segment behind the reader's

  std::string file() const { return SegmentName(reader->number()); }

  std::optional<TailEvent> DeclaredLoss(Lsn limit);
  TailEvent Lose(Lsn to, std::string detail);
  Result<std::optional<TailEvent>> FindSegment(Lsn limit);
  Status LearnTakeover(Lsn upto);
  Result<std::optional<TailEvent>> Deliver(const Frame& frame, Lsn limit);
  Result<std::optional<TailEvent>> SearchOn(Lsn limit, Frame* frame);
  Result<std::optional<TailEvent>> Step(Lsn limit, Frame* frame);
};

std::optional<TailEvent> TailReader::Impl::DeclaredLoss(Lsn limit) {
  for (const LsnRange& range : source.declared) {
    if (position < range.from || position > range.to) continue;
    TailEvent event = Lose(std::min(range.to, limit), "declared by salvage");
    event.declared = true;
    reader.reset();
    return event;
  }
  return std::nullopt;
}

TailEvent TailReader::Impl::Lose(Lsn to, std::string detail) {
  // What was declared inside of it is told apart.
  for (const LsnRange& range : source.declared) {
    if (range.from > position && range.from <= to) to = range.from - 1;
  }
  TailEvent event;
  event.kind = TailEvent::Kind::kLoss;
  event.loss = {position, to};
  event.detail = std::move(detail);
  position = to + 1;
  return event;
}

// Opens the segment that owns the position, or tells the loss of what lies before all of them.
Result<std::optional<TailEvent>> TailReader::Impl::FindSegment(Lsn limit) {
  TASKWAL_TRY(chain.Refresh());
  TASKWAL_ASSIGN(const std::optional<std::uint64_t> owner, chain.OwnerOf(position));
  if (!owner) {
    TASKWAL_ASSIGN(const Lsn next, chain.TakeoverBehind(0, limit));
    return std::optional(Lose(std::min(next - 1, limit), "no segment holds it"));
  }
  auto opened = SegmentReader::Open(fs, source.directory, *owner, source.wal_ids);
  if (!opened.ok()) {
    // Retired under a reader that fell behind the flushed position: look again.
    if (opened.status().code() == StatusCode::kNotFound) return std::optional<TailEvent>();
    return opened.status();
  }
  reader = std::move(opened).value();
  takeover = SegmentChain::kNever;
  TASKWAL_TRY(reader->SkipBelow(position));
  return std::optional<TailEvent>();
}

// A later segment may have taken over LSNs that this one holds too. The file of a segment made
// since is looked for each time; it is there before anything in it is durable.
Status TailReader::Impl::LearnTakeover(Lsn upto) {
  if (takeover != SegmentChain::kNever && takeover <= upto) return Status::Ok();
  TASKWAL_TRY(chain.LookForNext());
  TASKWAL_ASSIGN(takeover, chain.TakeoverBehind(reader->number(), upto));
  return Status::Ok();
}

// What a valid frame at or behind the position means: nothing yet (skip it, or go to another
// segment), the loss of what is missing before it, or its records.
Result<std::optional<TailEvent>> TailReader::Impl::Deliver(const Frame& frame, Lsn limit) {
  if (frame.header.count == 0 || frame.last_lsn() < position) return std::optional<TailEvent>();
  TASKWAL_TRY(LearnTakeover(frame.last_lsn()));
  if (takeover <= position) {
    reader.reset();
    return std::optional<TailEvent>();
  }
  if (frame.header.first_lsn > position) {
    std::string detail = file() + " offset " + std::to_string(frame.offset) + ": begins behind it";
    reader->SeekTo(frame.offset);
    const Lsn to = std::min(std::min(frame.header.first_lsn, takeover) - 1, limit);
    return std::optional(Lose(to, std::move(detail)));
  }
  TailEvent event;
  event.kind = TailEvent::Kind::kFrame;
  event.from = position;
  event.to = std::min({frame.last_lsn(), takeover - 1, limit});
  position = event.to + 1;
  if (event.to < frame.last_lsn()) reader->SeekTo(frame.offset);
  return std::optional(std::move(event));
}

// No valid frame stands where the position should be. It is at or below the limit, so it was
// written: either a later segment has taken over, or it is lost up to where something valid goes
// on.
Result<std::optional<TailEvent>> TailReader::Impl::SearchOn(Lsn limit, Frame* frame) {
  TASKWAL_TRY(chain.Refresh());
  TASKWAL_ASSIGN(takeover, chain.TakeoverBehind(reader->number(), limit));
  if (takeover <= position) {
    reader.reset();
    return std::optional<TailEvent>();
  }
  const Lsn before_next = std::min(takeover - 1, limit);
  std::string detail = file() + " offset " + std::to_string(reader->position()) + ": ";
  std::string what = "ends before it";
  while (true) {
    TASKWAL_ASSIGN(const SegmentEvent event, reader->Next(frame));
    if (event.kind == SegmentEvent::Kind::kBadBytes) {
      if (!event.is_padding) what = event.detail;
      const Lsn named_end = event.named_first + event.named_count;
      if (event.named_first <= position && position < named_end) {
        return std::optional(Lose(std::min(named_end - 1, before_next), detail + what));
      }
      continue;
    }
    if (event.kind != SegmentEvent::Kind::kFrame) break;
    if (frame->header.count == 0 || frame->last_lsn() < position) continue;
    if (frame->header.first_lsn <= position) return Deliver(*frame, limit);
    reader->SeekTo(frame->offset);
    return std::optional(Lose(std::min(frame->header.first_lsn - 1, before_next), detail + what));
  }
  reader.reset();
  return std::optional(Lose(before_next, detail + what));
}

Result<std::optional<TailEvent>> TailReader::Impl::Step(Lsn limit, Frame* frame) {
  if (std::optional<TailEvent> declared = DeclaredLoss(limit)) return declared;
  if (reader == nullptr) return FindSegment(limit);
  TASKWAL_ASSIGN(const SegmentEvent event, reader->NextHere(frame));
  if (event.kind == SegmentEvent::Kind::kFrame) return Deliver(*frame, limit);
  reader->SeekTo(event.offset);
  return SearchOn(limit, frame);
}

TailReader::TailReader(FileSystem& fs, TailSource source, Lsn from)
    : impl_(std::make_unique<Impl>(fs, std::move(source), from)) {}

TailReader::~TailReader() = default;

Result<TailEvent> TailReader::Next(Lsn limit, Frame* frame) {
  while (impl_->position <= limit) {
    Result<std::optional<TailEvent>> event = impl_->Step(limit, frame);
    if (!event.ok()) {
      // The segment's reader may have passed what was not delivered: a retry must look again.
      impl_->reader.reset();
      return event.status();
    }
    if (*event) return **std::move(event);
  }
  return TailEvent{};
}

Lsn TailReader::position() const { return impl_->position; }

void TailReader::SeekTo(Lsn lsn) {
  impl_->position = std::max(lsn, impl_->source.first_lsn);
  impl_->reader.reset();
}

}  // namespace taskwal::wal

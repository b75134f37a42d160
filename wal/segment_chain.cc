#include "wal/segment_chain.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/status_macros.h"
#include "wal/log_directory.h"
#include "wal/segment_reader.h"

namespace taskwal::wal {

Status SegmentChain::Refresh() {
  TASKWAL_ASSIGN(const std::vector<std::uint64_t> numbers, ListSegments(fs_, directory_));
  std::vector<Link> links;
  links.reserve(numbers.size());
  auto known = links_.begin();
  for (const std::uint64_t number : numbers) {
    while (known != links_.end() && known->number < number) ++known;
    const bool is_known = known != links_.end() && known->number == number;
    links.push_back(is_known ? *known : Link{.number = number});
  }
  links_ = std::move(links);
  return Status::Ok();
}

Status SegmentChain::LookForNext() {
  if (links_.empty()) return Refresh();
  const std::uint64_t next = links_.back().number + 1;
  const auto file = fs_.OpenReadable(JoinPath(directory_, SegmentName(next)));
  if (file.ok()) links_.push_back(Link{.number = next});
  return file.ok() || file.status().code() == StatusCode::kNotFound ? Status::Ok() : file.status();
}

// Without a header, a segment begins at the first frame that validates.
Status SegmentChain::ReadFirstFrame(SegmentReader& reader, Link* link) {
  Frame frame;
  while (true) {
    TASKWAL_ASSIGN(const SegmentEvent event, reader.Next(&frame));
    if (event.kind == SegmentEvent::Kind::kEnd) return Status::Ok();
    if (event.kind != SegmentEvent::Kind::kFrame) continue;
    link->counts = true;
    link->first_lsn = frame.header.first_lsn;
    return Status::Ok();
  }
}

Result<const SegmentChain::Link*> SegmentChain::Read(std::size_t index) {
  Link& link = links_[index];
  if (link.is_read) return &link;
  const auto opened = SegmentReader::Open(fs_, directory_, link.number, wal_ids_);
  if (!opened.ok()) {
    // Retired since the directory was listed.
    if (opened.status().code() == StatusCode::kNotFound) return &link;
    return opened.status();
  }
  SegmentReader& reader = **opened;
  const HeaderState state = reader.header_state();
  if (state == HeaderState::kValid) {
    link.counts = true;
    // No segment is made below what it names as synced; such a header must not lead the search.
    link.has_synced = reader.header().synced_lsn < reader.header().first_lsn;
    link.first_lsn = reader.header().first_lsn;
    link.synced_lsn = reader.header().synced_lsn;
  } else if (state == HeaderState::kEmpty || state == HeaderState::kDamaged) {
    TASKWAL_TRY(ReadFirstFrame(reader, &link));
  }
  // The last one may be in the making: look again next time.
  link.is_read = link.counts || index + 1 < links_.size();
  return &link;
}

// Index of the first segment that was made when `lsn` was known to be on disk: it and all behind it
// begin above `lsn`. What a header names as synced only grows from segment to segment, which cannot
// be said of first LSNs. Segments without a header are stepped over.
Result<std::size_t> SegmentChain::FirstSyncedFrom(Lsn lsn) {
  std::size_t low = 0;
  std::size_t high = links_.size();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    std::size_t at = middle;
    TASKWAL_ASSIGN(const Link* link, Read(at));
    while (!link->has_synced && at > low) {
      TASKWAL_ASSIGN(link, Read(--at));
    }
    if (link->has_synced && link->synced_lsn >= lsn) {
      high = at;
    } else {
      low = middle + 1;
    }
  }
  return high;
}

Result<std::optional<std::uint64_t>> SegmentChain::OwnerOf(Lsn lsn) {
  TASKWAL_ASSIGN(std::size_t index, FirstSyncedFrom(lsn));
  while (index-- > 0) {
    TASKWAL_ASSIGN(const Link* link, Read(index));
    if (link->counts && link->first_lsn <= lsn) return std::optional(link->number);
  }
  return std::optional<std::uint64_t>();
}

Result<Lsn> SegmentChain::TakeoverBehind(std::uint64_t number, Lsn upto) {
  const auto behind = [](std::uint64_t value, const Link& link) { return value < link.number; };
  const auto first = std::upper_bound(links_.begin(), links_.end(), number, behind);
  Lsn takeover = kNever;
  for (std::size_t at = static_cast<std::size_t>(first - links_.begin()); at < links_.size();
       ++at) {
    TASKWAL_ASSIGN(const Link* link, Read(at));
    if (link->counts) takeover = std::min(takeover, link->first_lsn);
    if (link->has_synced && link->synced_lsn >= upto) break;
  }
  return takeover;
}

}  // namespace taskwal::wal

#include "pipeline/flush/missing_records.h"

#include <algorithm>

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

std::vector<std::uint32_t> PartitionsAt(Lsn lsn, const std::vector<LsnRange>& gaps) {
  std::vector<std::uint32_t> partitions;
  for (std::uint32_t p = 0; p < gaps.size(); ++p) {
    if (gaps[p].from <= lsn && lsn <= gaps[p].to) partitions.push_back(p);
  }
  return partitions;
}

void Append(const MissingRecords& next, std::vector<MissingRecords>* ranges) {
  if (next.lsns.empty()) return;
  const bool goes_on = !ranges->empty() && ranges->back().partitions == next.partitions &&
                       ranges->back().lsns.to + 1 == next.lsns.from;
  if (goes_on) {
    ranges->back().lsns.to = next.lsns.to;
  } else {
    ranges->push_back(next);
  }
}

}  // namespace

std::vector<MissingRecords> FindMissing(std::span<const Lsn> stored,
                                        std::span<const Lsn> confirmed, Lsn gone) {
  std::vector<LsnRange> gaps;  // by partition
  std::vector<Lsn> turns;      // where a gap begins, or the one behind its end
  for (std::size_t p = 0; p < stored.size(); ++p) {
    // What was confirmed last is the last there was of this partition.
    const LsnRange gap{stored[p] + 1, std::min(gone, p < confirmed.size() ? confirmed[p] : 0)};
    gaps.push_back(gap);
    turns.insert(turns.end(), {gap.from, gap.to + 1});
  }
  std::sort(turns.begin(), turns.end());
  turns.erase(std::unique(turns.begin(), turns.end()), turns.end());
  std::vector<MissingRecords> ranges;
  // From one turn to the next the same partitions lack what they had.
  for (std::size_t i = 0; i + 1 < turns.size(); ++i) {
    MissingRecords next{{turns[i], turns[i + 1] - 1}, PartitionsAt(turns[i], gaps)};
    if (next.partitions.empty()) continue;
    // A watermark is the LSN of a record that is there.
    if (std::find(stored.begin(), stored.end(), next.lsns.to) != stored.end()) --next.lsns.to;
    // Behind all of the watermarks nothing is there.
    if (*std::max_element(stored.begin(), stored.end()) < next.lsns.from) next.partitions.clear();
    Append(next, &ranges);
  }
  return ranges;
}

std::string PartitionsText(const MissingRecords& missing) {
  std::string text;
  for (const std::uint32_t partition : missing.partitions) {
    text += (text.empty() ? "" : ",") + std::to_string(partition);
  }
  return text;
}

std::string MissingText(std::span<const MissingRecords> missing) {
  std::string text;
  for (const MissingRecords& one : missing) {
    if (!text.empty()) text += "; ";
    text += std::to_string(one.lsns.from) + " to " + std::to_string(one.lsns.to);
    if (!one.partitions.empty()) text += " of partitions " + PartitionsText(one);
  }
  return text;
}

}  // namespace taskwal::pipeline

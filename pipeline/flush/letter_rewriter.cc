#include "pipeline/flush/letter_rewriter.h"

#include <utility>

#include "base/status_macros.h"

namespace taskwal::pipeline {

LetterRewriter::LetterRewriter(FileSystem& fs, std::string directory, std::uint64_t number,
                               std::uint64_t sound_bytes)
    : fs_(fs), directory_(std::move(directory)), number_(number), previous_(sound_bytes) {}

Result<LetterPlace> LetterRewriter::Add(EntryKind kind, std::span<const std::byte> body) {
  if (content_.size() >= kLetterFileBytes) TASKWAL_TRY(Finish());
  if (content_.empty()) Put(MakeLetterFileHeader(++number_, previous_));
  const std::uint64_t offset = content_.size();
  Put(MakeEntry(kind, body, number_, offset));
  return LetterPlace{number_, offset, content_.size() - offset};
}

Status LetterRewriter::Finish() {
  TASKWAL_TRY(WriteFileAtomically(fs_, directory_ + "/" + LetterFileName(number_), content_));
  previous_ = content_.size();
  total_ += content_.size();
  content_.clear();
  return Status::Ok();
}

void LetterRewriter::Put(std::span<const std::byte> bytes) {
  content_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace taskwal::pipeline

#include "pipeline/flush/letter_loader.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/flush/letter_rewriter.h"

namespace taskwal::pipeline {
namespace {

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

LetterLoader::LetterLoader(FileSystem& fs, std::string wal_directory, bool read_only,
                           LetterIndex* index, std::vector<std::string>* damage)
    : fs_(fs),
      wal_directory_(std::move(wal_directory)),
      directory_(wal_directory_ + "/dead-letters"),
      read_only_(read_only),
      index_(index),
      damage_(damage) {}

Status LetterLoader::Load() {
  TASKWAL_TRY(LoadAll());
  if (last_ && !read_only_) {
    TASKWAL_TRY(WriteLastAgain());
    TASKWAL_TRY(LoadAll());
  }
  index_->ForgetIdleClears();
  for (const auto& [number, what] : found_) {
    if (number > retired_to_ && damage_ != nullptr) damage_->push_back("dead-letters/" + what);
  }
  return Status::Ok();
}

Status LetterLoader::LoadAll() {
  *index_ = LetterIndex();
  found_.clear();
  file_bytes_ = 0;
  last_.reset();
  auto entries = fs_.List(directory_);
  if (!entries.ok()) {
    return entries.status().code() == StatusCode::kNotFound ? Status::Ok() : entries.status();
  }
  std::set<std::uint64_t> numbers;
  for (const DirectoryEntry& entry : *entries) {
    if (const auto number = ParseLetterFileName(entry.name)) numbers.insert(*number);
  }
  last_number_ = numbers.empty() ? 0 : *numbers.rbegin();
  TASKWAL_TRY(LoadFiles(1, numbers));
  if (!numbers.empty() && *numbers.begin() <= retired_to_) {
    // Crash while cleaning: what these files said stands in the later ones.
    TASKWAL_TRY(RemoveRetired(numbers));
    *index_ = LetterIndex();
    found_.clear();
    file_bytes_ = 0;
    TASKWAL_TRY(LoadFiles(retired_to_ + 1, numbers));
  }
  return Status::Ok();
}

// Into the next file, which then says that it does not count in this one; or in the place of its
// own, where it is the first: a power cut may leave what shares a sector with it as garbage, too.
Status LetterLoader::WriteLastAgain() {
  const auto [number, offset] = *last_;
  TASKWAL_ASSIGN(const std::string content,
                 ReadFile(fs_, directory_ + "/" + LetterFileName(number)));
  const auto entry = ParseEntry(BytesOf(content).subspan(offset), number, offset);
  if (!entry) return Status::Corruption("dead-letters/" + LetterFileName(number) + " has changed");
  const auto previous = ParseLetterFileHeader(BytesOf(content), number);
  const bool is_first = previous && offset == kLetterFileHeaderBytes;
  LetterRewriter rewriter(fs_, directory_, is_first ? number - 1 : number,
                          is_first ? *previous : offset);
  TASKWAL_TRY(rewriter.Add(entry->kind, entry->body).status());
  TASKWAL_TRY(rewriter.Add(EntryKind::kRetired, EncodeRetired({})).status());
  return rewriter.Finish();
}

Status LetterLoader::LoadFiles(std::uint64_t first, const std::set<std::uint64_t>& present) {
  for (std::uint64_t number = first; number <= last_number_; ++number) {
    Status loaded = Status::NotFound({});
    if (present.contains(number)) loaded = LoadFile(number);
    // A live process may clean up while this one reads.
    if (loaded.code() == StatusCode::kNotFound) {
      found_.emplace_back(number, LetterFileName(number) + " is missing");
    } else {
      TASKWAL_TRY(loaded);
    }
  }
  return Status::Ok();
}

Status LetterLoader::RemoveRetired(const std::set<std::uint64_t>& present) {
  if (read_only_) return Status::Ok();
  // The name of the file that says so may not be on disk yet: a kill came before its sync.
  TASKWAL_TRY(fs_.SyncDirectory(directory_));
  for (const std::uint64_t number : present) {
    if (number > retired_to_) break;
    TASKWAL_TRY(fs_.Remove(directory_ + "/" + LetterFileName(number)));
  }
  return Status::Ok();
}

Status LetterLoader::LoadFile(std::uint64_t number) {
  const std::string name = LetterFileName(number);
  TASKWAL_ASSIGN(const std::string content, ReadFile(fs_, directory_ + "/" + name));
  std::uint64_t counts = content.size();
  if (number < last_number_) {
    TASKWAL_ASSIGN(const auto named, PreviousBytes(number + 1));
    if (named.value_or(0) > counts) found_.emplace_back(number, name + " was cut short");
    counts = std::min(counts, named.value_or(counts));
  }
  const LetterFileScan scan =
      ScanLetterFile(BytesOf(content).first(counts), number,
                     [&](const EntryView& entry) { Take(number, entry); });
  for (const auto& [from, to] : scan.bad) Bad(number, from, to);
  file_bytes_ += scan.sound_bytes;
  if (scan.sound_bytes > 0 && last_ && last_->number < number) last_.reset();
  if (number == last_number_) return EndAt(scan.sound_bytes, name, content);
  if (scan.sound_bytes < counts) Bad(number, scan.sound_bytes, counts);
  return Status::Ok();
}

// What the next file says of the one before it; nothing where that header is damaged.
Result<std::optional<std::uint64_t>> LetterLoader::PreviousBytes(std::uint64_t number) {
  auto file = fs_.OpenReadable(directory_ + "/" + LetterFileName(number));
  if (!file.ok()) {
    if (file.status().code() != StatusCode::kNotFound) return file.status();
    return std::optional<std::uint64_t>();
  }
  std::vector<std::byte> header(kLetterFileHeaderBytes);
  TASKWAL_ASSIGN(const std::size_t size, (*file)->Read(0, header));
  return ParseLetterFileHeader(std::span(header).first(size), number);
}

// An entry nobody was told of, or that never was whole: cut, with a copy kept aside. Only the very
// last one can be such; whatever validates stays.
Status LetterLoader::EndAt(std::uint64_t sound_bytes, const std::string& name,
                           const std::string& content) {
  sound_bytes_ = sound_bytes;
  if (read_only_ || sound_bytes == content.size()) return Status::Ok();
  const std::string aside = wal_directory_ + "/quarantine";
  TASKWAL_TRY(fs_.MakeDirectories(aside));
  TASKWAL_TRY(WriteFileAtomically(fs_, aside + "/" + name + "-" + std::to_string(sound_bytes),
                                  std::string_view(content).substr(sound_bytes)));
  Logger().warn("dead_letters event=torn_tail_cut file={} offset={} bytes={}", name, sound_bytes,
                content.size() - sound_bytes);
  TASKWAL_ASSIGN(const auto file, fs_.OpenWritable(directory_ + "/" + name, false));
  TASKWAL_TRY(file->Truncate(sound_bytes));
  return file->Sync();
}

void LetterLoader::Take(std::uint64_t number, const EntryView& entry) {
  if (!TakeSound(number, entry)) Bad(number, entry.offset, entry.end_offset);
}

bool LetterLoader::TakeSound(std::uint64_t number, const EntryView& entry) {
  const auto before = std::exchange(last_, Unproven{number, entry.offset});
  if (entry.kind == EntryKind::kLetter) {
    const auto letter = DecodeLetter(entry.body);
    if (letter) index_->Add(*letter, {number, entry.offset, entry.end_offset - entry.offset});
    return letter.has_value();
  }
  if (entry.kind == EntryKind::kTaskCleared) {
    const auto cleared = DecodeTaskCleared(entry.body);
    const bool fills_a_sector = cleared && cleared->lsn == 0;
    if (fills_a_sector) last_ = before;  // written in one with the entry before it
    if (cleared) index_->Clear(*cleared);
    return cleared.has_value();
  }
  if (entry.kind == EntryKind::kResolved) {
    const auto resolved = DecodeResolved(entry.body);
    if (!resolved) return false;
    for (const LetterResolution& resolution : *resolved) index_->Resolve(resolution);
    return true;
  }
  if (entry.kind != EntryKind::kRetired) return false;
  const auto retired = DecodeRetired(entry.body);
  if (!retired) return false;
  last_.reset();
  index_->TakeRetired(*retired);
  retired_to_ = std::max(retired_to_, retired->files_to);
  return true;
}

void LetterLoader::Bad(std::uint64_t number, std::uint64_t from, std::uint64_t to) {
  found_.emplace_back(number, LetterFileName(number) + ": bytes " + std::to_string(from) + " to " +
                                  std::to_string(to) + " hold no sound entry");
}

}  // namespace taskwal::pipeline

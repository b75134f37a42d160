#include "pipeline/flush/dead_letters.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"
#include "pipeline/flush/letter_index.h"
#include "pipeline/flush/letter_loader.h"
#include "pipeline/flush/letter_rewriter.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

constexpr std::uint64_t kSectorBytes = 512;

// Fills the last sector of what stands up to `end`, so that no later write touches it: a power cut
// may leave the sector that was being written as garbage. The clearing of a task whose id no task
// can have: every reader takes it, and it changes nothing.
std::vector<std::byte> MakeFiller(std::uint64_t number, std::uint64_t end) {
  TaskCleared nobody;
  const std::size_t smallest =
      MakeEntry(EntryKind::kTaskCleared, EncodeTaskCleared(nobody), number, end).size();
  const std::uint64_t sectors = (end + smallest + kSectorBytes - 1) / kSectorBytes;
  nobody.task_id.assign(sectors * kSectorBytes - end - smallest, '\0');
  return MakeEntry(EntryKind::kTaskCleared, EncodeTaskCleared(nobody), number, end);
}

// The file that letters are appended to. One caller at a time.
class LetterWriter {
 public:
  LetterWriter(FileSystem& fs, std::string directory) : fs_(fs), directory_(std::move(directory)) {}

  // Where the next letter goes: behind `sound_bytes` of file `number` (0: a new file).
  void ContinueAt(std::uint64_t number, std::uint64_t sound_bytes) {
    file_.reset();
    number_ = number;
    end_ = sound_bytes;
    is_condemned_ = false;
  }

  // Durable on return.
  Result<LetterPlace> Append(EntryKind kind, std::span<const std::byte> body) {
    TASKWAL_TRY(OpenFile());
    std::vector<std::byte> bytes = MakeEntry(kind, body, number_, end_);
    const LetterPlace place{number_, end_, bytes.size()};
    const std::vector<std::byte> filler = MakeFiller(number_, end_ + bytes.size());
    bytes.insert(bytes.end(), filler.begin(), filler.end());
    const Status written = file_->WriteAndSync(end_, bytes);
    if (!written.ok()) {
      // The page cache cannot be trusted with this file any more. The next one names how much of it
      // counts, so what this attempt left behind is void.
      file_.reset();
      is_condemned_ = true;
      return written;
    }
    end_ += bytes.size();
    return place;
  }
  [[nodiscard]] std::uint64_t number() const { return number_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }

 private:
  [[nodiscard]] std::string PathOf(std::uint64_t number) const {
    return directory_ + "/" + LetterFileName(number);
  }

  Status OpenFile() {
    // Nothing is written behind what ends within a sector, but for the header of a new file.
    const bool is_open_ended = end_ % kSectorBytes != 0 && end_ != kLetterFileHeaderBytes;
    const bool is_full = end_ >= kLetterFileBytes || is_open_ended;
    if (file_ && !is_full) return Status::Ok();
    if (!is_condemned_ && !is_full && end_ > 0) {
      TASKWAL_ASSIGN(auto file, fs_.OpenWritable(PathOf(number_), false));
      // Who made it may have been killed before its name was on disk.
      TASKWAL_TRY(fs_.SyncDirectory(directory_));
      file_ = std::move(file);
      return Status::Ok();
    }
    file_.reset();
    // The folder's entry and the file's must be on disk before a letter in it counts as durable.
    TASKWAL_TRY(fs_.MakeDirectories(directory_));
    const std::uint64_t number = number_ + 1;
    TASKWAL_ASSIGN(std::unique_ptr<WritableFile> file, fs_.OpenWritable(PathOf(number), true));
    const Status made = StartFile(*file, number);
    if (!made.ok()) {
      // Out of space: the same name is tried again. Any other failure condemns the file: skipped.
      if (made.code() != StatusCode::kUnavailable) {
        number_ = number;
        end_ = 0;
        is_condemned_ = true;
      }
      return made;
    }
    file_ = std::move(file);
    number_ = number;
    end_ = kLetterFileHeaderBytes;
    is_condemned_ = false;
    return Status::Ok();
  }

  Status StartFile(WritableFile& file, std::uint64_t number) {
    TASKWAL_TRY(file.Truncate(0));
    TASKWAL_TRY(file.WriteAndSync(0, MakeLetterFileHeader(number, end_)));
    return fs_.SyncDirectory(directory_);
  }

  FileSystem& fs_;
  const std::string directory_;
  std::unique_ptr<WritableFile> file_;
  std::uint64_t number_ = 0;   // of the file in use; 0: none yet
  std::uint64_t end_ = 0;      // its sound bytes
  bool is_condemned_ = false;
};

void CountSettled(LetterOutcome outcome, LetterStats* counts) {
  switch (outcome) {
    case LetterOutcome::kRetried: ++counts->retried; break;
    case LetterOutcome::kSuperseded: ++counts->superseded; break;
    case LetterOutcome::kPurged: ++counts->purged; break;
    case LetterOutcome::kExpired: ++counts->expired; break;
    case LetterOutcome::kOpen: break;
  }
}

// Less than this is not worth rewriting the store for.
constexpr std::uint64_t kWasteBytesMin = 1u << 20;

}  // namespace

std::string DeadLetter::id() const {
  const LetterKey first = origin().key;
  const std::string id = first.wal_id.ToString() + "-" + std::to_string(first.lsn);
  return target == 0 ? id : id + "-" + std::to_string(target);
}

struct DeadLetters::Impl {
  Impl(FileSystem& file_system, const std::string& wal_directory)
      : fs(file_system),
        directory(wal_directory + "/dead-letters"),
        writer(file_system, directory) {}

  // What others ask for meanwhile waits its turn without holding the mutex over the I/O.
  class Turn {
   public:
    explicit Turn(Impl& impl) : impl_(impl) {
      MutexLock lock(impl_.mutex);
      while (impl_.is_writing) impl_.turn.Wait(impl_.mutex);
      impl_.is_writing = true;
    }
    ~Turn() {
      MutexLock lock(impl_.mutex);
      impl_.is_writing = false;
      impl_.turn.NotifyOne();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Impl& impl_;
  };

  // Writes one entry and lets `remember` put it into the index, under the mutex.
  template <typename Remember>
  Status Append(EntryKind kind, std::span<const std::byte> body, Remember&& remember)
      EXCLUDES(mutex) {
    TASKWAL_TRY(CheckOpen());
    TASKWAL_ASSIGN(const LetterPlace place, writer.Append(kind, body));
    MutexLock lock(mutex);
    file_bytes += place.bytes;
    remember(index, since_open, place);
    return Status::Ok();
  }

  // In a turn: Close takes one, too.
  Status CheckOpen() const EXCLUDES(mutex) {
    MutexLock lock(mutex);
    return is_closed ? Status::Closed("the dead letters are closed") : Status::Ok();
  }

  Status AppendLetter(const DeadLetter& letter) EXCLUDES(mutex) {
    const Turn mine(*this);
    return Append(EntryKind::kLetter, EncodeLetter(letter),
                  [&](LetterIndex& known, LetterStats& counts, const LetterPlace& place) {
                    known.Add(letter, place);
                    counts.added += letter.kind == DeadLetter::Kind::kRejected ? 1 : 0;
                  });
  }

  Result<std::vector<std::byte>> ReadBody(const LetterPlace& place) const {
    const std::string path = directory + "/" + LetterFileName(place.file);
    TASKWAL_ASSIGN(const auto file, fs.OpenReadable(path));
    std::vector<std::byte> bytes(place.bytes);
    TASKWAL_ASSIGN(const std::size_t size, file->Read(place.offset, bytes));
    const auto entry = ParseEntry(std::span(bytes).first(size), place.file, place.offset);
    if (entry) return std::vector<std::byte>(entry->body.begin(), entry->body.end());
    return Status::Corruption(path + ": the entry at offset " + std::to_string(place.offset) +
                              " does not validate any more");
  }
  Result<DeadLetter> Read(const LetterPlace& place) const {
    TASKWAL_ASSIGN(const std::vector<std::byte> body, ReadBody(place));
    auto letter = DecodeLetter(body);
    if (letter) return *std::move(letter);
    return Status::Corruption(directory + "/" + LetterFileName(place.file) + ": the entry at " +
                              std::to_string(place.offset) + " is no letter");
  }
  std::optional<LetterIndex::Visible> Next(std::uint64_t after) const EXCLUDES(mutex) {
    MutexLock lock(mutex);
    return index.Next(after);
  }

  [[nodiscard]] bool IsWorthCleaning() const EXCLUDES(mutex) {
    MutexLock lock(mutex);
    const std::uint64_t wanted = index.visible_bytes();
    const std::uint64_t waste = file_bytes - std::min(file_bytes, wanted);
    return waste >= kWasteBytesMin && waste >= wanted;
  }
  Status Rewrite(Lsn first_lsn) EXCLUDES(mutex);

  FileSystem& fs;
  const std::string directory;
  LetterWriter writer;  // of whose turn it is

  mutable Mutex mutex;
  CondVar turn;
  bool is_writing GUARDED_BY(mutex) = false;
  bool is_closed GUARDED_BY(mutex) = false;
  LetterIndex index GUARDED_BY(mutex);
  std::uint64_t file_bytes GUARDED_BY(mutex) = 0;
  LetterStats since_open GUARDED_BY(mutex);  // the counters in it
};

// Crash anywhere before the last file has its name: letters that stand twice, and files that the
// next open reads as before. Behind it, files that it removes.
Status DeadLetters::Impl::Rewrite(Lsn first_lsn) {
  TASKWAL_TRY(CheckOpen());
  const std::uint64_t old_last = writer.number();
  LetterRewriter rewriter(fs, directory, old_last, writer.end());
  std::vector<LetterIndex::Visible> moved;
  for (auto next = Next(0); next; next = Next(next->sequence)) {
    TASKWAL_ASSIGN(const std::vector<std::byte> body, ReadBody(next->place));
    TASKWAL_ASSIGN(const LetterPlace place, rewriter.Add(EntryKind::kLetter, body));
    moved.push_back({next->sequence, place});
  }
  LettersRetired retired;
  {
    MutexLock lock(mutex);
    retired = index.StandingFrom(first_lsn);
  }
  retired.files_to = old_last;
  TASKWAL_ASSIGN(const LetterPlace last, rewriter.Add(EntryKind::kRetired, EncodeRetired(retired)));
  TASKWAL_TRY(rewriter.Finish());
  writer.ContinueAt(last.file, rewriter.sound_bytes());
  {
    MutexLock lock(mutex);
    for (const auto& [sequence, place] : moved) index.Move(sequence, place);
    index.ForgetSettledBelow(first_lsn);
    file_bytes = rewriter.total_bytes();
  }
  for (std::uint64_t number = old_last; number > 0; --number) {
    const Status removed = fs.Remove(directory + "/" + LetterFileName(number));
    if (removed.code() == StatusCode::kNotFound) break;  // removed by an earlier cleaning
    IgnoreStatus(removed, "the next open removes it");
  }
  Logger().info("dead_letters event=cleaned files_to={} kept={} bytes={}", old_last, moved.size(),
                rewriter.total_bytes());
  return Status::Ok();
}

DeadLetters::DeadLetters(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeadLetters::~DeadLetters() = default;

void DeadLetters::Close() {
  const Impl::Turn mine(*impl_);
  MutexLock lock(impl_->mutex);
  impl_->is_closed = true;
}

Result<std::unique_ptr<DeadLetters>> DeadLetters::Open(FileSystem& fs,
                                                       const std::string& wal_directory,
                                                       bool read_only,
                                                       std::vector<std::string>* damage) {
  auto impl = std::make_unique<Impl>(fs, wal_directory);
  LetterIndex index;
  LetterLoader loader(fs, wal_directory, read_only, &index, damage);
  TASKWAL_TRY(loader.Load());
  impl->writer.ContinueAt(loader.last_number(), loader.sound_bytes());
  {
    MutexLock lock(impl->mutex);
    impl->index = std::move(index);
    impl->file_bytes = loader.file_bytes();
  }
  return std::unique_ptr<DeadLetters>(new DeadLetters(std::move(impl)));
}

// --- adding ---

Status DeadLetters::Add(const DeadLetter& letter) {
  if (letter.kind == DeadLetter::Kind::kRejected) {
    if (Contains(letter.key())) return Status::Ok();
    return impl_->AppendLetter(letter);
  }
  std::vector<LsnRange> parts;
  {
    MutexLock lock(impl_->mutex);
    parts = impl_->index.OpenPartsOf(letter);
  }
  DeadLetter part = letter;
  for (const LsnRange& range : parts) {
    part.lsns = range;
    TASKWAL_TRY(impl_->AppendLetter(part));
  }
  return Status::Ok();
}

Status DeadLetters::CheckRoom(const LetterLimits& limits) const {
  MutexLock lock(impl_->mutex);
  if (impl_->index.open() >= limits.count) {
    return Status::Overloaded("the dead letters are full (dead_letter_count_max=" +
                              std::to_string(limits.count) + ")");
  }
  if (impl_->index.open_bytes() >= limits.bytes) {
    return Status::Overloaded("the dead letters are full (dead_letter_bytes_max=" +
                              std::to_string(limits.bytes) + ")");
  }
  return Status::Ok();
}

bool DeadLetters::Contains(const LetterKey& key) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.Contains(key);
}

// --- what became of it ---

std::optional<LetterStanding> DeadLetters::StandingOf(const LetterKey& key) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.StandingOf(key);
}

Status DeadLetters::Resolve(std::span<const LetterResolution> resolutions) {
  const Impl::Turn mine(*impl_);
  std::vector<LetterResolution> open;
  {
    MutexLock lock(impl_->mutex);
    for (const LetterResolution& resolution : resolutions) {
      const auto standing = impl_->index.StandingOf(resolution.key);
      if (standing && standing->outcome == LetterOutcome::kOpen) open.push_back(resolution);
    }
  }
  if (open.empty()) return Status::Ok();
  return impl_->Append(EntryKind::kResolved, EncodeResolved(open),
                       [&](LetterIndex& known, LetterStats& counts, const LetterPlace&) {
                         for (const LetterResolution& resolution : open) {
                           // The same letter may be named twice: the first counts.
                           if (!known.Resolve(resolution)) continue;
                           CountSettled(resolution.standing.outcome, &counts);
                         }
                       });
}

Result<std::uint64_t> DeadLetters::Expire(Time before) {
  std::vector<LetterResolution> expired;
  {
    MutexLock lock(impl_->mutex);
    for (const LetterKey& key : impl_->index.ActivitiesBefore(before)) {
      expired.push_back({key, {LetterOutcome::kExpired, 0}});
    }
  }
  if (expired.empty()) return std::uint64_t{0};
  TASKWAL_TRY(Resolve(expired));
  Logger().warn("dead_letters event=expired activities={} before={}", expired.size(),
                FormatTime(before));
  return std::uint64_t{expired.size()};
}

Status DeadLetters::Clean(wal::Lsn first_lsn, wal::Lsn end_lsn) {
  const Impl::Turn mine(*impl_);
  TASKWAL_TRY(impl_->CheckOpen());
  {
    MutexLock lock(impl_->mutex);
    impl_->index.NoteEnd(end_lsn);
  }
  return impl_->IsWorthCleaning() ? impl_->Rewrite(first_lsn) : Status::Ok();
}

// --- tasks whose save was lettered ---

bool DeadLetters::HoldsSaveOf(const std::string& task_id, wal::Lsn before) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.HoldsSaveOf(task_id, before);
}

Status DeadLetters::ClearTask(const std::string& task_id, wal::Lsn lsn, wal::Lsn origin) {
  if (!HoldsSaveOf(task_id, lsn)) return Status::Ok();
  const TaskCleared cleared{task_id, lsn, origin == 0 ? lsn : origin};
  const Impl::Turn mine(*impl_);
  return impl_->Append(EntryKind::kTaskCleared, EncodeTaskCleared(cleared),
                       [&](LetterIndex& known, LetterStats&, const LetterPlace&) {
                         known.Clear(cleared);
                       });
}

Status DeadLetters::ClearDag(const std::string& dag_id, wal::Lsn lsn, wal::Lsn origin) {
  std::vector<std::string> tasks;
  {
    MutexLock lock(impl_->mutex);
    tasks = impl_->index.TasksHeldOf(dag_id, lsn);
  }
  for (const std::string& task : tasks) TASKWAL_TRY(ClearTask(task, lsn, origin));
  return Status::Ok();
}

Status DeadLetters::VoidClears(
    const wal::LsnRange& lsns,
    const std::function<bool(const std::string& task_id, wal::Lsn lsn)>& is_gone) {
  std::vector<TaskCleared> clears;
  {
    MutexLock lock(impl_->mutex);
    clears = impl_->index.ClearsIn(lsns);
  }
  for (TaskCleared& cleared : clears) {
    if (!is_gone(cleared.task_id, cleared.lsn)) continue;
    cleared.origin = 0;
    const Impl::Turn mine(*impl_);
    TASKWAL_TRY(impl_->Append(EntryKind::kTaskCleared, EncodeTaskCleared(cleared),
                              [&](LetterIndex& known, LetterStats&, const LetterPlace&) {
                                known.Clear(cleared);
                              }));
  }
  return Status::Ok();
}

bool DeadLetters::WasClearedSince(const std::string& task_id, wal::Lsn origin,
                                  wal::Lsn before) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.WasClearedSince(task_id, origin, before);
}

// --- reading ---

std::uint64_t DeadLetters::count() const {
  MutexLock lock(impl_->mutex);
  return impl_->index.open();
}

std::uint64_t DeadLetters::lost() const {
  MutexLock lock(impl_->mutex);
  return impl_->index.lost();
}

LetterStats DeadLetters::GetStats() const {
  MutexLock lock(impl_->mutex);
  LetterStats stats = impl_->since_open;
  stats.open = impl_->index.open();
  stats.open_bytes = impl_->index.open_bytes();
  stats.lost = impl_->index.lost();
  stats.oldest = impl_->index.oldest();
  return stats;
}

Result<DeadLetter> DeadLetters::Read(const LetterKey& key) const {
  for (int tries = 0;; ++tries) {
    std::optional<LetterPlace> place;
    {
      MutexLock lock(impl_->mutex);
      place = impl_->index.PlaceOf(key);
    }
    if (!place) return Status::NotFound("no open dead letter of LSN " + std::to_string(key.lsn));
    auto letter = impl_->Read(*place);
    // Moved by cleaning in between.
    if (letter.status().code() != StatusCode::kNotFound || tries > 0) return letter;
  }
}

Result<std::vector<DeadLetter>> DeadLetters::NewestRejected(std::uint16_t target) const {
  std::vector<LetterKey> keys;
  {
    MutexLock lock(impl_->mutex);
    keys = impl_->index.NewestRejected(target);
  }
  std::vector<DeadLetter> newest;
  for (const LetterKey& key : keys) {
    auto letter = Read(key);
    if (letter.status().code() == StatusCode::kNotFound) continue;  // settled
    if (!letter.ok()) return letter.status();
    newest.push_back(*std::move(letter));
  }
  return newest;
}

Status DeadLetters::ForEach(const std::function<bool(const DeadLetter&)>& visit) const {
  for (auto next = impl_->Next(0); next; next = impl_->Next(next->sequence)) {
    auto letter = impl_->Read(next->place);
    if (letter.status().code() == StatusCode::kNotFound) {
      // Cleaned up meanwhile: it stands elsewhere, or is settled.
      next = impl_->Next(next->sequence - 1);
      if (!next) break;
      letter = impl_->Read(next->place);
    }
    if (!letter.ok()) return letter.status();
    if (!visit(*letter)) break;
  }
  return Status::Ok();
}

}  // namespace taskwal::pipeline

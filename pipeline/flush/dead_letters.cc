#include "pipeline/flush/dead_letters.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/logging.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "pipeline/flush/letter_file.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;
using wal::LsnRange;

// Where a letter stands.
struct Place {
  std::uint64_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

std::span<const std::byte> BytesOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The parts of `range` that `covered` (ascending, apart) leaves open.
std::vector<LsnRange> Uncovered(LsnRange range, const std::vector<LsnRange>& covered) {
  std::vector<LsnRange> parts;
  for (const LsnRange& taken : covered) {
    if (taken.to < range.from || taken.from > range.to) continue;
    if (taken.from > range.from) parts.push_back({range.from, taken.from - 1});
    if (taken.to >= range.to) return parts;
    range.from = taken.to + 1;
  }
  parts.push_back(range);
  return parts;
}

// What is known without reading bodies.
class LetterIndex {
 public:
  void Add(const DeadLetter& letter, const Place& place) {
    if (letter.kind == DeadLetter::Kind::kLoss) {
      AddLoss(letter);
    } else {
      // A letter whose sync failed was added again to the next file; the first one counts.
      if (!keys_.emplace(letter.wal_id, letter.lsns.from).second) return;
      Hold(letter);
    }
    places_.push_back(place);
  }
  void Clear(const TaskCleared& cleared) {
    const auto held = held_.find(cleared.task_id);
    if (held != held_.end()) held->second.emplace(cleared.lsn, false);
  }

  [[nodiscard]] bool Contains(const Uuid& wal_id, Lsn lsn) const {
    return keys_.contains({wal_id, lsn});
  }
  [[nodiscard]] bool HoldsSaveOf(const std::string& task_id, Lsn before) const {
    const auto held = held_.find(task_id);
    if (held == held_.end()) return false;
    const auto next = held->second.lower_bound(before);
    return next != held->second.begin() && std::prev(next)->second;
  }
  [[nodiscard]] std::vector<LsnRange> OpenPartsOf(const DeadLetter& loss) const {
    const auto known = losses_.find(loss.wal_id);
    if (known == losses_.end()) return {loss.lsns};
    return Uncovered(loss.lsns, known->second);
  }
  [[nodiscard]] const std::vector<Place>& places() const { return places_; }
  [[nodiscard]] std::uint64_t count() const { return keys_.size(); }
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  void AddLoss(const DeadLetter& loss) {
    std::vector<LsnRange>& known = losses_[loss.wal_id];
    for (const LsnRange& part : Uncovered(loss.lsns, known)) lost_ += part.count();
    known.push_back(loss.lsns);
    std::sort(known.begin(), known.end(), [](const auto& a, const auto& b) {
      return a.from < b.from;
    });
  }
  void Hold(const DeadLetter& letter) {
    const Lsn lsn = letter.lsns.from;
    if (letter.type == storage::OperationType::kTaskUpdate) held_[letter.task_id][lsn] = true;
    if (letter.type != storage::OperationType::kBatchUpdate) return;
    const auto body = storage::Decode(letter.type, letter.body);
    if (!body.ok()) return;
    for (const Task& task : std::get<storage::SaveTasksOp>(*body).tasks) {
      held_[task.id][lsn] = true;
    }
  }

  std::vector<Place> places_;
  std::set<std::pair<Uuid, Lsn>> keys_;
  std::map<Uuid, std::vector<LsnRange>> losses_;  // by from; may overlap
  std::uint64_t lost_ = 0;
  // By task and LSN: a lettered save (true), or a save or delete that went through (false). The
  // last one before an operation tells whether it follows.
  std::unordered_map<std::string, std::map<Lsn, bool>> held_;
};

// The file that letters are appended to. One caller at a time.
class LetterWriter {
 public:
  LetterWriter(FileSystem& fs, std::string directory) : fs_(fs), directory_(std::move(directory)) {}

  // Where the next letter goes: behind `sound_bytes` of file `number` (0: a new file).
  void ContinueAt(std::uint64_t number, std::uint64_t sound_bytes) {
    number_ = number;
    end_ = sound_bytes;
  }

  // Durable on return.
  Result<Place> Append(EntryKind kind, std::span<const std::byte> body) {
    TASKWAL_TRY(OpenFile());
    const std::vector<std::byte> entry = MakeEntry(kind, body, number_, end_);
    const Status written = file_->WriteAndSync(end_, entry);
    if (!written.ok()) {
      // The page cache cannot be trusted with this file any more. The next one names how much of it
      // counts, so what this attempt left behind is void.
      file_.reset();
      is_condemned_ = true;
      return written;
    }
    const Place place{number_, end_, entry.size()};
    end_ += entry.size();
    return place;
  }

 private:
  [[nodiscard]] std::string PathOf(std::uint64_t number) const {
    return directory_ + "/" + LetterFileName(number);
  }

  Status OpenFile() {
    const bool is_full = end_ >= kLetterFileBytes;
    if (file_ && !is_full) return Status::Ok();
    if (!is_condemned_ && !is_full && end_ > 0) {
      TASKWAL_ASSIGN(file_, fs_.OpenWritable(PathOf(number_), false));
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

// Reads all files at open.
class LetterLoader {
 public:
  LetterLoader(FileSystem& fs, std::string wal_directory, bool read_only, LetterIndex* index,
               std::vector<std::string>* damage)
      : fs_(fs),
        wal_directory_(std::move(wal_directory)),
        directory_(wal_directory_ + "/dead-letters"),
        read_only_(read_only),
        index_(index),
        damage_(damage) {}

  Status Load() {
    auto entries = fs_.List(directory_);
    if (!entries.ok()) {
      return entries.status().code() == StatusCode::kNotFound ? Status::Ok() : entries.status();
    }
    std::set<std::uint64_t> numbers;
    for (const DirectoryEntry& entry : *entries) {
      if (const auto number = ParseLetterFileName(entry.name)) numbers.insert(*number);
    }
    last_number_ = numbers.empty() ? 0 : *numbers.rbegin();
    for (std::uint64_t number = 1; number <= last_number_; ++number) {
      if (numbers.contains(number)) {
        TASKWAL_TRY(LoadFile(number));
      } else {
        Damaged(LetterFileName(number) + " is missing");
      }
    }
    return Status::Ok();
  }

  // Where appending goes on.
  [[nodiscard]] std::uint64_t last_number() const { return last_number_; }
  [[nodiscard]] std::uint64_t sound_bytes() const { return sound_bytes_; }

 private:
  Status LoadFile(std::uint64_t number) {
    const std::string name = LetterFileName(number);
    TASKWAL_ASSIGN(const std::string content, ReadFile(fs_, directory_ + "/" + name));
    std::uint64_t counts = content.size();
    if (number < last_number_) {
      TASKWAL_ASSIGN(const auto named, PreviousBytes(number + 1));
      if (named.value_or(0) > counts) Damaged(name + " was cut short");
      counts = std::min(counts, named.value_or(counts));
    }
    const LetterFileScan scan =
        ScanLetterFile(BytesOf(content).first(counts), number,
                       [&](const EntryView& entry) { Take(number, entry); });
    for (const auto& [from, to] : scan.bad) Bad(number, from, to);
    if (number == last_number_) return EndAt(scan.sound_bytes, name, content);
    if (scan.sound_bytes < counts) Bad(number, scan.sound_bytes, counts);
    return Status::Ok();
  }

  // What the next file says of the one before it; nothing where that header is damaged.
  Result<std::optional<std::uint64_t>> PreviousBytes(std::uint64_t number) {
    auto file = fs_.OpenReadable(directory_ + "/" + LetterFileName(number));
    if (!file.ok()) {
      if (file.status().code() != StatusCode::kNotFound) return file.status();
      return std::optional<std::uint64_t>();
    }
    std::vector<std::byte> header(kLetterFileHeaderBytes);
    TASKWAL_ASSIGN(const std::size_t size, (*file)->Read(0, header));
    return ParseLetterFileHeader(std::span(header).first(size), number);
  }

  // An entry nobody was told of, or that never was whole: cut, with a copy kept aside. Only the
  // very last one can be such; whatever validates stays.
  Status EndAt(std::uint64_t sound_bytes, const std::string& name, const std::string& content) {
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

  void Take(std::uint64_t number, const EntryView& entry) {
    const Place place{number, entry.offset, entry.end_offset - entry.offset};
    if (entry.kind == EntryKind::kLetter) {
      if (const auto letter = DecodeLetter(entry.body)) return index_->Add(*letter, place);
    } else if (entry.kind == EntryKind::kTaskCleared) {
      if (const auto cleared = DecodeTaskCleared(entry.body)) return index_->Clear(*cleared);
    }
    Bad(number, entry.offset, entry.end_offset);
  }

  void Bad(std::uint64_t number, std::uint64_t from, std::uint64_t to) {
    Damaged(LetterFileName(number) + ": bytes " + std::to_string(from) + " to " +
            std::to_string(to) + " hold no sound entry");
  }
  void Damaged(const std::string& what) {
    if (damage_ != nullptr) damage_->push_back("dead-letters/" + what);
  }

  FileSystem& fs_;
  const std::string wal_directory_;
  const std::string directory_;
  const bool read_only_;
  LetterIndex* index_;
  std::vector<std::string>* damage_;
  std::uint64_t last_number_ = 0;
  std::uint64_t sound_bytes_ = 0;
};

}  // namespace

std::string DeadLetter::id() const {
  return wal_id.ToString() + "-" + std::to_string(lsns.from);
}

struct DeadLetters::Impl {
  Impl(FileSystem& file_system, const std::string& wal_directory)
      : fs(file_system),
        directory(wal_directory + "/dead-letters"),
        writer(file_system, directory) {}

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

  // Writes one entry and lets `remember` put it into the index; what others asked for meanwhile
  // waits its turn without holding the mutex over the I/O.
  template <typename Remember>
  Status Append(EntryKind kind, std::span<const std::byte> body, Remember&& remember)
      EXCLUDES(mutex) {
    const Turn mine(*this);
    TASKWAL_ASSIGN(const Place place, writer.Append(kind, body));
    MutexLock lock(mutex);
    remember(index, place);
    return Status::Ok();
  }

  Status AppendLetter(const DeadLetter& letter) EXCLUDES(mutex) {
    return Append(EntryKind::kLetter, EncodeLetter(letter),
                  [&](LetterIndex& known, const Place& place) { known.Add(letter, place); });
  }

  Result<DeadLetter> Read(const Place& place) const {
    const std::string path = directory + "/" + LetterFileName(place.file);
    TASKWAL_ASSIGN(const auto file, fs.OpenReadable(path));
    std::vector<std::byte> bytes(place.bytes);
    TASKWAL_ASSIGN(const std::size_t size, file->Read(place.offset, bytes));
    const auto entry = ParseEntry(std::span(bytes).first(size), place.file, place.offset);
    auto letter = entry ? DecodeLetter(entry->body) : std::nullopt;
    if (letter) return *std::move(letter);
    return Status::Corruption(path + ": the entry at offset " + std::to_string(place.offset) +
                              " does not validate any more");
  }

  FileSystem& fs;
  const std::string directory;
  LetterWriter writer;  // of whose turn it is

  mutable Mutex mutex;
  CondVar turn;
  bool is_writing GUARDED_BY(mutex) = false;
  LetterIndex index GUARDED_BY(mutex);
};

DeadLetters::DeadLetters(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DeadLetters::~DeadLetters() = default;

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
  }
  return std::unique_ptr<DeadLetters>(new DeadLetters(std::move(impl)));
}

Status DeadLetters::Add(const DeadLetter& letter) {
  if (letter.kind == DeadLetter::Kind::kRejected) {
    return Contains(letter.wal_id, letter.lsns.from) ? Status::Ok() : impl_->AppendLetter(letter);
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

bool DeadLetters::Contains(const Uuid& wal_id, wal::Lsn lsn) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.Contains(wal_id, lsn);
}

bool DeadLetters::HoldsSaveOf(const std::string& task_id, wal::Lsn before) const {
  MutexLock lock(impl_->mutex);
  return impl_->index.HoldsSaveOf(task_id, before);
}

Status DeadLetters::ClearTask(const std::string& task_id, wal::Lsn lsn) {
  if (!HoldsSaveOf(task_id, lsn)) return Status::Ok();
  const TaskCleared cleared{task_id, lsn};
  return impl_->Append(EntryKind::kTaskCleared, EncodeTaskCleared(cleared),
                       [&](LetterIndex& known, const Place&) { known.Clear(cleared); });
}

std::uint64_t DeadLetters::count() const {
  MutexLock lock(impl_->mutex);
  return impl_->index.count();
}

std::uint64_t DeadLetters::lost() const {
  MutexLock lock(impl_->mutex);
  return impl_->index.lost();
}

Status DeadLetters::ForEach(const std::function<bool(const DeadLetter&)>& visit) const {
  std::vector<Place> places;
  {
    MutexLock lock(impl_->mutex);
    places = impl_->index.places();
  }
  for (const Place& place : places) {
    TASKWAL_ASSIGN(const DeadLetter letter, impl_->Read(place));
    if (!visit(letter)) break;
  }
  return Status::Ok();
}

}  // namespace taskwal::pipeline

#include "tests/support/simulated_disk.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace taskwal {
namespace {

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kPage = 4096;

bool IsZero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} &&
          std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// Pages of zeros, which most of a ring are, take no memory and no time.
UniqueFd MakeMemory(std::span<const std::byte> content) {
  UniqueFd memory(::memfd_create("simulated ring", MFD_CLOEXEC));
  TASKWAL_CHECK(memory.get() >= 0);
  TASKWAL_CHECK(::ftruncate(memory.get(), static_cast<off_t>(content.size())) == 0);
  for (std::size_t from = 0; from < content.size(); from += kPage) {
    const auto page = content.subspan(from, std::min<std::size_t>(kPage, content.size() - from));
    if (IsZero(page)) continue;
    TASKWAL_CHECK(WriteFully(memory.get(), "memfd", from, page).ok());
  }
  return memory;
}

void FillWithGarbage(std::span<std::byte> bytes, Random& random) {
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.Next());
}

// What becomes of a sector that was `written`, as long as `durable`, and not synced. Whether it
// holds that afterwards.
bool Settle(std::span<std::byte> durable, std::span<const std::byte> written, Random& random,
            const PowerLossOdds& odds, DiskFates* fates) {
  const double fate = random.Unit();
  const bool is_new = std::memcmp(durable.data(), written.data(), durable.size()) != 0;
  if (fate < odds.kept) {
    std::memcpy(durable.data(), written.data(), durable.size());
    fates->sectors_kept += is_new ? 1 : 0;
    return true;
  }
  if (fate < odds.kept + odds.garbage) {
    FillWithGarbage(durable, random);
    ++fates->sectors_garbage;
    return false;
  }
  if (is_new) ++(IsZero(durable) ? fates->sectors_lost : fates->sectors_stale);
  return !is_new;
}

std::uint64_t SizeAfterPowerLoss(std::uint64_t old_size, std::uint64_t new_size, Random& random,
                                 const PowerLossOdds& odds) {
  if (random.Unit() < odds.kept) return new_size;
  // The metadata of a part of the appended blocks, without the rest.
  if (new_size > old_size && random.Unit() < odds.garbage) {
    return old_size + random.Below(new_size - old_size);
  }
  return old_size;
}

// As most paths are: nothing to be left out of it.
bool IsNormal(const std::string& path) {
  return path.size() > 1 && path.front() == '/' && path.back() != '/' &&
         path.find("//") == std::string::npos && path.find("/.") == std::string::npos;
}

bool SharesPath(const std::map<std::string, SimulatedDisk::File>& change,
                const std::set<std::string>& paths) {
  return std::any_of(change.begin(), change.end(),
                     [&](const auto& name) { return paths.contains(name.first); });
}

}  // namespace

std::uint64_t SimulatedFile::Size() const { return is_ring() ? durable_.size() : cached_.size(); }

std::vector<std::byte> SimulatedFile::Content() const {
  std::vector<std::byte> content(Size());
  ReadAt(0, content);
  return content;
}

std::size_t SimulatedFile::ReadAt(std::uint64_t offset, std::span<std::byte> into) const {
  if (is_ring()) {
    const auto count = ReadFully(memory.get(), "memfd", offset, into);
    TASKWAL_CHECK(count.ok());
    return *count;
  }
  if (offset >= cached_.size() || into.empty()) return 0;
  const std::size_t count = std::min<std::size_t>(into.size(), cached_.size() - offset);
  std::memcpy(into.data(), cached_.data() + offset, count);
  return count;
}

void SimulatedFile::WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const std::uint64_t end = offset + bytes.size();
  if (is_ring()) {
    TASKWAL_CHECK(end <= Size() && WriteFully(memory.get(), "memfd", offset, bytes).ok());
    return;
  }
  if (end > cached_.size()) cached_.resize(end);
  std::memcpy(cached_.data() + offset, bytes.data(), bytes.size());
  MarkDirty(offset, end);
}

void SimulatedFile::Resize(std::uint64_t size) {
  TASKWAL_CHECK(!is_ring());
  // What is cut off must not come back when the file grows again.
  if (size < cached_.size()) MarkDirty(size, cached_.size());
  cached_.resize(size);
}

void SimulatedFile::MarkDirty(std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t sector = from / kSector; sector * kSector < to; ++sector) {
    dirty_.insert(sector);
  }
}

void SimulatedFile::FlipBits(std::uint64_t offset, std::uint8_t mask) {
  TASKWAL_CHECK(offset < Size());
  std::byte byte{};
  ReadAt(offset, {&byte, 1});
  byte ^= static_cast<std::byte>(mask);
  if (is_ring()) {
    WriteAt(offset, {&byte, 1});
  } else {
    cached_[offset] = byte;
  }
  if (offset < durable_.size()) durable_[offset] ^= static_cast<std::byte>(mask);
}

void SimulatedFile::ResizeDurably(std::uint64_t size) {
  if (is_ring()) {
    cached_ = Content();
    memory = UniqueFd();
  }
  cached_.resize(size);
  durable_ = cached_;
  dirty_.clear();
}

void SimulatedFile::Sync() {
  if (is_ring()) return;
  durable_.resize(cached_.size());
  for (const std::uint64_t sector : dirty_) {
    const std::uint64_t from = sector * kSector;
    if (from >= cached_.size()) continue;
    std::memcpy(durable_.data() + from, cached_.data() + from,
                std::min<std::uint64_t>(kSector, cached_.size() - from));
  }
  dirty_.clear();
}

void SimulatedFile::FailSync(Random& random) {
  ++sync_errors;
  std::erase_if(dirty_, [&](std::uint64_t) { return random.OneIn(2); });
  Sync();
}

void SimulatedFile::BecomeRing() {
  if (is_ring()) return;
  memory = MakeMemory(cached_);
  durable_ = std::move(cached_);
  cached_.clear();
  dirty_.clear();
}

void SimulatedFile::DetachRing() {
  if (is_ring()) memory = MakeMemory(Content());
}

void SimulatedFile::LosePower(Random& random, const PowerLossOdds& odds, DiskFates* fates) {
  if (is_ring()) return LosePowerOfRing(random, odds, fates);
  const std::uint64_t old_size = durable_.size();
  if (cached_.size() != old_size) {
    durable_.resize(SizeAfterPowerLoss(old_size, cached_.size(), random, odds));
  }
  bool is_ahead = false;
  for (const std::uint64_t sector : dirty_) {
    const std::uint64_t from = sector * kSector;
    if (from >= durable_.size()) break;
    const auto target = std::span(durable_).subspan(
        from, std::min<std::uint64_t>(kSector, durable_.size() - from));
    std::array<std::byte, kSector> written{};
    ReadAt(from, std::span(written).first(target.size()));
    const bool was_kept = Settle(target, written, random, odds, fates);
    is_ahead = is_ahead || (!was_kept && from + target.size() > old_size);
  }
  fates->sizes_ahead += is_ahead ? 1 : 0;
  cached_ = durable_;
  dirty_.clear();
}

// Pages of a mapping are written back whenever the kernel likes, each for itself, and one that is
// under way is torn by the sector. What is as it was is not written.
void SimulatedFile::LosePowerOfRing(Random& random, const PowerLossOdds& odds, DiskFates* fates) {
  const std::vector<std::byte> content = Content();
  for (std::size_t from = 0; from < content.size(); from += kSector) {
    const std::size_t size = std::min<std::size_t>(kSector, content.size() - from);
    const auto target = std::span(durable_).subspan(from, size);
    const auto written = std::span(content).subspan(from, size);
    if (std::memcmp(target.data(), written.data(), size) == 0) continue;
    Settle(target, written, random, odds, fates);
  }
  memory = MakeMemory(durable_);
}

std::string SimulatedDisk::Normal(const std::string& path) {
  if (IsNormal(path)) return path;
  std::string normal = path.starts_with('/') ? "/" : "";
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (!normal.empty() && normal.back() != '/') normal += '/';
    normal += part;
  }
  return normal.empty() ? "." : normal;
}

std::string SimulatedDisk::ParentOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

SimulatedDisk::File SimulatedDisk::Find(const std::string& path) const {
  const auto found = cached_.find(path);
  return found == cached_.end() ? nullptr : found->second;
}

bool SimulatedDisk::IsDirectory(const std::string& path) const {
  if (path == "." || path == "/") return true;
  const File file = Find(path);
  return file && file->is_directory;
}

std::vector<DirectoryEntry> SimulatedDisk::List(const std::string& directory) const {
  const bool is_root = directory.ends_with('/');
  const std::string prefix = directory == "." ? "" : is_root ? directory : directory + "/";
  std::vector<DirectoryEntry> entries;
  for (auto name = cached_.lower_bound(prefix);
       name != cached_.end() && name->first.starts_with(prefix); ++name) {
    std::string rest = name->first.substr(prefix.size());
    if (rest.find('/') != std::string::npos) continue;
    entries.push_back({std::move(rest), name->second->is_directory});
  }
  return entries;
}

std::uint64_t SimulatedDisk::UsedBytes() const {
  std::uint64_t used = 0;
  for (const auto& [path, file] : cached_) used += file->Size();
  return used;
}

SimulatedDisk::File SimulatedDisk::MakeFile(bool is_directory) {
  const std::uint64_t inode = next_inode_++;
  // Any number that no other inode has would do as a birth time.
  const std::uint64_t born = 1'767'225'600'000'000'000u + inode * 1000;
  return std::make_shared<SimulatedFile>(inode, born, is_directory);
}

SimulatedDisk::File SimulatedDisk::Create(const std::string& path) {
  File file = MakeFile(/*is_directory=*/false);
  Do({{path, file}});
  return file;
}

void SimulatedDisk::MakeDirectory(const std::string& path) {
  if (IsDirectory(path)) return;
  Do({{path, MakeFile(/*is_directory=*/true)}});
  SyncDirectory(ParentOf(path));
}

void SimulatedDisk::Rename(const std::string& from, const std::string& to) {
  if (from == to) return;
  Change change;
  for (const auto& [path, file] : cached_) {
    if (path != from && !path.starts_with(from + "/")) continue;
    change[path] = nullptr;
    change[to + path.substr(from.size())] = file;
  }
  Do(std::move(change));
}

void SimulatedDisk::Exchange(const std::string& a, const std::string& b) {
  Do({{a, Find(b)}, {b, Find(a)}});
}

void SimulatedDisk::Remove(const std::string& path) { Do({{path, nullptr}}); }

void SimulatedDisk::CopyTree(const std::string& from, const std::string& to) {
  Change copies;
  for (const auto& [path, file] : cached_) {
    if (path != from && !path.starts_with(from + "/")) continue;
    const File copy = MakeFile(file->is_directory);
    copy->modified = file->modified;
    copy->WriteAt(0, file->Content());
    copy->Sync();
    if (file->is_ring()) copy->BecomeRing();
    copies[to + path.substr(from.size())] = copy;
  }
  Apply(copies, &cached_);
  Apply(copies, &durable_);
}

void SimulatedDisk::RemoveTree(const std::string& path) {
  durable_ = cached_;
  unsynced_.clear();
  Change gone;
  for (const auto& [name, file] : cached_) {
    if (name == path || name.starts_with(path + "/")) gone[name] = nullptr;
  }
  Apply(gone, &cached_);
  Apply(gone, &durable_);
}

void SimulatedDisk::Do(Change change) {
  Apply(change, &cached_);
  unsynced_.push_back(std::move(change));
}

void SimulatedDisk::Apply(const Change& change, std::map<std::string, File>* names) {
  for (const auto& [path, file] : change) {
    if (file) {
      (*names)[path] = file;
    } else {
      names->erase(path);
    }
  }
}

// Every change that touches the directory reaches the disk, and with it those it builds upon.
void SimulatedDisk::SyncDirectory(const std::string& path) {
  std::set<std::string> needed;
  std::vector<Change> synced;
  std::vector<Change> left;
  for (auto change = unsynced_.rbegin(); change != unsynced_.rend(); ++change) {
    const bool touches = std::any_of(change->begin(), change->end(), [&](const auto& name) {
      return ParentOf(name.first) == path;
    });
    const bool goes = touches || SharesPath(*change, needed);
    if (goes) {
      for (const auto& [name, file] : *change) needed.insert(name);
    }
    (goes ? synced : left).push_back(std::move(*change));
  }
  for (auto change = synced.rbegin(); change != synced.rend(); ++change) Apply(*change, &durable_);
  unsynced_.assign(std::make_move_iterator(left.rbegin()), std::make_move_iterator(left.rend()));
}

void SimulatedDisk::DetachRings() {
  for (const auto& [path, file] : cached_) file->DetachRing();
}

// A change cannot outlive the loss of one that it builds upon.
void SimulatedDisk::LosePower(Random& random, const PowerLossOdds& odds, DiskFates* fates) {
  std::set<std::string> lost;
  for (const Change& change : unsynced_) {
    if (!SharesPath(change, lost) && random.Unit() < odds.kept) {
      Apply(change, &durable_);
      ++fates->names_kept;
      continue;
    }
    ++fates->names_lost;
    for (const auto& [name, file] : change) lost.insert(name);
  }
  unsynced_.clear();
  cached_ = durable_;
  for (const auto& [path, file] : cached_) file->LosePower(random, odds, fates);
}

}  // namespace taskwal

#include "bench/reference_writer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checksum.h"
#include "base/futex.h"
#include "base/status_macros.h"
#include "bench/yardsticks.h"
#include "storage/operation.h"
#include "wal/format.h"

namespace taskwal::bench {
namespace {

constexpr std::uint64_t kFileBytes = 64u << 20;
constexpr std::size_t kBufferBytes = 1u << 20;
constexpr std::size_t kRecordBytesMax = 4096;
constexpr std::size_t kWakeBytes = 256u << 10;
constexpr auto kLinger = std::chrono::milliseconds(1);
constexpr std::uint64_t kFailed = UINT64_MAX;
constexpr std::uint32_t kManyWaiting = 32;
constexpr int kTurnsAwake = 40;

// Before each record.
struct Prefix {
  std::uint32_t bytes;
  std::uint32_t type;
  std::uint64_t key;
  std::uint64_t checksum;
};

}  // namespace

Result<std::unique_ptr<ReferenceWriter>> ReferenceWriter::Open(const std::string& path,
                                                               bool durable) {
  TASKWAL_TRY(FillFile(path, kFileBytes));
  TASKWAL_ASSIGN(std::unique_ptr<WritableFile> file, FileSystem::Real().OpenWritable(path, false));
  return std::unique_ptr<ReferenceWriter>(new ReferenceWriter(std::move(file), durable));
}

ReferenceWriter::ReferenceWriter(std::unique_ptr<WritableFile> file, bool durable)
    : file_(std::move(file)), durable_(durable) {
  writing_.bytes.resize(kBufferBytes);
  filling_.bytes.resize(kBufferBytes);
  flusher_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

ReferenceWriter::~ReferenceWriter() {
  flusher_.request_stop();
  work_.NotifyOne();
}

std::uint64_t ReferenceWriter::Append(const Activity& activity) {
  thread_local std::array<std::byte, kRecordBytesMax> record;
  const std::size_t bytes = storage::EncodedBytes(activity, activity.id);
  const auto body = std::span(record).subspan(sizeof(Prefix), bytes);
  storage::Encode(activity, activity.id, *activity.created_at, body);
  const Prefix prefix{static_cast<std::uint32_t>(bytes), 20, storage::KeyOf(activity.task_id),
                      Checksum(body)};
  std::memcpy(record.data(), &prefix, sizeof prefix);
  const std::size_t need = sizeof prefix + bytes;
  MutexLock lock(mutex_);
  while (filling_.used + need > kBufferBytes && status_.ok()) {
    work_.NotifyOne();
    room_.Wait(mutex_);
  }
  if (!status_.ok()) return 0;
  std::memcpy(filling_.bytes.data() + filling_.used, record.data(), need);
  filling_.used += need;
  if (asleep_ && filling_.used >= kWakeBytes) work_.NotifyOne();
  return next_++;
}

bool ReferenceWriter::WaitDurable(std::uint64_t position) {
  {
    MutexLock lock(mutex_);
    wanted_ = std::max(wanted_, position);
    if (asleep_ && settled_ < position) work_.NotifyOne();
  }
  waiting_.fetch_add(1);
  for (int turn = 0; settled_.load() < position; ++turn) {
    const std::uint32_t commits = commits_.load();
    if (turn < kTurnsAwake && waiting_.load() >= kManyWaiting) {
      std::this_thread::yield();
    } else if (settled_.load() < position) {
      FutexWait(commits_, commits, std::chrono::steady_clock::time_point::max());
    }
  }
  waiting_.fetch_sub(1);
  return settled_.load() != kFailed;
}

Status ReferenceWriter::health() const {
  MutexLock lock(mutex_);
  return status_;
}

bool ReferenceWriter::IsDue() const {
  return filling_.used >= kWakeBytes || (filling_.used > 0 && wanted_ > settled_);
}

void ReferenceWriter::Run(const std::stop_token& stop) {
  MutexLock lock(mutex_);
  while (!stop.stop_requested() && status_.ok()) {
    if (!IsDue()) {
      asleep_ = true;
      work_.WaitFor(mutex_, kLinger);
      asleep_ = false;
    }
    if (filling_.used == 0) continue;
    const std::uint64_t last = next_ - 1;
    std::swap(filling_, writing_);
    filling_.used = 0;
    room_.NotifyAll();
    mutex_.Unlock();
    const Status written = WriteOut();
    mutex_.Lock();
    status_ = written;
    settled_ = written.ok() ? last : kFailed;
    if (!durable_ && written.ok()) continue;
    commits_.fetch_add(1);
    // Without the mutex, or those who wake would fall asleep again on it.
    mutex_.Unlock();
    FutexWakeAll(commits_);
    if (!written.ok()) room_.NotifyAll();
    mutex_.Lock();
  }
}

Status ReferenceWriter::WriteOut() {
  // Whole sectors, zeros behind the last record: there reading ends.
  const std::size_t size = wal::AlignUp(writing_.used, wal::kSectorBytes);
  std::fill(writing_.bytes.begin() + static_cast<std::ptrdiff_t>(writing_.used),
            writing_.bytes.begin() + static_cast<std::ptrdiff_t>(size), std::byte{0});
  if (offset_ + size > kFileBytes) offset_ = 0;
  const auto bytes = std::span<const std::byte>(writing_.bytes).first(size);
  const std::uint64_t at = offset_;
  offset_ += size;
  return durable_ ? file_->WriteAndSync(at, bytes) : file_->Write(at, bytes);
}

}  // namespace taskwal::bench

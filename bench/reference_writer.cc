#include "bench/reference_writer.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/status_macros.h"
#include "bench/yardsticks.h"
#include "wal/format.h"

namespace taskwal::bench {
namespace {

constexpr std::uint64_t kFileBytes = 64u << 20;
constexpr std::size_t kBufferBytes = 1u << 20;
constexpr std::size_t kWakeBytes = 256u << 10;
constexpr auto kLinger = std::chrono::milliseconds(1);

struct Header {
  std::uint64_t first, count, bytes, checksum;
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
  filling_.used = sizeof(Header);
  flusher_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

ReferenceWriter::~ReferenceWriter() {
  flusher_.request_stop();
  work_.NotifyOne();
}

std::uint64_t ReferenceWriter::Append(std::uint64_t key, std::span<const std::byte> body) {
  const wal::RecordPrefix prefix{static_cast<std::uint32_t>(body.size()), 16, 0, 0, key, 1};
  const std::size_t need = sizeof prefix + body.size();
  MutexLock lock(mutex_);
  while (filling_.used + need > kBufferBytes && status_.ok()) {
    work_.NotifyOne();
    room_.Wait(mutex_);
  }
  if (!status_.ok()) return 0;
  std::byte* at = filling_.bytes.data() + filling_.used;
  std::memcpy(at, &prefix, sizeof prefix);
  std::memcpy(at + sizeof prefix, body.data(), body.size());
  filling_.used += need;
  if (asleep_ && filling_.used >= kWakeBytes) work_.NotifyOne();
  return next_++;
}

bool ReferenceWriter::WaitDurable(std::uint64_t position) {
  MutexLock lock(mutex_);
  wanted_ = std::max(wanted_, position);
  if (asleep_ && settled_ < position) work_.NotifyOne();
  while (settled_ < position && status_.ok()) done_.Wait(mutex_);
  return status_.ok();
}

Status ReferenceWriter::health() const {
  MutexLock lock(mutex_);
  return status_;
}

bool ReferenceWriter::IsDue() const {
  if (filling_.used == sizeof(Header)) return false;
  return filling_.used >= kWakeBytes || wanted_ > settled_;
}

void ReferenceWriter::Run(const std::stop_token& stop) {
  MutexLock lock(mutex_);
  while (!stop.stop_requested() && status_.ok()) {
    if (!IsDue()) {
      asleep_ = true;
      work_.WaitFor(mutex_, kLinger);
      asleep_ = false;
    }
    if (filling_.used == sizeof(Header)) continue;
    const std::uint64_t last = next_ - 1;
    const std::uint64_t first = settled_ + 1;
    std::swap(filling_, writing_);
    filling_.used = sizeof(Header);
    room_.NotifyAll();
    mutex_.Unlock();
    const Status written = WriteOut(first, last - first + 1);
    mutex_.Lock();
    status_ = written;
    settled_ = last;
    if (durable_ || !written.ok()) done_.NotifyAll();
    if (!written.ok()) room_.NotifyAll();
  }
}

Status ReferenceWriter::WriteOut(std::uint64_t first, std::uint64_t count) {
  const auto body = std::span<const std::byte>(writing_.bytes)
                        .first(writing_.used)
                        .subspan(sizeof(Header));
  const Header header{first, count, body.size(), Checksum(body)};
  std::memcpy(writing_.bytes.data(), &header, sizeof header);
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

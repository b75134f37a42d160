// Files whose writes or syncs do not return until a test lets them, as on a disk that has stopped
// answering.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "tests/support/forwarding_file_system.h"

namespace taskwal {

class HangingFileSystem final : public ForwardingFileSystem {
 public:
  explicit HangingFileSystem(FileSystem& target) : ForwardingFileSystem(target) {}
  ~HangingFileSystem() override { Answer(); }

  // From now on, until Answer.
  void Hang() {
    MutexLock lock(mutex_);
    hangs_ = true;
    held_.clear();
  }
  void Answer() {
    MutexLock lock(mutex_);
    hangs_ = false;
    changed_.NotifyAll();
  }
  // Blocks until a call hangs; false when none does.
  bool AwaitHeld() {
    const auto until = std::chrono::steady_clock::now() + kLongest;
    MutexLock lock(mutex_);
    bool in_time = true;
    while (held_.empty() && in_time) in_time = changed_.WaitUntil(mutex_, until);
    return !held_.empty();
  }
  // Threads that have been held since Hang.
  [[nodiscard]] std::vector<std::thread::id> held() {
    MutexLock lock(mutex_);
    return held_;
  }
  // Nobody waits for ever: true when a call was held that long.
  [[nodiscard]] bool gave_up() {
    MutexLock lock(mutex_);
    return gave_up_;
  }

  Result<std::unique_ptr<WritableFile>> OpenWritable(const std::string& path,
                                                     bool create) override {
    auto file = ForwardingFileSystem::OpenWritable(path, create);
    if (!file.ok()) return file;
    return std::unique_ptr<WritableFile>(std::make_unique<File>(*this, std::move(file).value()));
  }

 private:
  static constexpr std::chrono::seconds kLongest{60};

  class File final : public WritableFile {
   public:
    File(HangingFileSystem& fs, std::unique_ptr<WritableFile> file)
        : fs_(fs), file_(std::move(file)) {}
    Status Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
      fs_.MayHang();
      return file_->Write(offset, bytes);
    }
    Status Sync() override {
      fs_.MayHang();
      return file_->Sync();
    }
    Status WriteAndSync(std::uint64_t offset, std::span<const std::byte> bytes) override {
      fs_.MayHang();
      return file_->WriteAndSync(offset, bytes);
    }
    Status Truncate(std::uint64_t size) override { return file_->Truncate(size); }

   private:
    HangingFileSystem& fs_;
    const std::unique_ptr<WritableFile> file_;
  };

  void MayHang() {
    const auto until = std::chrono::steady_clock::now() + kLongest;
    MutexLock lock(mutex_);
    if (!hangs_) return;
    held_.push_back(std::this_thread::get_id());
    changed_.NotifyAll();
    bool in_time = true;
    while (hangs_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
    gave_up_ = gave_up_ || hangs_;
  }

  Mutex mutex_;
  CondVar changed_;
  bool hangs_ GUARDED_BY(mutex_) = false;
  bool gave_up_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread::id> held_ GUARDED_BY(mutex_);
};

}  // namespace taskwal

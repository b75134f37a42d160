// A database for tests that can be taken away and given back, and that outlives the storages which
// are opened on it: each gets a backend of its own, all of them see the same data. A storage that
// was closed while a call was under way leaves it behind; the database ends after the last of them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "storage/memory/memory_backend.h"

namespace taskwal {

class SwitchableDatabase {
 public:
  // As a database that keeps what it has when the process ends, unless told otherwise.
  explicit SwitchableDatabase(bool is_volatile = false) : is_volatile_(is_volatile) {}
  // Waits for the backends: what its hooks refer to is to be declared before it.
  ~SwitchableDatabase() {
    MutexLock lock(mutex_);
    while (backends_ > 0) backend_ended_.Wait(mutex_);
  }
  SwitchableDatabase(const SwitchableDatabase&) = delete;
  SwitchableDatabase& operator=(const SwitchableDatabase&) = delete;

  std::unique_ptr<storage::Backend> Open() { return std::make_unique<Backend>(*this); }
  // Sessions see it at their next call.
  void GoAway() { away_.store(true); }
  void ComeBack() { away_.store(false); }
  // Called at the start of every Connect, on the caller's thread.
  void OnConnect(std::function<void()> hook) { on_connect_ = std::move(hook); }
  // Called before every question (all but Apply), on the caller's thread.
  void OnAsk(std::function<void()> hook) { on_ask_ = std::move(hook); }
  // Called before every Apply, on the caller's thread: whether the connection is lost in it, and
  // then whether it was committed.
  enum class Cut : std::uint8_t { kNone, kBefore, kAfter };
  void OnApply(std::function<Cut()> hook) { on_apply_ = std::move(hook); }
  // Asked before every Apply, on the worker's thread: what it fails with, with nothing done. Set
  // before use.
  void FailApply(std::function<Status(const storage::Batch&)> hook) {
    fail_apply_ = std::move(hook);
  }
  void set_writers_max(std::uint32_t writers) { writers_max_ = writers; }
  storage::MemoryBackend& data() { return data_; }
  [[nodiscard]] std::uint64_t connects() const { return connects_.load(); }

 private:
  class Session final : public storage::Session {
   public:
    Session(SwitchableDatabase& database, std::unique_ptr<storage::Session> session)
        : database_(database), session_(std::move(session)) {}

    Result<storage::ApplyResult> Apply(const storage::Batch& batch) override {
      if (database_.fail_apply_) {
        const Status failed = database_.fail_apply_(batch);
        if (!failed.ok()) return failed;
      }
      const Cut cut = database_.on_apply_ ? database_.on_apply_() : Cut::kNone;
      const Status lost = Status::Unavailable("test: the connection was cut");
      if (cut == Cut::kBefore) return lost;
      auto applied = Call([&] { return session_->Apply(batch); });
      if (cut == Cut::kAfter) return lost;
      return applied;
    }
    Result<storage::LogRow> ReadLog(const Uuid& wal_id) override {
      return Ask([&] { return session_->ReadLog(wal_id); });
    }
    Result<storage::LogRow> RegisterLog(const Uuid& wal_id, std::uint64_t epoch,
                                        std::span<const storage::Lsn> start) override {
      return Ask([&] { return session_->RegisterLog(wal_id, epoch, start); });
    }
    Status Ping() override {
      return Ask([&] { return session_->Ping(); });
    }
    Result<StoredTask> GetTask(std::string_view id) override {
      return Ask([&] { return session_->GetTask(id); });
    }
    Result<TaskPage> QueryTasks(const TaskQuery& query) override {
      return Ask([&] { return session_->QueryTasks(query); });
    }
    Result<TaskPage> ResumableTasks(const Paging& paging) override {
      return Ask([&] { return session_->ResumableTasks(paging); });
    }
    Result<ActivityPage> QueryActivities(const ActivityQuery& query) override {
      return Ask([&] { return session_->QueryActivities(query); });
    }
    Result<StoredCounts> Count() override {
      return Ask([&] { return session_->Count(); });
    }
    Result<std::uint64_t> HighestStamp() override {
      return Ask([&] { return session_->HighestStamp(); });
    }
    Result<std::vector<std::string>> OldTasks(Time before, std::span<const TaskStatus> statuses,
                                              std::string_view after,
                                              std::uint32_t limit) override {
      return Ask([&] { return session_->OldTasks(before, statuses, after, limit); });
    }
    Result<std::uint64_t> DeleteTasks(std::span<const std::string> ids, Time before,
                                      std::span<const TaskStatus> statuses) override {
      return Ask([&] { return session_->DeleteTasks(ids, before, statuses); });
    }
    Result<std::uint64_t> DeleteOldActivities(Time before, std::uint32_t limit) override {
      return Ask([&] { return session_->DeleteOldActivities(before, limit); });
    }

   private:
    template <typename Question>
    auto Ask(Question&& question) -> decltype(question()) {
      if (database_.on_ask_) database_.on_ask_();
      return Call(question);
    }
    template <typename Question>
    auto Call(Question&& question) -> decltype(question()) {
      if (database_.away_.load()) return Status::Unavailable("test: the connection was lost");
      return question();
    }

    SwitchableDatabase& database_;
    const std::unique_ptr<storage::Session> session_;
  };

  class Backend final : public storage::Backend {
   public:
    explicit Backend(SwitchableDatabase& database) : database_(database) {
      MutexLock lock(database_.mutex_);
      ++database_.backends_;
    }
    ~Backend() override {
      MutexLock lock(database_.mutex_);
      --database_.backends_;
      database_.backend_ended_.NotifyAll();
    }

    [[nodiscard]] std::string_view kind() const override { return "test"; }
    [[nodiscard]] const std::string& name() const override { return database_.name_; }
    [[nodiscard]] std::uint32_t writers_max() const override {
      return database_.writers_max_;
    }
    [[nodiscard]] bool is_volatile() const override { return database_.is_volatile_; }
    Result<std::unique_ptr<storage::Session>> Connect() override {
      ++database_.connects_;
      if (database_.on_connect_) database_.on_connect_();
      if (database_.away_.load()) return Status::Unavailable("test: connection refused");
      auto session = database_.data_.Connect();
      if (!session.ok()) return session.status();
      return std::unique_ptr<storage::Session>(
          std::make_unique<Session>(database_, std::move(session).value()));
    }
    [[nodiscard]] Uuid db_id() const override { return database_.data_.db_id(); }

   private:
    SwitchableDatabase& database_;
  };

  const std::string name_ = "test:";
  const bool is_volatile_;
  storage::MemoryBackend data_;
  std::atomic<bool> away_{false};
  std::atomic<std::uint64_t> connects_{0};
  std::function<void()> on_connect_;
  std::function<void()> on_ask_;
  std::function<Status(const storage::Batch&)> fail_apply_;
  std::uint32_t writers_max_ = 2;
  std::function<Cut()> on_apply_;
  Mutex mutex_;
  CondVar backend_ended_;
  int backends_ GUARDED_BY(mutex_) = 0;
};

}  // namespace taskwal

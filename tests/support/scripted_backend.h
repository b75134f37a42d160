// A backend in front of another one that fails as told: for the tests of the flusher. Any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "storage/backend.h"

namespace taskwal {

enum class ApplyFault : std::uint8_t {
  kNone,
  kUnavailable,    // nothing was done
  kLostBefore,     // in doubt; nothing was done
  kLostAfter,      // in doubt; it was committed
  kLate,           // in doubt; it is committed at the next Apply, before that one
  kThrows,         // an exception; nothing was done
  kThrowsAfter,    // an exception; it was committed
  kThrowsOddly,    // something that is no std::exception
  kMoved,          // says that a watermark was moved
  kRepeat,         // says that an activity is there already, even to the idempotent form
  kFenced,
  kGivesWay,       // as for the sake of another transaction; nothing was done
};

class ScriptedBackend final : public storage::Backend {
 public:
  // What the sessions made so far and from now on speak to.
  explicit ScriptedBackend(storage::Backend& database);

  [[nodiscard]] std::string_view kind() const override { return "scripted"; }
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::uint32_t writers_max() const override { return writers_max_; }
  [[nodiscard]] bool is_volatile() const override { return is_volatile_; }
  Result<std::unique_ptr<storage::Session>> Connect() override;
  [[nodiscard]] Uuid db_id() const override;

  // Before use.
  void set_writers_max(std::uint32_t writers) { writers_max_ = writers; }
  void set_volatile(bool is_volatile) { is_volatile_ = is_volatile; }

  // What becomes of the next calls of Apply, in order; then they go through.
  void NextApplies(const std::vector<ApplyFault>& faults);
  // The next `times` connections fail; UINT32_MAX: all.
  void RefuseConnections(std::uint32_t times,
                         Status why = Status::Unavailable("scripted: connection refused"));
  // No more sessions than that at once.
  void LimitConnections(std::uint32_t open_max);
  // Calls of Connect that throw.
  void ThrowInConnect(std::uint32_t times);
  // The next ReadLog, HighestStamp or RegisterLog fails.
  enum class Question : std::uint8_t { kNone, kHighestStamp, kReadLog, kRegisterLog };
  void FailNext(Question question);
  // The next `times` answers of ReadLog are what stood there before anything was applied.
  void AnswerFromThePast(std::uint32_t times);
  // Rows that can never be taken.
  void RejectTasks(std::function<bool(const storage::TaskChange&)> is_bad);
  void RejectActivities(std::function<bool(const Activity&)> is_bad);
  // As a plain INSERT does: an activity id that is there already asks for the idempotent form.
  void MindActivityIds();
  // Called at the start of every Apply, no lock held.
  void OnApply(std::function<void(const storage::Batch&)> hook);
  // From now on another database is behind the same name.
  void SwitchTo(storage::Backend& database);

  [[nodiscard]] std::uint64_t connects() const;
  // Batches committed, in order, without their rows' content but with the counts of it.
  struct Committed {
    std::vector<storage::WatermarkMove> moves;
    std::size_t tasks = 0, activities = 0, dag_deletes = 0;
    bool idempotent = false;
  };
  [[nodiscard]] std::vector<Committed> committed() const;
  [[nodiscard]] std::uint64_t applies() const;   // calls, failed ones included

 private:
  class Session;

  Result<storage::ApplyResult> Apply(const storage::Batch& batch);
  Result<storage::ApplyResult> Commit(const storage::Batch& batch);
  bool IsRejected(const storage::Batch& batch) REQUIRES(mutex_);
  ApplyFault TakeFault() EXCLUDES(mutex_);
  Status Answer(Question question) EXCLUDES(mutex_);
  bool TakePast() EXCLUDES(mutex_);
  std::unique_ptr<storage::Session> Real() EXCLUDES(mutex_);

  const std::string name_ = "scripted:";
  std::uint32_t writers_max_ = 8;
  bool is_volatile_ = false;

  mutable Mutex mutex_;
  storage::Backend* database_ GUARDED_BY(mutex_);
  std::deque<ApplyFault> faults_ GUARDED_BY(mutex_);
  std::uint32_t refused_connections_ GUARDED_BY(mutex_) = 0;
  Status refusal_ GUARDED_BY(mutex_);
  std::uint32_t open_max_ GUARDED_BY(mutex_) = UINT32_MAX;
  std::uint32_t open_ GUARDED_BY(mutex_) = 0;
  std::uint32_t throwing_connections_ GUARDED_BY(mutex_) = 0;
  Question failing_ GUARDED_BY(mutex_) = Question::kNone;
  std::uint32_t past_answers_ GUARDED_BY(mutex_) = 0;
  std::function<bool(const storage::TaskChange&)> is_bad_task_ GUARDED_BY(mutex_);
  std::function<bool(const Activity&)> is_bad_activity_ GUARDED_BY(mutex_);
  std::function<void(const storage::Batch&)> on_apply_ GUARDED_BY(mutex_);
  bool minds_activity_ids_ GUARDED_BY(mutex_) = false;
  std::set<std::string> activity_ids_ GUARDED_BY(mutex_);
  std::unique_ptr<storage::Batch> late_ GUARDED_BY(mutex_);
  std::uint64_t connects_ GUARDED_BY(mutex_) = 0;
  std::uint64_t applies_ GUARDED_BY(mutex_) = 0;
  std::vector<Committed> committed_ GUARDED_BY(mutex_);
};

}  // namespace taskwal

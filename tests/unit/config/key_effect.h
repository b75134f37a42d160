// The effect of each key of the configuration: a statement about the running product that holds
// with the key in the YAML file, and does not with the same file without it. The tables are in
// *_effects.cc, by subject; key_effects_test.cc runs them and knows when a key has none.
//
// Time is the machine's. So that no statement depends on its pace, the two values lie far apart (an
// hour and milliseconds): what is to happen is awaited for as long as it takes, and of what is not
// to happen a moment is watched.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "base/mutex.h"
#include "config/daemon_config.h"
#include "pipeline/wal_task_storage.h"
#include "taskwal/control.h"
#include "tests/support/switchable_backend.h"
#include "tests/support/temp_dir.h"

namespace taskwal::config {

class EffectWorld;

struct KeyEffect {
  std::string_view key;    // "wal.segment_size"
  std::string_view value;
  std::string_view beside;  // further lines of both files: "group.name=value group.name=value"
  bool (*holds)(EffectWorld& world);

  friend void PrintTo(const KeyEffect& effect, std::ostream* out) {
    *out << effect.key << ": " << effect.value;
  }
};

std::vector<KeyEffect> LogEffects();
std::vector<KeyEffect> AdmissionEffects();
std::vector<KeyEffect> PressureEffects();
std::vector<KeyEffect> BatchEffects();
std::vector<KeyEffect> WorkerEffects();
std::vector<KeyEffect> FaultEffects();
std::vector<KeyEffect> LifeEffects();
std::vector<KeyEffect> DaemonEffects();

// The file with or without the key; the log is in `wal`.
std::string YamlOf(const KeyEffect& effect, bool is_set, const std::string& wal);

// A door that stands open until it is shut; those who come meanwhile wait in front of it.
class Gate {
 public:
  void Shut();
  void Open();
  void Pass();
  [[nodiscard]] std::uint32_t waiting() const;

 private:
  mutable Mutex mutex_;
  CondVar opened_;
  bool is_shut_ GUARDED_BY(mutex_) = false;
  std::uint32_t waiting_ GUARDED_BY(mutex_) = 0;
};

// One YAML file, and the storage opened by it over a database whose every transaction the test may
// hold up or fail. What is still open is left at once at the end.
class EffectWorld {
 public:
  using Milliseconds = std::chrono::milliseconds;

  // By the file with or without the key.
  EffectWorld(const KeyEffect& effect, bool is_set);
  ~EffectWorld();
  EffectWorld(const EffectWorld&) = delete;
  EffectWorld& operator=(const EffectWorld&) = delete;

  // Whether the condition comes to hold: awaited where the statement is to hold, else watched for a
  // moment.
  bool Comes(const std::function<bool()>& condition) const {
    return Await(condition, is_to_hold_ ? kLongest : kMoment);
  }
  // Whether it does not. The moment is longer than it would take by default.
  bool StaysAway(const std::function<bool()>& condition, Milliseconds moment = kMoment) const {
    return !Await(condition, is_to_hold_ ? moment : kLongest);
  }
  // From now on the statement is to hold.
  void ExpectEffect() { is_to_hold_ = true; }
  // It has to come with and without the key.
  static void Expect(const std::function<bool()>& condition);

  // --- the file
  [[nodiscard]] const std::string& yaml() const { return yaml_; }
  [[nodiscard]] const DaemonConfig& config() const { return config_; }
  [[nodiscard]] const TempDir& dir() const { return dir_; }
  // The log's, where the file names none.
  [[nodiscard]] std::string wal() const { return dir_.File("wal"); }

  // --- the database
  SwitchableDatabase& database() { return database_; }
  // From now on every transaction asks this first.
  void OnApply(std::function<Status(const storage::Batch&)> hook);
  // Transactions wait in front of it.
  Gate& apply_gate() { return apply_gate_; }
  [[nodiscard]] std::uint64_t applies() const { return applies_.load(); }

  // --- the storage
  void Open(FileSystem& fs = FileSystem::Real());
  Result<std::unique_ptr<pipeline::WalTaskStorage>> TryOpen(
      FileSystem& fs = FileSystem::Real());
  void Leave();
  pipeline::WalTaskStorage& storage() { return *storage_; }
  Control& control() { return *storage_->GetControl(); }
  Stats stats() { return storage_->GetStats(); }
  TargetFlow flow() { return control().Buffer().targets.front(); }
  Status Log(const std::string& task_id = "t", std::int32_t priority = 3,
             std::size_t message_bytes = 0);
  Status Save(const std::string& id, const WriteOptions& options = {});
  // Everything so far is in the database.
  void Flush();

 private:
  static constexpr Milliseconds kLongest{30000};
  static constexpr Milliseconds kMoment{40};

  static bool Await(const std::function<bool()>& condition, Milliseconds longest);

  bool is_to_hold_;
  const TempDir dir_;
  std::string yaml_;
  DaemonConfig config_;
  Gate apply_gate_;
  std::atomic<std::uint64_t> applies_{0};
  Mutex mutex_;
  std::function<Status(const storage::Batch&)> on_apply_ GUARDED_BY(mutex_);
  SwitchableDatabase database_;
  std::unique_ptr<pipeline::WalTaskStorage> storage_;
};

// Fails every transaction as a database in trouble does, and as one that refuses its rows.
Status FailTransiently(const storage::Batch& batch);
Status RefuseRows(const storage::Batch& batch);

}  // namespace taskwal::config

#include "tests/unit/config/key_effect.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"
#include "tests/support/status_matchers.h"

namespace taskwal::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

using Groups = std::map<std::string, std::map<std::string, std::string>>;

void Put(std::string_view path, std::string_view value, Groups* groups) {
  const std::size_t dot = path.find('.');
  const std::string group(path.substr(0, dot));
  const std::string name(dot == std::string_view::npos ? "" : path.substr(dot + 1));
  (*groups)[group][name] = value;
}

std::string TextOf(const Groups& groups) {
  std::string text;
  for (const auto& [group, members] : groups) {
    if (members.contains("")) {
      text += group + ": '" + members.at("") + "'\n";
      continue;
    }
    text += group + ":\n";
    for (const auto& [name, value] : members) text += "  " + name + ": '" + value + "'\n";
  }
  return text;
}

}  // namespace

std::string YamlOf(const KeyEffect& effect, bool is_set, const std::string& wal) {
  Groups groups;
  if (effect.key != "wal.dir") Put("wal.dir", wal, &groups);
  std::istringstream beside{std::string(effect.beside)};
  for (std::string line; beside >> line;) {
    const std::size_t equals = line.find('=');
    Put(line.substr(0, equals), line.substr(equals + 1), &groups);
  }
  if (is_set) Put(effect.key, effect.value, &groups);
  return TextOf(groups);
}

// --- the gate ----------------------------------------------------------------------------------

void Gate::Shut() {
  MutexLock lock(mutex_);
  is_shut_ = true;
}

void Gate::Open() {
  MutexLock lock(mutex_);
  is_shut_ = false;
  opened_.NotifyAll();
}

void Gate::Pass() {
  MutexLock lock(mutex_);
  ++waiting_;
  while (is_shut_) opened_.Wait(mutex_);
  --waiting_;
}

std::uint32_t Gate::waiting() const {
  MutexLock lock(mutex_);
  return waiting_;
}

// --- the world ---------------------------------------------------------------------------------

EffectWorld::EffectWorld(const KeyEffect& effect, bool is_set)
    : is_to_hold_(is_set), yaml_(YamlOf(effect, is_set, wal())) {
  auto config = ParseConfig(yaml_, "effect.yaml");
  EXPECT_OK(config) << yaml_;
  TASKWAL_CHECK(config.ok());
  config_ = std::move(config).value();
  database_.set_writers_max(8);
  database_.FailApply([this](const storage::Batch& batch) {
    ++applies_;
    apply_gate_.Pass();
    std::function<Status(const storage::Batch&)> hook;
    {
      MutexLock lock(mutex_);
      hook = on_apply_;
    }
    return hook ? hook(batch) : Status::Ok();
  });
}

EffectWorld::~EffectWorld() { Leave(); }

bool EffectWorld::Await(const std::function<bool()>& condition, Milliseconds longest) {
  const auto until = steady_clock::now() + longest;
  while (!condition()) {
    if (steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

void EffectWorld::Expect(const std::function<bool()>& condition) {
  EXPECT_TRUE(Await(condition, kLongest));
}

void EffectWorld::OnApply(std::function<Status(const storage::Batch&)> hook) {
  MutexLock lock(mutex_);
  on_apply_ = std::move(hook);
}

Result<std::unique_ptr<pipeline::WalTaskStorage>> EffectWorld::TryOpen(FileSystem& fs) {
  pipeline::WalStorageSetup setup;
  setup.options = config_.options;
  setup.backend = database_.Open();
  setup.fs = &fs;
  return pipeline::WalTaskStorage::Open(std::move(setup));
}

void EffectWorld::Open(FileSystem& fs) {
  auto opened = TryOpen(fs);
  EXPECT_OK(opened) << yaml_;
  TASKWAL_CHECK(opened.ok());
  storage_ = std::move(opened).value();
}

void EffectWorld::Leave() {
  apply_gate_.Open();
  OnApply({});
  if (storage_ == nullptr) return;
  IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "the log keeps what is left");
  storage_.reset();
}

Status EffectWorld::Log(const std::string& task_id, std::int32_t priority,
                        std::size_t message_bytes) {
  Activity activity;
  activity.task_id = task_id;
  activity.action = "step";
  activity.priority = priority;
  activity.message = std::string(message_bytes, 'x');
  return storage_->LogActivity(activity, {}).status();
}

Status EffectWorld::Save(const std::string& id, const WriteOptions& options) {
  Task task;
  task.id = id;
  return storage_->SaveTask(task, options).status();
}

void EffectWorld::Flush() { EXPECT_OK(storage_->Flush(kLongest)); }

Status FailTransiently(const storage::Batch&) { return Status::Unavailable("test: in trouble"); }

Status RefuseRows(const storage::Batch& batch) {
  return batch.activities.empty() ? Status::Ok() : Status::Rejected("test: refused (SQL 4711)");
}

}  // namespace taskwal::config

// Opening and its background: the first contact with the database, the metrics line.
#include <algorithm>
#include <exception>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/identity.h"
#include "pipeline/wal_task_storage.h"

namespace taskwal::pipeline {
namespace {

wal::LogOptions LogOptionsOf(const Options& options) {
  wal::LogOptions log;
  log.directory = options.wal_dir;
  log.ring_bytes = options.ring_bytes;
  log.segment_bytes = options.segment_bytes;
  log.segment_records_max = options.max_segment_size;
  log.frame_bytes = options.frame_bytes;
  log.compression = options.compression;
  log.sync_lanes = options.sync_lanes;
  log.sync_interval = options.sync_interval;
  log.quota_bytes = options.quota_bytes;
  log.retention_bytes = options.retention_bytes;
  log.segment_retention = options.segment_retention;
  log.index_keys = IndexOperation;
  return log;
}

bool Covers(const std::vector<wal::LsnRange>& ranges, const wal::LsnRange& range) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const wal::LsnRange& r) {
    return r.from <= range.from && range.to <= r.to;
  });
}

}  // namespace

WalTaskStorage::WalTaskStorage(WalStorageSetup setup)
    : options_(std::move(setup.options)),
      fs_(*setup.fs),
      clock_(*setup.clock),
      backend_(std::move(setup.backend)) {}

Result<std::unique_ptr<WalTaskStorage>> WalTaskStorage::Open(WalStorageSetup setup,
                                                             OpenReport* report) {
  OpenReport unasked;
  if (report == nullptr) report = &unasked;
  const bool create = setup.create;
  const bool salvage = setup.salvage;
  std::unique_ptr<WalTaskStorage> storage(new WalTaskStorage(std::move(setup)));
  const Status opened = storage->OpenParts(create, salvage, report);
  if (opened.ok()) return storage;
  if (storage->log_ != nullptr) {
    storage->EndThreads();
    IgnoreStatus(storage->log_->Close(), "the refusal is what the caller has to hear of");
  }
  return opened;
}

Status WalTaskStorage::OpenParts(bool create, bool salvage, OpenReport* report) {
  const bool was_copy = IsKnownCopy(fs_, options_.wal_dir);
  const recovery::PrepareOptions prepare{options_.wal_dir, options_.partitions, create,
                                         IndexOperation};
  TASKWAL_ASSIGN(wal::LogStart start, recovery::PrepareLog(fs_, prepare, &report->prepared));
  if (salvage) {
    TASKWAL_ASSIGN(report->salvaged,
                   recovery::Salvage(fs_, options_.wal_dir, &start, IndexOperation));
  }
  TASKWAL_TRY(OpenLog(std::move(start)));
  if (report->prepared.copied && !was_copy) TASKWAL_TRY(CountRescuedAsCopied(*log_));
  report->rescued = log_->GetStats().rescued;
  report->pending = {flushed_at_open_ + 1, log_->end_lsn()};
  const auto& findings = report->prepared.findings;
  report->damaged = static_cast<std::uint64_t>(
      std::count_if(findings.begin(), findings.end(),
                    [](const auto& found) { return recovery::IsDamage(found.verdict); }));
  FindKnownLosses(report);
  report->damaged += report->lost.size();
  TASKWAL_TRY(FirstContact(report));
  recovered_at_open_ = std::max(report->rescued, report->pending.count());
  damaged_at_open_ = report->damaged;
  Announce(*report);
  accepting_.store(true);
  readable_.store(true);
  if (options_.enable_metrics) metrics_thread_ = std::jthread([this] { RunMetrics(); });
  return Status::Ok();
}

Status WalTaskStorage::OpenLog(wal::LogStart start) {
  std::vector<std::string> damage;
  TASKWAL_ASSIGN(letters_, DeadLetters::Open(fs_, options_.wal_dir, false, &damage));
  for (const std::string& what : damage) Logger().error("dead_letters damaged=\"{}\"", what);
  TASKWAL_ASSIGN(log_, wal::Log::Open(fs_, clock_, LogOptionsOf(options_), std::move(start)));
  flusher_ = std::make_unique<Flusher>(*log_, *backend_, *letters_, clock_, options_, fs_);
  flushed_at_open_ = flusher_->flushed_lsn();
  database_ = std::make_unique<DatabaseCalls>(*backend_);
  overlay_ = std::make_unique<ReadOverlay>(*log_, *flusher_, *database_);
  return Status::Ok();
}

// Losses that the flusher has passed stay damage as long as their files are there and salvage has
// not declared them: every open says so.
void WalTaskStorage::FindKnownLosses(OpenReport* report) const {
  const wal::LogState state = log_->state();
  const Status read = letters_->ForEach([&](const DeadLetter& letter) {
    if (letter.kind == DeadLetter::Kind::kLoss && letter.lsns.to >= log_->first_lsn() &&
        !Covers(state.lost, letter.lsns)) {
      report->lost.push_back(letter.lsns);
    }
    return true;
  });
  if (!read.ok()) Logger().error("dead_letters unreadable=\"{}\"", read.message());
}

// In a thread of its own: a database that hangs delays nothing but the flush.
void WalTaskStorage::RunContact() {
  Status contact;
  try {
    contact = flusher_->Contact();
  } catch (const std::exception& error) {
    contact = Status::Unavailable(error.what());
    Logger().error("first_contact exception=\"{}\"", error.what());
  }
  {
    MutexLock lock(mutex_);
    contacted_ = contact;
    changed_.NotifyAll();
    while (flusher_may_start_ == Go::kUndecided) changed_.Wait(mutex_);
    if (flusher_may_start_ == Go::kNo) return;
  }
  flusher_->Start();
}

Status WalTaskStorage::FirstContact(OpenReport* report) {
  contact_thread_ = std::jthread([this] { RunContact(); });
  const auto until = std::chrono::steady_clock::now() + options_.recovery_timeout;
  Status contact = Status::Unavailable("the database has not answered yet");
  {
    MutexLock lock(mutex_);
    bool in_time = true;
    while (!contacted_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
    if (contacted_) contact = *contacted_;
  }
  if (contact.ok()) report->pending.from = flusher_->flushed_lsn() + 1;
  Status allowed = contact.code() == StatusCode::kFenced ? contact : CheckRecoveryAllowed(contact);
  report->contact = std::move(contact);
  MutexLock lock(mutex_);
  flusher_may_start_ = allowed.ok() ? Go::kYes : Go::kNo;
  changed_.NotifyAll();
  return allowed;
}

Status WalTaskStorage::CheckRecoveryAllowed(const Status& contact) const {
  if (options_.enable_recovery) return Status::Ok();
  const wal::Lsn flushed = contact.ok() ? flusher_->flushed_lsn() : flushed_at_open_;
  if (flushed >= log_->end_lsn()) return Status::Ok();
  return Status::InvalidArgument(
      options_.wal_dir + " holds records that are not in the database (LSN " +
      std::to_string(flushed + 1) + " to " + std::to_string(log_->end_lsn()) +
      ") and enable_recovery is off: run `taskwal recover --wal " + options_.wal_dir +
      " --db DSN`");
}

void WalTaskStorage::Announce(const OpenReport& report) const {
  for (const auto& found : report.prepared.findings) {
    if (!recovery::IsDamage(found.verdict)) continue;
    Logger().error("log_damage verdict=\"{}\" file={} offset={} lsn={}-{} detail=\"{}\"",
                   recovery::VerdictName(found.verdict), found.file, found.offset, found.lsns.from,
                   found.lsns.to, found.detail);
  }
  for (const auto& lost : report.lost) {
    Logger().error("log_damage lost_lsn={}-{} directory={}", lost.from, lost.to, options_.wal_dir);
  }
  Logger().info("log_open directory={} rescued={} torn_bytes={} pending={} end_lsn={}",
                options_.wal_dir, report.rescued, report.prepared.torn_bytes,
                report.pending.count(), log_->end_lsn());
  if (!options_.on_recovery) return;
  RecoveryEvent event;
  event.rescued = report.rescued;
  event.torn_bytes = report.prepared.torn_bytes;
  event.corrupt = report.damaged;
  event.first_pending = report.pending.from;
  event.last_pending = report.pending.to;
  options_.on_recovery(event);
}

void WalTaskStorage::RunMetrics() {
  for (;;) {
    {
      MutexLock lock(mutex_);
      const auto until = std::chrono::steady_clock::now() + options_.metrics_interval;
      bool in_time = true;
      while (!threads_end_ && in_time) in_time = changed_.WaitUntil(mutex_, until);
      if (threads_end_) return;
    }
    const Stats stats = GetStats();
    Logger().info(
        "metrics accepted={} applied={} dead_lettered={} lost={} pending={} dropped={} "
        "flush_operations={} flush_errors={} average_flush_us={:.0f} log_bytes={} breaker={}",
        stats.accepted, stats.applied, stats.dead_lettered, stats.lost, stats.pending,
        stats.dropped, stats.flush_operations, stats.flush_errors, stats.flush_time.mean,
        stats.log_bytes, stats.breaker_state);
  }
}

void WalTaskStorage::EndThreads() {
  {
    MutexLock lock(mutex_);
    threads_end_ = true;
    if (flusher_may_start_ == Go::kUndecided) flusher_may_start_ = Go::kNo;
    changed_.NotifyAll();
  }
  if (contact_thread_.joinable()) contact_thread_.join();
  if (metrics_thread_.joinable()) metrics_thread_.join();
}

}  // namespace taskwal::pipeline

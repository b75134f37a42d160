// Opening and its background: the first contact with the database, the metrics line.
#include <algorithm>
#include <utility>

#include "base/logging.h"
#include "base/posix_file_system.h"
#include "base/shell_text.h"
#include "base/status_macros.h"
#include "pipeline/error_hook.h"
#include "pipeline/identity.h"
#include "pipeline/wal_task_storage.h"

namespace taskwal::pipeline {
namespace {

constexpr std::chrono::milliseconds kMetricsFilePeriodMax{1000};
// What a database that answers may take at open. It may have to refuse the log, and better before
// than after records are acknowledged; but one that is silent delays nothing but the flush.
constexpr std::chrono::milliseconds kAnswerTime{1000};

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

std::vector<TargetSetup> ListOf(WalStorageSetup* setup) {
  std::vector<TargetSetup> list = std::move(setup->targets);
  if (setup->backend != nullptr) {
    list.push_back({std::string(kDefaultTarget), 1, std::move(setup->backend)});
  }
  return list;
}

LoadSample LoadOf(const wal::Log& log, const TargetSet& targets) {
  Stats stats;
  targets.FillStats(&stats);
  return {stats.pending, log.GetStats().unflushed_bytes, stats.accepted};
}

bool Covers(const std::vector<wal::LsnRange>& ranges, const wal::LsnRange& range) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const wal::LsnRange& r) {
    return r.from <= range.from && range.to <= r.to;
  });
}

}  // namespace

WalTaskStorage::WalTaskStorage(const WalStorageSetup& setup)
    : options_(CallbackWatch::Over(callbacks_, setup.options)),
      logger_(options_.logger),
      fs_(*setup.fs),
      clock_(*setup.clock),
      handlers_(options_, clock_) {}

Result<std::unique_ptr<WalTaskStorage>> WalTaskStorage::Open(WalStorageSetup setup,
                                                             OpenReport* report) {
  OpenReport unasked;
  if (report == nullptr) report = &unasked;
  SetIoUringAllowed(setup.options.io_uring);
  std::unique_ptr<WalTaskStorage> storage(new WalTaskStorage(setup));
  const Status opened = storage->OpenParts(std::move(setup), report);
  if (opened.ok()) return storage;
  if (storage->log_ != nullptr) {
    if (storage->targets_ != nullptr) storage->StopThreads({});
    IgnoreStatus(storage->log_->Close(), "the refusal is what the caller has to hear of");
  }
  return opened;
}

Status WalTaskStorage::OpenParts(WalStorageSetup setup, OpenReport* report) {
  const bool was_copy = IsKnownCopy(fs_, options_.wal_dir);
  const recovery::PrepareOptions prepare{options_.wal_dir, options_.partitions, setup.create,
                                         IndexOperation};
  TASKWAL_ASSIGN(wal::LogStart start, recovery::PrepareLog(fs_, prepare, &report->prepared));
  if (setup.salvage) {
    TASKWAL_ASSIGN(report->salvaged,
                   recovery::Salvage(fs_, options_.wal_dir, &start, IndexOperation));
  }
  TASKWAL_TRY(OpenLog(std::move(start), ListOf(&setup)));
  if (report->prepared.copied && !was_copy) TASKWAL_TRY(CountRescuedAsCopied(*log_));
  report->rescued = log_->GetStats().rescued;
  report->pending = {flushed_at_open_ + 1, log_->end_lsn()};
  const auto& findings = report->prepared.findings;
  report->damaged = static_cast<std::uint64_t>(
      std::count_if(findings.begin(), findings.end(),
                    [](const auto& found) { return recovery::IsDamage(found.verdict); }));
  FindKnownLosses(report);
  report->damaged += report->lost.size();
  TASKWAL_TRY(FirstContact(setup, report));
  recovered_at_open_ = std::max(report->rescued, report->pending.count());
  damaged_at_open_ = report->damaged;
  Announce(*report);
  if (targets_->ForAll() == wal::kEveryTarget) gate_.CountCalls();
  gate_.Open();
  readable_.store(true);
  admission_->CountBacklog(backlog_.records, backlog_.bytes);
  next_line_ = std::chrono::steady_clock::now() + options_.metrics_interval;
  TASKWAL_ASSIGN(monitor_, MonitorThread::Start(
                               [admission = admission_.get()] {
                                 admission->MaybeLook();
                                 admission->TellChanges();
                               },
                               [this] { return Tend(); }));
  admission_->WhenChanged([monitor = monitor_.get()] { monitor->Wake(); });
  return Status::Ok();
}

Status WalTaskStorage::OpenLog(wal::LogStart start, std::vector<TargetSetup> list) {
  std::vector<std::string> damage;
  TASKWAL_ASSIGN(letters_, DeadLetters::Open(fs_, options_.wal_dir, false, &damage));
  for (const std::string& what : damage) Logger().error("dead_letters damaged=\"{}\"", what);
  TASKWAL_ASSIGN(log_, wal::Log::Open(fs_, clock_, LogOptionsOf(options_), std::move(start)));
  gauge_ = std::make_unique<LoadGauge>(options_);
  TASKWAL_ASSIGN(targets_, TargetSet::Make({*log_, *letters_, clock_, fs_, gauge_.get()}, options_,
                                           std::move(list)));
  // Not by way of this: a monitor that hangs is left behind.
  admission_ = std::make_unique<Admission>(
      options_, clock_, *gauge_,
      [log = log_.get(), targets = targets_.get()] { return LoadOf(*log, *targets); });
  control_ = std::make_unique<StorageControl>(*admission_, *gauge_, *targets_,
                                              [this] { return GetStats(); });
  MakeDesks();
  flushed_at_open_ = targets_->flushed_lsn();
  std::vector<TargetQueries::Database> databases;
  for (const auto& target : targets_->targets()) {
    databases.push_back({target->number, target->name, target->calls.get()});
  }
  queries_ = std::make_unique<TargetQueries>(std::move(databases), [this](const std::string& id) {
    return targets_->HomeOf(storage::KeyOf(id));
  });
  overlay_ = std::make_unique<ReadOverlay>(
      *log_, [this](std::uint64_t key) { return targets_->ReadHome(key); });
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

Status WalTaskStorage::FirstContact(const WalStorageSetup& setup, OpenReport* report) {
  TASKWAL_TRY(targets_->StartContact());
  const auto longest = HangsOnContact(setup, *report)
                           ? options_.recovery_timeout
                           : std::min<Options::Duration>(options_.recovery_timeout, kAnswerTime);
  const Monotonic begin = std::chrono::steady_clock::now();
  Status contact = targets_->AwaitContact(begin + longest, setup.stop);
  if (contact.ok()) {
    report->pending.from = targets_->flushed_lsn() + 1;
  } else {
    report->waited = std::chrono::floor<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begin);
  }
  Status allowed = contact.code() == StatusCode::kFenced ? contact : CheckRecoveryAllowed(contact);
  report->contact = std::move(contact);
  const bool has_budget = options_.max_unflushed_records > 0 || options_.max_unflushed_bytes > 0;
  if (allowed.ok()) backlog_ = targets_->TakeStock(has_budget);
  TASKWAL_TRY(targets_->Release(allowed.ok()));
  return allowed;
}

// Whether the log may be opened at all is for the database to say.
bool WalTaskStorage::HangsOnContact(const WalStorageSetup& setup, const OpenReport& report) const {
  const bool may_be_refused = !options_.enable_recovery && flushed_at_open_ < log_->end_lsn();
  return setup.needs_database || report.prepared.copied || may_be_refused;
}

Status WalTaskStorage::CheckRecoveryAllowed(const Status& contact) const {
  if (options_.enable_recovery) return Status::Ok();
  const wal::Lsn flushed = contact.ok() ? targets_->flushed_lsn() : flushed_at_open_;
  if (flushed >= log_->end_lsn()) return Status::Ok();
  std::string databases;
  for (const std::string& name : targets_->Names()) databases += " --db " + ShellQuote(name);
  return Status::Rejected(
      options_.wal_dir + " holds records that are not in the database (LSN " +
      std::to_string(flushed + 1) + " to " + std::to_string(log_->end_lsn()) +
      ") and enable_recovery is off: run `taskwal recover --wal " + ShellQuote(options_.wal_dir) +
      databases + "`");
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
  try {
    options_.on_recovery(event);
  } catch (...) {
    Logger().error("event=on_recovery_threw directory={}", options_.wal_dir);
    TellError(options_, {"callback", "", 0, "on_recovery threw"});
  }
}

void WalTaskStorage::MakeDesks() {
  const auto append = [this](const wal::RecordHeader& header, std::span<const std::byte> body,
                             bool goes_home, std::chrono::milliseconds timeout,
                             const std::stop_token& stop) {
    return AppendRetry(header, body, goes_home, timeout, stop);
  };
  const auto wait = [this](wal::Lsn lsn, std::chrono::milliseconds timeout) {
    return targets_->WaitFlushed(lsn, MakeDeadline(timeout, {}));
  };
  desk_ = std::make_unique<LetterDesk>(
      LetterDesk::Parties{*letters_, *log_, clock_, append, wait});
  const auto look = [this] {
    // Without a look of its own: the callback that may follow from it is no business of whoever
    // asks, least of all of the shutdown.
    return metrics::Source{GetStats(), control_->Buffer().targets, gauge_->Snapshot(),
                           control_->FlowControl()};
  };
  const auto reset_times = [this] {
    times_.Reset();
    log_->ResetTimes();
    for (const auto& target : targets_->targets()) target->flusher->ResetTimes();
  };
  metrics_ = std::make_unique<StorageMetrics>(
      StorageMetrics::Parties{fs_, clock_, options_.wal_dir, look, reset_times});
}

// The monitor's turn behind its look at the load: the dead letters, METRICS, and now and then the
// metrics line.
MonitorThread::Until WalTaskStorage::Tend() {
  using std::chrono::steady_clock;
  if (steady_clock::now() >= next_file_) {
    next_file_ = steady_clock::now() + std::min(options_.metrics_interval, kMetricsFilePeriodMax);
    TendLetters();
    WriteMetricsFile(false);
  }
  if (options_.enable_metrics && steady_clock::now() >= next_line_) {
    next_line_ += options_.metrics_interval;
    WriteMetricsLine();
  }
  return std::min(steady_clock::now() + options_.monitoring_interval, next_file_);
}

void WalTaskStorage::WriteMetricsLine() {
  const Stats stats = GetStats();
  Logger().info(
      "metrics accepted={} applied={} dead_lettered={} lost={} pending={} dropped={} "
      "flush_operations={} flush_errors={} average_flush_us={:.0f} log_bytes={} breaker={}",
      stats.accepted, stats.applied, stats.dead_lettered, stats.lost, stats.pending,
      stats.dropped, stats.flush_operations, stats.flush_errors, stats.flush_time.mean,
      stats.log_bytes, stats.breaker_state);
}

void WalTaskStorage::WriteMetricsFile(bool has_ended) {
  if (!options_.enable_metrics) return;
  IgnoreStatus(metrics_->WriteSnapshot(has_ended), "the next one is due in a moment");
}

// Letters of tasks are an operator's to settle; activities may go when they are old enough.
void WalTaskStorage::TendLetters() {
  if (options_.dead_letter_age_max.count() > 0) {
    const auto expired = letters_->Expire(clock_.WallNow() - options_.dead_letter_age_max);
    Status status = expired.status();
    if (expired.ok() && *expired > 0) {
      status = letters_->Clean(log_->first_lsn(), log_->end_lsn());
    }
    if (!status.ok()) {
      Logger().warn("dead_letters event=expiry_failed error=\"{}\"", status.message());
    }
  }
  std::string alarm = LetterAlarm(GetStats().dead_letters);
  if (alarm == letter_alarm_) return;
  if (!alarm.empty()) Logger().error("dead_letters event=alarm reason=\"{}\"", alarm);
  letter_alarm_ = std::move(alarm);
}

std::string WalTaskStorage::LetterAlarm(const DeadLetterStats& letters) const {
  const auto is_nearly = [](std::uint64_t value, std::uint64_t limit) {
    return value > 0 && value >= limit - limit / 5;
  };
  if (is_nearly(letters.open, options_.dead_letter_count_max) ||
      is_nearly(letters.bytes, options_.dead_letter_bytes_max)) {
    return "the dead letters are nearly full: `taskwal dlq list` shows them, retry or purge them";
  }
  const bool has_age = options_.dead_letter_age_max.count() > 0;
  if (has_age && letters.oldest &&
      *letters.oldest < clock_.WallNow() - options_.dead_letter_age_max) {
    return "a dead letter is older than dead_letter_age_max: `taskwal dlq list` shows it";
  }
  return {};
}

}  // namespace taskwal::pipeline

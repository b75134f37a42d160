// How a flusher meets its database: identity and watermarks, what a database that went back or a
// log without its STATE lacks, and what is counted as found there.
#include <algorithm>
#include <exception>
#include <optional>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "pipeline/admission/load_gauge.h"
#include "pipeline/flush/backlog_count.h"
#include "pipeline/flush/flusher_impl.h"

namespace taskwal::pipeline {

using wal::Lsn;

Status Flusher::Impl::Contact() {
  {
    MutexLock lock(mutex);
    while (phase == Phase::kContacting) phase_changed.Wait(mutex);
    if (phase == Phase::kRunning) return Status::Ok();
    if (phase == Phase::kFenced) return fenced;
    phase = Phase::kContacting;
    while (in_step > 0) phase_changed.Wait(mutex);
  }
  Status status;
  try {
    status = TryContact();
  } catch (const std::exception& e) {
    status = ContactFailed(Status::Unavailable(backend.name() + ": " + e.what()));
  } catch (...) {
    status = ContactFailed(Status::Unavailable(backend.name() + ": an exception of unknown type"));
  }
  {
    MutexLock lock(mutex);
    phase = status.ok() ? Phase::kRunning : Phase::kNoContact;
    phase_changed.NotifyAll();
  }
  if (status.code() == StatusCode::kFenced) Fence(status);
  queues.Wake();
  return status;
}

Status Flusher::Impl::TryContact() {
  wal::LogState confirmed = wal::StateOfTarget(log.state(), target.number);
  const auto positions = queues.Positions();
  {
    MutexLock lock(mutex);
    // STATE is behind what this process has seen committed.
    if (was_met) std::tie(confirmed.flushed_lsn, confirmed.watermarks) = positions;
    if (before_setback) std::tie(confirmed.flushed_lsn, confirmed.watermarks) = *before_setback;
  }
  // Theirs are as good as lost, and one is needed here.
  for (auto& worker : workers) worker->Disconnect();
  const auto before_taking_identity = [&]() -> Status {
    if (target.may_take_identity) TASKWAL_TRY(target.may_take_identity());
    return DeclareUnknownPast(confirmed);
  };
  const ContactParties parties{log, backend, fs, options.wal_dir, target.number,
                               before_taking_identity, target.databases,
                               [&](const std::vector<Lsn>& stored) {
                                 return IsSetbackSeenTwice(confirmed, stored);
                               }};
  auto contact = ContactDatabase(parties, confirmed);
  if (!contact.ok()) return ContactFailed(contact.status());
  if (contact->went_back) {
    const Status noted = NoteSetback(*contact);
    if (!noted.ok()) return ContactFailed(noted);
  }
  Adopt(std::move(contact).value());
  return Status::Ok();
}

// A cluster's node may answer with what it had a moment ago, even where reads are to be causal
// (Jepsen, MariaDB Galera Cluster 12.1.2): nothing is replayed or called lost before a second look,
// a pause later, says the same.
bool Flusher::Impl::IsSetbackSeenTwice(const wal::LogState& confirmed,
                                       const std::vector<Lsn>& stored) {
  {
    MutexLock lock(mutex);
    // Whoever was told to look while another did comes too early.
    const Monotonic now = clock.Now();
    if (before_setback && now >= setback_again_at) return true;
    if (!before_setback) {
      before_setback.emplace(confirmed.flushed_lsn, confirmed.watermarks);
      setback_again_at = now + std::min<std::chrono::milliseconds>(options.initial_backoff,
                                                                   kUrgentRetry);
    }
  }
  // Until then nobody who waits or reads is told that what may be gone is there, nor that it is
  // settled before it has been declared.
  queues.Reset(stored, stored);
  return false;
}

// The database is behind what it had confirmed: what the log does not hold any more is declared
// before the watermark passes it.
Status Flusher::Impl::NoteSetback(const pipeline::Contact& contact) {
  if (contact.missing.empty()) {
    Logger().warn("flusher event=database_went_back db={} action=replay", backend.name());
  } else {
    TASKWAL_TRY(DeclareMissing(contact));
  }
  TASKWAL_TRY(VoidClears(contact));
  const Lsn settled = *std::min_element(contact.start.begin(), contact.start.end());
  // Crash before this: the setback is seen again, and declared again. Behind it no open takes for
  // settled what is still to be brought again, and none gives up the segments that hold it.
  TASKWAL_TRY(log.SetState([&](wal::LogState* state) {
    wal::NoteFlushed(target.number, settled, contact.stored, state);
  }));
  return log.Retire(settled, contact.stored, target.number);
}

Status Flusher::Impl::DeclareMissing(const pipeline::Contact& contact) {
  const std::string missing = MissingText(contact.missing);
  Logger().error(
      "flusher event=database_went_back db={} action=replay missing_from={} missing_to={} "
      "missing=\"{}\" reason=\"confirmed before, and not in the log any more\"",
      backend.name(), contact.missing.front().lsns.from, contact.missing.back().lsns.to, missing);
  return DeclareGone(contact.missing, contact.identity,
                     "the database went back behind what it had confirmed, and LSN ");
}

// STATE was rebuilt (its flushed position is behind the oldest record kept, as no other's is), and
// the database does not know the log: nothing says that what is older was ever brought anywhere.
// Before the directory takes an identity of its own, which settles that.
Status Flusher::Impl::DeclareUnknownPast(const wal::LogState& confirmed) {
  if (confirmed.flushed_lsn + 1 >= confirmed.first_lsn) return Status::Ok();
  const MissingRecords past{{confirmed.flushed_lsn + 1, confirmed.first_lsn - 1}, {}};
  Logger().error("flusher event=records_missing db={} missing=\"{}\" reason=\"STATE was damaged\"",
                 backend.name(), MissingText({&past, 1}));
  LogIdentity identity;
  identity.wal_id = confirmed.wal_id;
  identity.former = confirmed.former;
  TASKWAL_TRY(DeclareGone({&past, 1}, identity, "STATE was damaged, and LSN "));
  counters.Update([&](FlusherStats& stats) {
    const auto known = std::find(stats.missing.begin(), stats.missing.end(), past);
    if (known == stats.missing.end()) stats.missing.push_back(past);
  });
  return Status::Ok();
}

Status Flusher::Impl::DeclareGone(std::span<const MissingRecords> missing,
                                  const LogIdentity& identity, const std::string& reason) {
  const std::string what = backend.name() + ": " + reason;
  const std::string why = " are not in the log any more";
  DeadLetter loss;
  loss.kind = DeadLetter::Kind::kLoss;
  loss.target = target.number;
  loss.backend = backend.name();
  loss.first_failed = loss.last_failed = clock.WallNow();
  for (const MissingRecords& part : missing) {
    loss.wal_id = identity.OwnerOf(part.lsns.from);
    loss.lsns = part.lsns;
    loss.metadata.clear();
    if (!part.partitions.empty()) loss.metadata[kLossPartitions] = PartitionsText(part);
    loss.error = what + MissingText({&part, 1}) + why;
    // Crash between two: all are declared again, which changes nothing of those that are there.
    TASKWAL_TRY(letters.Add(loss));
  }
  counters.RaiseAlarm(FlushCounters::kMissing, what + MissingText(missing) + why);
  return Status::Ok();
}

// Saves behind a lettered one that the database had and has not any more, nor the log: what follows
// them would go to the row from before the letter.
Status Flusher::Impl::VoidClears(const pipeline::Contact& contact) {
  const auto partitions = static_cast<std::uint32_t>(contact.start.size());
  const wal::LsnRange gone{1, *std::max_element(contact.start.begin(), contact.start.end())};
  return letters.VoidClears(gone, [&](const std::string& task, Lsn lsn) {
    const std::uint64_t key = storage::KeyOf(task);
    const std::uint32_t partition = wal::PartitionOf(key, partitions);
    const bool is_skipped = contact.found[partition] < lsn && lsn <= contact.start[partition];
    return is_skipped && (!target.is_home || target.is_home(key));
  });
}

void Flusher::Impl::Adopt(pipeline::Contact contact) {
  breaker.OnSuccess(clock.Now());
  queues.Reset(contact.start, contact.stored);
  const Lsn settled = *std::min_element(contact.start.begin(), contact.start.end());
  const Lsn books = StartOfBooks(settled);
  CountFound(books, settled);
  if (IsFirstContact()) {
    queues.KnowAsSettled(settled);
    LoadGuard(settled);
  }
  feeder.Start(contact.identity, std::max(books, settled));
  for (auto& worker : workers) worker->Begin(contact.identity, std::move(contact.session));
  counters.Update([&](FlusherStats& stats) {
    stats.database_available = true;
    if (stats.start_lsn == 0) stats.start_lsn = settled + 1;
    stats.missing.insert(stats.missing.end(), contact.missing.begin(), contact.missing.end());
  });
  if (counters.ClearAlarm(FlushCounters::kContact)) {
    Logger().info("flusher event=database_is_back db={} start_lsn={}", backend.name(), settled + 1);
  }
  MutexLock lock(mutex);
  was_met = true;
  before_setback.reset();
  contact_failures = 0;
}

// A database that refused everything before is not taken for another one now.
void Flusher::Impl::LoadGuard(Lsn settled) {
  const auto newest = letters.NewestRejected(target.number);
  if (newest.ok()) {
    guard.Load(*newest, settled);
  } else {
    Logger().warn("flusher event=letters_unreadable error=\"{}\"", newest.status().message());
  }
}

bool Flusher::Impl::IsFirstContact() {
  MutexLock lock(mutex);
  return !was_met;
}

// Where they begin, or at a later contact `settled`.
Lsn Flusher::Impl::StartOfBooks(Lsn settled) {
  MutexLock lock(mutex);
  if (was_met) return settled;
  if (!is_start_fixed) start = settled;
  return start;
}

// What counted as pending while the database was away, and was there: brought by an earlier process
// behind the last STATE. Before any of it may be retired.
void Flusher::Impl::CountFound(Lsn from, Lsn to) {
  if (from >= to) return;
  bool is_read = false;
  {
    MutexLock lock(mutex);
    is_read = is_backlog_read;
  }
  BacklogCount found;
  found.records = found.lost = to - from;
  if (is_read) {
    auto counted = CountBacklog(log, {{target.number, from}}, to);
    if (!counted.ok()) {
      Logger().warn("flusher event=backlog_unreadable error=\"{}\"", counted.status().message());
      return;
    }
    found = std::move(counted).value();
  }
  // In the files of several targets nobody knows whose a record was that cannot be read.
  const std::uint64_t unreadable = target.is_home ? 0 : found.lost;
  const std::uint64_t records = found.by_target[target.number] + unreadable;
  NoteFound(records);
  if (target.gauge == nullptr) return;
  const auto others = std::count_if(found.shared.begin(), found.shared.end(), [&](Lsn lsn) {
    return target.is_last && !target.is_last(lsn);
  });
  const std::uint64_t released =
      found.records + (is_read ? unreadable : 0) - static_cast<std::uint64_t>(others);
  target.gauge->OnSettled(released, found.bytes);
}

void Flusher::Impl::NoteFound(std::uint64_t records) {
  MutexLock lock(mutex);
  found_at_contact += records;
  const std::uint64_t regained = are_books_at_end ? records : 0;
  counters.Update([&](FlusherStats& stats) {
    stats.read += records;
    stats.applied += records;
    stats.already_there += records;
    stats.regained += regained;
  });
}

Status Flusher::Impl::ContactFailed(const Status& status) {
  const Monotonic now = clock.Now();
  breaker.OnFailure(now);
  if (target.gauge != nullptr) target.gauge->OnFailed();
  const Time at = clock.WallNow();
  counters.Update([&](FlusherStats& stats) {
    stats.CountError(status.message(), at);
    stats.database_available = false;
  });
  if (counters.RaiseAlarm(FlushCounters::kContact, status.message())) {
    Logger().warn("flusher event=no_contact db={} error=\"{}\"", backend.name(), status.ToString());
  }
  {
    MutexLock lock(mutex);
    contact_pause = retry.Delay(++contact_failures, random);
    contact_failed_at = now;
  }
  // Whatever else it is called (a schema that is too new, say), it may be over at the next try.
  if (status.code() == StatusCode::kFenced) return status;
  return Status::Unavailable(status.message());
}

Monotonic Flusher::Impl::ContactAt(Monotonic now) const {
  const bool is_urgent = queues.awaited_lsn() > 0;
  const Monotonic at = breaker.next_trial(now, is_urgent);
  MutexLock lock(mutex);
  if (contact_failures == 0) return at;
  const auto pause = is_urgent ? std::min(contact_pause, kUrgentRetry) : contact_pause;
  return std::max(at, contact_failed_at + pause);
}

void Flusher::Impl::Fence(const Status& why) {
  {
    MutexLock lock(mutex);
    if (phase == Phase::kFenced) return;
    phase = Phase::kFenced;
    fenced = why;
    phase_changed.NotifyAll();
  }
  counters.Update([](FlusherStats& stats) { stats.database_available = false; });
  counters.RaiseAlarm(FlushCounters::kReader, why.message());
  Logger().error("flusher event=fenced error=\"{}\"", why.ToString());
  queues.Interrupt();
}

void Flusher::Impl::MeetAgain() {
  MutexLock lock(mutex);
  if (phase == Phase::kRunning) phase = Phase::kNoContact;
}

}  // namespace taskwal::pipeline

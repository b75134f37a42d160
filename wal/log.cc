#include "wal/log.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "base/check.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "base/threads.h"
#include "wal/log_directory.h"
#include "wal/log_impl.h"

namespace taskwal::wal {

namespace {

constexpr auto kWriterPoll = std::chrono::milliseconds(1);        // while there was work lately
constexpr auto kWriterIdlePoll = std::chrono::milliseconds(10);
constexpr auto kBusyFor = std::chrono::seconds(1);
constexpr auto kMaintenancePoll = std::chrono::milliseconds(10);
constexpr auto kRoomPoll = std::chrono::milliseconds(5);
constexpr std::uint64_t kLargeBytes = 1u << 20;
// A stamp from elsewhere may run ahead of this machine's clock by this much and no more.
constexpr std::uint64_t kStampAheadMax = 3600ull * 1'000'000;
constexpr std::uint64_t kSmallSegmentBytes = 64u << 10;

}  // namespace

Log::Impl::Impl(FileSystem& fs, Clock& clock, const LogOptions& options, LogStart start,
                const LogSizes& sizes)
    : fs_(fs),
      clock_(clock),
      options_(options),
      lock_(std::move(start.lock)),
      pool_(fs, clock,
            {options.directory, sizes.segment_bytes, options.quota_bytes, options.retention_bytes,
             options.segment_retention}),
      writer_(fs, clock, pool_, WriterConfig(options, start, sizes)),
      flushed_lsn_(start.state.flushed_lsn),
      state_(std::move(start.state)) {}

LogWriter::Config Log::Impl::WriterConfig(const LogOptions& options, const LogStart& start,
                                          const LogSizes& sizes) {
  LogWriter::Config config;
  config.directory = options.directory;
  config.wal_id = start.state.wal_id;
  config.wal_ids = IdentitiesOf(start.state);
  config.partitions = start.state.partitions;
  config.epoch = start.state.epoch;
  config.segment_bytes = sizes.segment_bytes;
  config.segment_records_max = options.segment_records_max;
  config.has_writer_thread = options.start_threads;
  // Small segments get small frames: a frame that does not fit makes the segment roll.
  config.frame_bytes = std::min(options.frame_bytes, sizes.segment_bytes / 4);
  config.compression = options.compression;
  config.sync_lanes = std::clamp(options.sync_lanes, 1u, 8u);
  config.sync_interval = options.sync_interval;
  config.index_keys = options.index_keys;
  config.next_segment = start.next_segment;
  config.next_lsn = start.next_lsn;
  config.stamp = start.stamp;
  return config;
}

Result<std::unique_ptr<Log>> Log::Open(FileSystem& fs, Clock& clock, LogOptions options,
                                       LogStart start) {
  const std::string ring_path = JoinPath(options.directory, kRingFileName);
  TASKWAL_ASSIGN(const Rescue rescue,
                 RescueRing(fs, ring_path, IdentitiesOf(start.state), start.next_lsn));
  if (!rescue.refused.empty()) {
    Logger().warn("event=ring_refused directory={} reason=\"{}\"", options.directory,
                  rescue.refused);
  }
  TASKWAL_ASSIGN(const DiskSpace space, fs.Space(options.directory));
  const LogSizes sizes = FitToDisk(space, options.ring_bytes, options.segment_bytes);
  // Raised before anything is written under it, so that no epoch is used twice.
  ++start.state.epoch;
  start.state.clean = false;
  start.state.last_lsn = start.next_lsn - 1;
  const std::vector<std::uint64_t> segments = start.segments;
  const Lsn next_lsn = start.next_lsn;
  auto impl = std::make_unique<Impl>(fs, clock, options, std::move(start), sizes);
  TASKWAL_TRY(impl->pool_.Open(segments));
  TASKWAL_TRY(WithAdviceOnRoom(fs, options.directory,
                               impl->MakeFiles(rescue.records, next_lsn, sizes.ring_bytes)));
  std::unique_ptr<Log> log(new Log(std::move(impl)));
  if (options.start_threads) TASKWAL_TRY(log->impl_->StartThreads());
  return log;
}

Status Log::Impl::MakeFiles(const std::vector<RecordView>& rescued, Lsn next_lsn,
                            std::uint64_t ring_bytes) {
  {
    MutexLock lock(retire_mutex_);
    TASKWAL_TRY(SaveState());
  }
  TASKWAL_TRY(StartWriter(rescued, next_lsn));
  rescued_ = rescued.size();
  // Crash here: the ring's records are in a segment; the next open finds that it holds nothing new.
  return MakeRing(JoinPath(options_.directory, kRingFileName), ring_bytes,
                  next_lsn + rescued.size());
}

// A full disk must not keep recovery from writing: that is what the reserve is for, and what
// retention keeps goes before the log stays shut.
Status Log::Impl::StartWriter(const std::vector<RecordView>& rescued, Lsn next_lsn) {
  Status started = writer_.Start(rescued);
  if (started.code() != StatusCode::kUnavailable) return started;
  writer_.UseSmallSegment(kSmallSegmentBytes);
  const auto free_room = {
      std::function<void()>([this] { pool_.GiveUpReserve(); }),
      std::function<void()>([this, next_lsn] {
        while (LearnOlderSegments(next_lsn)) {
        }
        IgnoreStatus(RetireNow(flushed_lsn_.load(), true), "the next try tells");
        pool_.RemoveSpares();
      }),
      std::function<void()>([this] { pool_.TurnReserveIntoSpare(); }),
  };
  for (const auto& free : free_room) {
    free();
    started = writer_.Start(rescued);
    if (started.code() != StatusCode::kUnavailable) return started;
  }
  return started;
}

Status Log::Impl::MakeRing(const std::string& path, std::uint64_t bytes, Lsn next_lsn) {
  const Status removed = fs_.Remove(path);
  if (!removed.ok() && removed.code() != StatusCode::kNotFound) return removed;
  const Uuid wal_id = Identities().front();
  const std::uint64_t epoch = writer_.epoch();
  for (;; bytes /= 2) {
    auto ring = RingBuffer::Create(fs_, path, bytes, wal_id, epoch, next_lsn);
    if (ring.ok()) {
      large_bytes_ = std::min(kLargeBytes, bytes / 8);
      writer_.SetRing(std::move(ring).value());
      writer_.SetSpaceCallback([this](const Status& made) { NoteSegmentMade(made); });
      // A fast writer fills a segment between two looks of the maintenance thread.
      writer_.SetRollCallback([this] { LookAtSpace(); });
      writer_.SetAskCallback([this] {
        {
          MutexLock lock(wake_mutex_);
          wake_writer_ = true;
        }
        wake_.NotifyAll();
      });
      writer_.SetUnsealedCallback([this](std::uint64_t number) { return NoteUnsealed(number); });
      LookAtSpace();
      return Status::Ok();
    }
    const bool is_full = ring.status().code() == StatusCode::kUnavailable;
    if (is_full && bytes == kSmallSegmentBytes) pool_.GiveUpReserve();
    if (!is_full || bytes < kSmallSegmentBytes) return ring.status();
  }
}

Status Log::Impl::SaveState() {
  LogState copy;
  {
    MutexLock lock(state_mutex_);
    copy = state_;
  }
  pool_.KeepForState(RoomToRewrite(copy));
  bool used_reserve = false;
  Status saved = WriteState(fs_, options_.directory, copy, &used_reserve);
  if (saved.code() == StatusCode::kUnavailable) {
    // Figures that are written anew every second must not keep segments from going.
    for (const char* end : {"", ".tmp"}) {
      IgnoreStatus(fs_.Remove(JoinPath(options_.directory, std::string(kMetricsFileName) + end)),
                   "the next try tells");
    }
    pool_.RemoveSpares();
    saved = WriteState(fs_, options_.directory, copy, &used_reserve);
  }
  // Needed only where STATE comes to harm: whoever has changed that has succeeded, and the next
  // one to do so writes this, too. Records that an older list does not explain are noticed then.
  const Status kept =
      saved.ok() ? KeepTargetList(fs_, options_.directory, copy, &target_list_, &used_reserve)
                 : Status::Ok();
  if (used_reserve) pool_.NoteReserveUsed();
  TASKWAL_TRY(saved);
  if (!kept.ok()) {
    Logger().warn("event=targets_unwritten directory={} error=\"{}\"", options_.directory,
                  kept.ToString());
  }
  return Status::Ok();
}

Status Log::Impl::StartThreads() {
  TASKWAL_ASSIGN(writer_thread_, StartThread<std::jthread>([this](const std::stop_token& stop) {
                   RunWriter(stop);
                 }));
  TASKWAL_ASSIGN(maintenance_thread_,
                 StartThread<std::jthread>([this](const std::stop_token& stop) {
                   RunMaintenance(stop);
                 }));
  return Status::Ok();
}

void Log::Impl::RunWriter(const std::stop_token& stop) {
  Monotonic last_work = clock_.Now();
  while (!stop.stop_requested()) {
    if (writer_.Step()) {
      last_work = clock_.Now();
      continue;
    }
    // Producers wake nobody, as that would be a system call: the writer looks up by itself.
    const bool is_busy = clock_.Now() - last_work < kBusyFor;
    MutexLock lock(wake_mutex_);
    if (!wake_writer_) wake_.WaitFor(wake_mutex_, is_busy ? kWriterPoll : kWriterIdlePoll);
    wake_writer_ = false;
  }
}

void Log::Impl::RunMaintenance(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (MaintenanceStep()) continue;
    MutexLock lock(wake_mutex_);
    maintenance_wake_.WaitFor(wake_mutex_, kMaintenancePoll);
  }
}

void Log::Impl::StopThreads() {
  writer_thread_.request_stop();
  maintenance_thread_.request_stop();
  {
    MutexLock lock(wake_mutex_);
    wake_writer_ = true;
  }
  wake_.NotifyAll();
  maintenance_wake_.NotifyAll();
  if (writer_thread_.joinable()) writer_thread_.join();
  if (maintenance_thread_.joinable()) maintenance_thread_.join();
}

// --- appending
// -------------------------------------------------------------------------------------

Result<Log::Reservation> Log::Reserve(const RecordHeader& header, std::size_t body_bytes,
                                      Durability level, const Deadline& deadline) {
  Impl& impl = *impl_;
  Reservation reservation;
  reservation.header = header;
  const std::uint8_t flags = level == Durability::kDisk ? kSlotNeedsSync : 0;
  if (body_bytes > impl.large_bytes_) [[unlikely]] {
    return impl.ReserveLarge(header, body_bytes, flags, deadline);
  }
  RingBuffer::Claim claim;
  if (!impl.is_short_.load(std::memory_order_relaxed) && !impl.writer_.is_broken()) [[likely]] {
    claim = impl.writer_.ring().TryClaim(header, body_bytes, flags);
  }
  if (claim.slot == nullptr) [[unlikely]] {
    TASKWAL_ASSIGN(claim, impl.ClaimSlowly(header, body_bytes, flags, deadline));
  }
  reservation.slot = reinterpret_cast<std::byte*>(claim.slot);
  reservation.lsn = claim.lsn;
  reservation.body = RingBuffer::BodyOf(claim.slot, body_bytes);
  return reservation;
}

Result<Log::Reservation> Log::Impl::ReserveLarge(const RecordHeader& header, std::size_t body_bytes,
                                                 std::uint8_t flags, const Deadline& deadline) {
  // Flushing makes no room beyond the quota: who waited for it would wait for ever.
  const std::uint64_t most = std::min<std::uint64_t>(kRecordBodyBytesMax, options_.quota_bytes);
  if (body_bytes > most) {
    return Status::InvalidArgument(
        "a record of " + std::to_string(body_bytes) + " bytes, above " +
        (most == kRecordBodyBytesMax ? "the limit of " : "the log's quota of ") +
        std::to_string(most));
  }
  Reservation reservation;
  reservation.header = header;
  // Before the claim: behind it nothing may fail.
  reservation.large = std::make_unique_for_overwrite<std::byte[]>(body_bytes);
  reservation.body = std::span(reservation.large.get(), body_bytes);
  TASKWAL_ASSIGN(const RingBuffer::Claim claim,
                 ClaimSlowly(header, body_bytes, flags | kSlotLarge, deadline));
  reservation.slot = reinterpret_cast<std::byte*>(claim.slot);
  reservation.lsn = claim.lsn;
  return reservation;
}

// Of the room that the last look at the space found. No system call: a caller's deadline must hold
// though the disk does not answer.
bool Log::Impl::ClaimDisk(std::uint64_t bytes) {
  std::uint64_t claimed = large_claimed_.load();
  do {
    if (claimed + bytes > large_limit_.load()) {
      large_wanted_.store(claimed + bytes);
      return false;
    }
  } while (!large_claimed_.compare_exchange_weak(claimed, claimed + bytes));
  return true;
}

Result<RingBuffer::Claim> Log::Impl::ClaimSlowly(const RecordHeader& header, std::size_t body_bytes,
                                                 std::uint8_t flags, const Deadline& deadline) {
  const bool is_large = (flags & kSlotLarge) != 0;
  for (;;) {
    if (is_closed_.load(std::memory_order_acquire)) return Status::Closed("the log is closed");
    if (writer_.is_broken()) return writer_.health();
    const bool is_full =
        is_short_.load(std::memory_order_relaxed) || (is_large && !ClaimDisk(body_bytes));
    if (!is_full) {
      const RingBuffer::Claim claim =
          writer_.ring().TryClaim(header, is_large ? 0 : body_bytes, flags);
      if (claim.slot != nullptr) return claim;
      if (is_large) large_claimed_.fetch_sub(body_bytes);
    }
    const Monotonic now = clock_.Now();
    if (now >= deadline.at || deadline.stop.stop_requested()) {
      return Status::Overloaded(is_full ? "the log is full: " + WhyFull()
                                        : "the log buffer is full");
    }
    if (!options_.start_threads) {
      TASKWAL_TRY(MakeRoomAlone(now, is_large ? body_bytes : 0));
      continue;
    }
    AwaitRoom(std::min(deadline.at, now + kRoomPoll) - now);
  }
}

void Log::Impl::AwaitRoom(std::chrono::nanoseconds most) {
  {
    MutexLock lock(wake_mutex_);
    wake_writer_ = true;
  }
  wake_.NotifyAll();
  writer_.WaitForRoom(most);
}

// Without threads nobody else makes room.
Status Log::Impl::MakeRoomAlone(Monotonic now, std::uint64_t large_bytes) {
  const bool has_worked = writer_.Step();
  if (has_worked || MaintenanceStep()) return Status::Ok();
  const Status synced = writer_.WaitDurable(writer_.ring().end_lsn(), {now, {}});
  return synced.code() == StatusCode::kUnavailable || synced.ok()
             ? (is_short_.load(std::memory_order_relaxed) || !HasDiskFor(large_bytes)
                    ? Status::Overloaded("the log is full: " + WhyFull())
                    : Status::Ok())
             : synced;
}

bool Log::IsLarge(std::size_t body_bytes) const { return body_bytes > impl_->large_bytes_; }

Status Log::Publish(Reservation reservation, const Deadline& deadline) {
  Impl& impl = *impl_;
  auto* slot = reinterpret_cast<RingSlot*>(reservation.slot);
  slot->target = reservation.header.target;
  if (!reservation.large) [[likely]] {
    impl.writer_.ring().Publish(slot, reservation.lsn, reservation.body.size());
    return Status::Ok();
  }
  const std::size_t bytes = reservation.body.size();
  impl.writer_.KeepLarge(reservation.lsn, std::move(reservation.large), bytes);
  impl.writer_.ring().Publish(slot, reservation.lsn, 0);
  // Not kept by the ring, so a kill would lose it: acknowledged once the OS has it.
  const Status written = impl.writer_.WaitWritten(reservation.lsn, deadline);
  if (!written.ok()) return Status::InDoubt(written.message(), reservation.lsn);
  return Status::Ok();
}

std::uint64_t Log::NextStamp(Time now) {
  const auto wall = static_cast<std::uint64_t>(now.time_since_epoch().count());
  return std::max(wall, impl_->writer_.stamp());
}

void Log::RaiseStamp(std::uint64_t seen) {
  const auto now = static_cast<std::uint64_t>(impl_->clock_.WallNow().time_since_epoch().count());
  if (seen > now + kStampAheadMax) {
    Logger().warn("event=stamp_too_far_ahead stamp={} now={}", seen, now);
    seen = now + kStampAheadMax;
  }
  impl_->writer_.RaiseStamp(seen);
}

// --- waiting, positions
// ----------------------------------------------------------------------------

Status Log::WaitDurable(Lsn lsn, const Deadline& deadline) {
  TASKWAL_TRY(impl_->writer_.WaitDurable(lsn, deadline));
  return CheckKept(lsn);
}
Status Log::CheckKept(Lsn lsn) const { return impl_->writer_.CheckKept(lsn); }
Status Log::WaitWritten(Lsn lsn, const Deadline& deadline) {
  return impl_->writer_.WaitWritten(lsn, deadline);
}
bool Log::WaitForMore(Lsn lsn, const Deadline& deadline) {
  return impl_->writer_.WaitForMore(lsn, deadline);
}
void Log::WakeReaders() { impl_->writer_.WakeReaders(); }
Lsn Log::end_lsn() const { return impl_->writer_.ring().end_lsn(); }
Lsn Log::written_lsn() const { return impl_->writer_.written_lsn(); }
Lsn Log::durable_lsn() const { return impl_->writer_.durable_lsn(); }
Status Log::health() const { return impl_->writer_.health(); }
bool Log::WriterStep() { return impl_->writer_.Step(); }
bool Log::MaintenanceStep() { return impl_->MaintenanceStep(); }

TailReader Log::Tail(Lsn from) {
  const LogState now = state();
  return TailReader(impl_->fs_,
                    {impl_->options_.directory, IdentitiesOf(now), now.first_lsn, now.lost}, from);
}

// --- life
// ------------------------------------------------------------------------------------------

Log::Log(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Log::~Log() {
  if (impl_) Abandon();
}

Status Log::Close(const std::function<std::uint64_t()>& turns) {
  Impl& impl = *impl_;
  MutexLock closing(impl.close_mutex_);
  if (impl.close_status_) return *impl.close_status_;
  impl.is_closed_.store(true, std::memory_order_release);
  impl.writer_.ring().CloseForClaims();
  Status status = impl.writer_.Close();
  impl.StopThreads();
  if (status.ok()) {
    status = impl.EndCleanly(turns);
  } else {
    impl.writer_.Abandon();
  }
  impl.GiveUpDirectory();
  impl.close_status_ = status;
  return status;
}

void Log::Impl::GiveUpDirectory() {
  {
    MutexLock lock(retire_mutex_);
    is_ended_ = true;
  }
  lock_.reset();
}

Status Log::Impl::EndCleanly(const std::function<std::uint64_t()>& turns) {
  const std::optional<std::uint64_t> taken = turns ? std::optional(turns()) : std::nullopt;
  // A database call that hung may come back now and report what it flushed: STATE and the segments
  // are one writer's at a time.
  MutexLock retiring(retire_mutex_);
  // A segment that never took a record leaves nothing to keep. One that could not be read may hold
  // some.
  for (const ClosedSegment& segment : pool_.Closed()) {
    if (segment.has_header && segment.first_lsn != 0 && segment.last_lsn < segment.first_lsn &&
        segment.last_lsn + 1 == segment.first_lsn && segment.first_lsn > writer_.durable_lsn()) {
      TASKWAL_TRY(pool_.Drop(segment));
    }
  }
  pool_.RemoveSpares();
  {
    MutexLock lock(state_mutex_);
    state_.clean = true;
    state_.last_lsn = writer_.durable_lsn();
    if (taken && !state_.targets.empty()) {
      state_.turns = *taken;
      state_.turns_lsn = state_.last_lsn;
    }
  }
  TASKWAL_TRY(SaveState());
  // Everything in it is in sealed segments.
  IgnoreStatus(fs_.Remove(JoinPath(options_.directory, kRingFileName)),
               "an empty ring harms nobody");
  return fs_.SyncDirectory(options_.directory);
}

void Log::Abandon() {
  Impl& impl = *impl_;
  MutexLock closing(impl.close_mutex_);
  if (impl.close_status_) return;
  impl.is_closed_.store(true, std::memory_order_release);
  if (impl.has_ring()) impl.writer_.ring().CloseForClaims();
  impl.writer_.Abandon();
  impl.StopThreads();
  impl.GiveUpDirectory();
  impl.close_status_ = Status::Closed("the log was abandoned");
}

}  // namespace taskwal::wal

#include "tests/fault/log_workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/clock.h"
#include "base/status_macros.h"
#include "recovery/prepare_log.h"
#include "tests/support/status_matchers.h"
#include "wal/tail_reader.h"

namespace taskwal {

namespace {

constexpr char kDirectory[] = "/log";

wal::Deadline Soon() { return {Clock::Real().Now() + std::chrono::milliseconds(20), {}}; }

wal::LogOptions SmallLog(bool start_threads = false) {
  wal::LogOptions options;
  options.directory = kDirectory;
  options.ring_bytes = 64u << 10;
  options.segment_bytes = 32u << 10;
  options.segment_records_max = 7;
  options.retention_bytes = 0;
  options.segment_retention = std::chrono::milliseconds(0);
  options.start_threads = start_threads;
  return options;
}

// Of many sizes: empty, within a sector, over several, and larger than the ring takes.
std::string BodyNumber(int number) {
  constexpr std::size_t kSizes[] = {40, 0, 700, 3000, 1, 20'000, 512, 90};
  std::string body(kSizes[number % 8], '\0');
  for (std::size_t i = 0; i < body.size(); ++i) {
    body[i] = static_cast<char>(number * 31 + static_cast<int>(i) * 7);
  }
  return body;
}

std::string_view TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

void LogLedger::Acknowledged(wal::Lsn lsn, Durability level) {
  Durability& known = acknowledged_[lsn];
  known = std::max(known, level);
  if (level != Durability::kDisk) return;
  for (auto& [each, of] : acknowledged_) {
    if (each <= lsn) of = level;
  }
}

void LogLedger::Survived(Durability level) {
  std::erase_if(acknowledged_, [&](const auto& entry) { return entry.second < level; });
}

wal::Lsn LogLedger::last_acknowledged() const {
  return acknowledged_.empty() ? 0 : acknowledged_.rbegin()->first;
}

void LogLedger::CheckRecord(const wal::RecordView& record) const {
  if (record.header.type == wal::kVoidRecord || record.header.type == wal::kLostRecord) {
    EXPECT_FALSE(acknowledged_.contains(record.lsn))
        << "LSN " << record.lsn << " was acknowledged and is of type " << +record.header.type;
    return;
  }
  const auto tried = tried_.find(record.lsn);
  ASSERT_NE(tried, tried_.end()) << "LSN " << record.lsn << " holds what nobody wrote";
  const std::string_view body = TextOf(record.body);
  // What was acknowledged last under an LSN is what counts: an earlier one was void by then.
  const bool known = acknowledged_.contains(record.lsn)
                         ? tried->second.back() == body
                         : std::ranges::find(tried->second, body) != tried->second.end();
  EXPECT_TRUE(known) << "LSN " << record.lsn << " holds " << body.size() << " bytes nobody wrote";
}

void LogLedger::Check(wal::Log& log, Durability level) const {
  const wal::Lsn end = log.end_lsn();
  EXPECT_LE(last_acknowledged(), end) << "acknowledged LSNs are gone from the end";
  EXPECT_LE(log.first_lsn(), flushed_ + 1) << "records went that are in no database";
  ASSERT_OK(log.WaitDurable(end, Soon()));
  wal::TailReader tail = log.Tail(log.first_lsn());
  wal::Lsn expected = log.first_lsn();
  while (expected <= end) {
    wal::Frame frame;
    ASSERT_OK_AND_ASSIGN(const wal::TailEvent event, tail.Next(end, &frame));
    ASSERT_NE(event.kind, wal::TailEvent::Kind::kEnd) << "the log ends before LSN " << expected;
    if (event.kind == wal::TailEvent::Kind::kLoss) {
      for (const auto& [lsn, of] : acknowledged_) {
        EXPECT_FALSE(of >= level && lsn >= event.loss.from && lsn <= event.loss.to)
            << "LSN " << lsn << " was acknowledged and is lost: " << event.detail;
      }
      expected = event.loss.to + 1;
      continue;
    }
    ASSERT_EQ(event.from, expected);
    wal::FrameRecords records(frame.header, frame.raw);
    wal::RecordView record;
    while (records.Next(&record)) {
      if (record.lsn < event.from || record.lsn > event.to) continue;
      ASSERT_EQ(record.lsn, expected++);
      CheckRecord(record);
    }
    ASSERT_TRUE(records.ok());
    ASSERT_EQ(expected, event.to + 1);
  }
}

std::unique_ptr<wal::Log> LogWorkload::Open(bool start_threads) {
  // Once more after a failure: one failed call is never the end.
  for (int attempt = 0; attempt < 2 && !fs_.crashed(); ++attempt) {
    recovery::PrepareReport report;
    auto start = recovery::PrepareLog(fs_, {.directory = kDirectory}, &report);
    if (!start.ok()) continue;
    auto log = wal::Log::Open(fs_, Clock::Real(), SmallLog(start_threads),
                              std::move(start).value());
    if (log.ok()) return std::move(log).value();
  }
  return nullptr;
}

Status LogWorkload::Append(wal::Log& log, Durability level, const wal::Deadline& deadline) {
  const std::string body = BodyNumber(made_++);
  const wal::RecordHeader header{.key = static_cast<std::uint64_t>(made_ % 5)};
  const auto lsn = log.Append(header, body.size(), level, deadline, [&](std::span<std::byte> into) {
    if (!body.empty()) std::memcpy(into.data(), body.data(), body.size());
  });
  if (!lsn.ok()) {
    if (lsn.status().lsn() != 0) ledger_.Tried(lsn.status().lsn(), body);
    return lsn.status();
  }
  EXPECT_GT(*lsn, ledger_.last_acknowledged()) << "an LSN was given out twice";
  ledger_.Tried(*lsn, body);
  // A dead process acknowledges nothing.
  if (fs_.crashed()) return Status::Ok();
  ledger_.Acknowledged(*lsn, Durability::kProcess);
  if (level != Durability::kDisk) return Status::Ok();
  const Status durable = log.WaitDurable(*lsn, deadline);
  if (durable.ok() && !fs_.crashed()) ledger_.Acknowledged(*lsn, Durability::kDisk);
  return durable;
}

void LogWorkload::AppendSome(wal::Log& log, int count) {
  for (int i = 0; i < count && !fs_.crashed(); ++i) {
    const Durability level = i % 3 == 0 ? Durability::kDisk : Durability::kProcess;
    IgnoreStatus(Append(log, level, Soon()), "the ledger knows what was acknowledged");
    if (i % 2 == 0) log.WriterStep();
    log.MaintenanceStep();
  }
}

void LogWorkload::Retire(wal::Log& log) {
  const wal::Lsn flushed = log.durable_lsn();
  // Recorded first: a failed call may have removed some already.
  ledger_.Settled(flushed);
  IgnoreStatus(log.Retire(flushed, {}), "what could not go now goes later");
}

void LogWorkload::Kill(std::unique_ptr<wal::Log> log) {
  if (fs_.crashed()) return;  // whoever made it crash says how
  fs_.Kill();
  log.reset();
}

void LogWorkload::Run() {
  if (auto log = Open(); log != nullptr) {
    AppendSome(*log, 18);
    Retire(*log);
    AppendSome(*log, 10);
    Kill(std::move(log));
  }
  if (auto log = Open(); log != nullptr) {
    AppendSome(*log, 5);
    Retire(*log);
    AppendSome(*log, 4);
    IgnoreStatus(log->Close(), "the check opens again in any case");
  }
  if (auto log = Open(); log != nullptr) {
    AppendSome(*log, 3);
    Kill(std::move(log));
  }
}

Status LogWorkload::AppendUntilRefused() {
  log_ = Open(true);
  if (log_ == nullptr) return Status::IoError("the log did not open");
  for (int i = 0; i < 10'000; ++i) {
    const Durability level = i % 3 == 0 ? Durability::kDisk : Durability::kProcess;
    const Status appended = Append(*log_, level, Soon());
    // A record that has its place in the log and waits for the disk is not refused.
    if (!appended.ok() && appended.code() != StatusCode::kUnavailable) return appended;
  }
  return Status::Ok();
}

Status LogWorkload::AppendOnceMore() {
  return Append(*log_, Durability::kDisk, {Clock::Real().Now() + std::chrono::seconds(30), {}});
}

void LogWorkload::CheckOnly(Durability level) {
  ledger_.Survived(level);
  recovery::PrepareReport report;
  ASSERT_OK_AND_ASSIGN(auto start, recovery::PrepareLog(fs_, {.directory = kDirectory}, &report));
  ASSERT_OK_AND_ASSIGN(auto log,
                       wal::Log::Open(fs_, Clock::Real(), SmallLog(), std::move(start)));
  ledger_.Check(*log, level);
}

void LogWorkload::ReopenAndCheck(Durability level) {
  ledger_.Survived(level);
  for (const bool is_last : {false, true}) {
    recovery::PrepareReport report;
    ASSERT_OK_AND_ASSIGN(auto start,
                         recovery::PrepareLog(fs_, {.directory = kDirectory}, &report));
    ASSERT_OK_AND_ASSIGN(auto log,
                         wal::Log::Open(fs_, Clock::Real(), SmallLog(), std::move(start)));
    ledger_.Check(*log, level);
    if (::testing::Test::HasFailure()) return;
    if (is_last) continue;
    AppendSome(*log, 4);
    ASSERT_OK(log->Close());
  }
}

}  // namespace taskwal

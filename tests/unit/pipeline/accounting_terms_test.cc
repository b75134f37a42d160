// Each term of accepted = applied + dead letters + lost + pending, held against what can be counted
// without asking for it: calls, rows, letters, records in the files.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/status_macros.h"
#include "storage/operation.h"
#include "taskwal/dead_letters.h"
#include "tests/unit/pipeline/pressure_fixture.h"
#include "wal/frame.h"
#include "wal/record.h"
#include "wal/tail_reader.h"

namespace taskwal::pipeline {
namespace {

using std::chrono::seconds;

class AccountingTermsTest : public SteppedPressureTest {
 protected:
  AccountingTermsTest() {
    options_.max_segment_size = 50;
    options_.max_flush_retries = 0;
    database_.FailApply([this](const storage::Batch& batch) {
      for (const auto& row : batch.activities) {
        if (row.activity.id.ends_with("-poison")) return Status::Rejected("test: poison");
      }
      return TakeOne();
    });
  }
  // Every fortieth is poison: few enough to be believed.
  void LogFrom(int first, int count) {
    for (int i = first; i < first + count; ++i) {
      Activity activity;
      activity.id = std::to_string(i) + (i % 40 == 0 ? "-poison" : "");
      activity.task_id = "t" + std::to_string(i % 7);
      if (storage_->LogActivity(activity, {}).ok()) acknowledged_.insert(activity.id);
    }
  }
  void Stop() {
    IgnoreStatus(storage_->Shutdown(ShutdownMode::kImmediate, {}), "the rest stays in the log");
  }
  // A frame in the middle of the log.
  void Damage() {
    std::vector<std::string> segments;
    for (const auto& file : std::filesystem::directory_iterator(options_.wal_dir)) {
      const std::string path = file.path();
      if (path.ends_with(".log")) segments.push_back(path);
    }
    std::sort(segments.begin(), segments.end());
    ASSERT_GE(segments.size(), 3u);
    std::fstream file(segments[1], std::ios::in | std::ios::out | std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), {});
    const std::size_t at = content.find("\x74\x36", content.size() / 4);  // of a task's id
    ASSERT_NE(at, std::string::npos);
    file.seekp(static_cast<std::streamoff>(at));
    file.put('x');
  }
  // Records of activities in the files that the database has not got by its own watermarks, and
  // that are no letters.
  std::uint64_t CountInFiles() {
    auto session = std::move(database_.data().Connect()).value();
    const wal::LogState state = storage_->log().state();
    const storage::LogRow row = std::move(session->ReadLog(state.wal_id)).value();
    const wal::Lsn end = storage_->log().end_lsn();
    wal::TailReader reader(FileSystem::Real(),
                           {options_.wal_dir, {state.wal_id}, state.first_lsn, state.lost}, 1);
    std::uint64_t count = 0;
    for (wal::Frame frame; reader.position() <= end;) {
      const auto event = std::move(reader.Next(end, &frame)).value();
      if (event.kind == wal::TailEvent::Kind::kEnd) break;
      if (event.kind == wal::TailEvent::Kind::kLoss) continue;
      wal::FrameRecords records(frame.header, frame.raw);
      for (wal::RecordView record; records.Next(&record);) {
        const std::uint32_t partition = wal::PartitionOf(record.header.key, state.partitions);
        const bool is_activity = record.header.type >= wal::kFirstUserType;
        count += is_activity && record.lsn > row.watermarks[partition] ? 1 : 0;
      }
    }
    return count;
  }
  std::set<std::string> StoredIds() {
    auto session = std::move(database_.data().Connect()).value();
    ActivityQuery query;
    query.paging.limit = 10'000;
    const ActivityPage page = std::move(session->QueryActivities(query)).value();
    std::set<std::string> ids;
    for (const Activity& activity : page.activities) {
      EXPECT_TRUE(ids.insert(activity.id).second) << activity.id << " is there twice";
    }
    return ids;
  }
  std::uint64_t CountLetters() {
    const auto letters = std::move(storage_->GetDeadLetters()->List(1000)).value();
    return static_cast<std::uint64_t>(std::count_if(
        letters.begin(), letters.end(), [](const DeadLetterInfo& info) { return !info.is_loss; }));
  }
  std::uint64_t CountDeclaredLost() {
    std::uint64_t lost = 0;
    EXPECT_OK(storage_->dead_letters().ForEach([&](const DeadLetter& letter) {
      if (letter.kind == DeadLetter::Kind::kLoss) lost += letter.lsns.count();
      return true;
    }));
    return lost;
  }

  std::set<std::string> acknowledged_;
};

TEST_F(AccountingTermsTest, EachIsWhatIsCountedWithoutIt) {
  allowed_ = 0;
  Open();
  LogFrom(1, 300);
  Stop();
  storage_.reset();
  Damage();
  Open();
  LogFrom(301, 100);
  // Through the damaged part, and not to the end; what comes behind a refused record waits.
  allowed_ = 200;
  Await([&] { return allowed_ == 0 && storage_->GetStats().lost > 0; });
  Stop();

  const Stats stats = storage_->GetStats();
  ASSERT_EQ(acknowledged_.size(), 400u);
  EXPECT_EQ(stats.accepted, acknowledged_.size());
  EXPECT_EQ(stats.applied, StoredIds().size());
  EXPECT_GT(stats.dead_lettered, 1u);
  EXPECT_EQ(stats.dead_lettered, CountLetters());
  EXPECT_GT(stats.lost, 0u);
  EXPECT_EQ(stats.lost, CountDeclaredLost());
  EXPECT_GT(stats.pending, 10u);
  EXPECT_EQ(stats.pending, CountInFiles());
  EXPECT_EQ(acknowledged_.size(),
            StoredIds().size() + CountLetters() + CountDeclaredLost() + CountInFiles());

  // And nothing is anywhere else: once all is brought, what is missing is what was lost.
  const std::uint64_t lost = stats.lost;
  std::uint64_t lettered = stats.dead_lettered;
  storage_.reset();
  allowed_ = kAll;
  Open();
  Await([&] { return pending() == 0; });
  lettered += storage_->GetStats().dead_lettered;
  EXPECT_EQ(acknowledged_.size() - StoredIds().size() - lettered, lost);
}

}  // namespace
}  // namespace taskwal::pipeline

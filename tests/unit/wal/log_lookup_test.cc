// A key's records in a log that goes on.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/unit/wal/log_fixture.h"

namespace taskwal::wal {
namespace {

TEST_F(LogTest, LookupYieldsAKeysRecordsNewestFirst) {
  auto log = Open();
  std::map<std::uint64_t, std::vector<Lsn>> expected;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const std::uint64_t key = i % 7;
    expected[key].insert(expected[key].begin(),
                         *Put(*log, std::string(100, 'x'), Durability::kProcess, key));
    if (i % 300 == 0) {
      ASSERT_OK(log->WaitDurable(log->end_lsn(), {}));
      log->MaintenanceStep();
    }
  }
  for (const auto& [key, lsns] : expected) {
    std::vector<Lsn> found;
    ASSERT_OK(log->Lookup(key, 1, [&](const RecordView& record) {
      found.push_back(record.lsn);
      return true;
    }));
    EXPECT_EQ(found, lsns) << key;
  }
}

// While it reads, the log rolls on and seals: what came meanwhile is not taken for older.
TEST_F(LogTest, LookupPassesOverWhatIsAppendedMeanwhile) {
  auto log = Open();
  const auto put = [&] { return Put(*log, std::string(3000, 'x'), Durability::kProcess, 5); };
  for (int i = 0; i < 3; ++i) ASSERT_OK(put());
  std::vector<Lsn> found;
  ASSERT_OK(log->Lookup(5, 1, [&](const RecordView& record) {
    found.push_back(record.lsn);
    for (int i = 0; i < 60; ++i) {
      EXPECT_OK(put());
      EXPECT_OK(log->WaitDurable(log->end_lsn(), {}));
      log->MaintenanceStep();
    }
    return true;
  }));
  EXPECT_GT(log->GetStats().segments, log->GetStats().segments_active);
  EXPECT_EQ(found, (std::vector<Lsn>{3, 2, 1}));
}

TEST_F(LogTest, LookupStopsAtFromAndWhenToldTo) {
  auto log = Open();
  for (int i = 0; i < 10; ++i) ASSERT_OK(Put(*log, "x", Durability::kProcess, 5));
  std::vector<Lsn> found;
  ASSERT_OK(log->Lookup(5, 4, [&](const RecordView& record) {
    found.push_back(record.lsn);
    return found.size() < 3;
  }));
  EXPECT_EQ(found, (std::vector<Lsn>{10, 9, 8}));
  found.clear();
  ASSERT_OK(log->Lookup(5, 9, [&](const RecordView& record) {
    found.push_back(record.lsn);
    return true;
  }));
  EXPECT_EQ(found, (std::vector<Lsn>{10, 9}));
}

}  // namespace
}  // namespace taskwal::wal

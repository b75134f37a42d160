#include "pipeline/flush/missing_records.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

namespace taskwal::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using wal::Lsn;

std::vector<MissingRecords> Find(const std::vector<Lsn>& stored, const std::vector<Lsn>& confirmed,
                                 Lsn gone) {
  return FindMissing(stored, confirmed, gone);
}

TEST(FindMissing, NamesNothingThatTheLogStillHas) {
  EXPECT_THAT(Find({50, 40}, {90, 85}, 40), IsEmpty());
  EXPECT_THAT(Find({50, 40}, {50, 40}, 60), IsEmpty());
}

TEST(FindMissing, NamesOneRangeWhereOnePartitionIsAll) {
  EXPECT_THAT(Find({50}, {90}, 60), ElementsAre(MissingRecords{{51, 60}, {}}));
}

TEST(FindMissing, TellsPartitionsApartThatHaveWhatOthersLack) {
  // 50 is a record of the first partition that is there.
  EXPECT_THAT(Find({50, 40}, {90, 85}, 60),
              ElementsAre(MissingRecords{{41, 49}, {1}}, MissingRecords{{51, 60}, {}}));
  EXPECT_THAT(Find({50, 40, 30}, {90, 85, 80}, 60),
              ElementsAre(MissingRecords{{31, 39}, {2}}, MissingRecords{{41, 49}, {1, 2}},
                          MissingRecords{{51, 60}, {}}));
}

TEST(FindMissing, EndsWhereThePartitionHadItsLastRecord) {
  EXPECT_THAT(Find({40, 85}, {45, 85}, 60), ElementsAre(MissingRecords{{41, 45}, {0}}));
  EXPECT_THAT(Find({40, 41}, {42, 41}, 42), ElementsAre(MissingRecords{{42, 42}, {}}));
}

TEST(FindMissing, SpeaksOfRangesAndPartitions) {
  const std::vector<MissingRecords> missing = Find({50, 40, 30}, {90, 85, 80}, 60);
  EXPECT_EQ(MissingText(missing),
            "31 to 39 of partitions 2; 41 to 49 of partitions 1,2; 51 to 60");
  EXPECT_EQ(PartitionsText(missing[1]), "1,2");
  EXPECT_EQ(PartitionsText(missing[2]), "");
}

// Whatever the order in which partitions commit and what of it a standby had: a record is named
// exactly where the database lacks it and the log has let it go.
TEST(FindMissing, NamesEveryRecordThatIsMissingAndNoOther) {
  std::mt19937 random(7);
  const auto below = [&](std::uint64_t end) { return random() % end; };
  for (int round = 0; round < 500; ++round) {
    const std::uint32_t partitions = 1 + below(16);
    const Lsn end = 1 + below(200);
    std::vector<std::uint32_t> partition_of(end + 1);
    std::vector<Lsn> stored(partitions), confirmed(partitions);
    for (Lsn lsn = 1; lsn <= end; ++lsn) {
      const auto p = static_cast<std::uint32_t>(below(partitions));
      partition_of[lsn] = p;
      confirmed[p] = lsn;
      if (stored[p] == 0 || below(4) > 0) stored[p] = below(3) > 0 ? lsn : stored[p];
    }
    const Lsn gone = below(end + 1);
    const auto missing = Find(stored, confirmed, gone);
    for (Lsn lsn = 1; lsn <= end; ++lsn) {
      const std::uint32_t p = partition_of[lsn];
      const auto named = std::count_if(
          missing.begin(), missing.end(), [&](const MissingRecords& one) {
            const auto& of = one.partitions;
            const bool is_of = of.empty() || std::find(of.begin(), of.end(), p) != of.end();
            return is_of && one.lsns.from <= lsn && lsn <= one.lsns.to;
          });
      const bool is_missing = lsn > stored[p] && lsn <= gone;
      ASSERT_EQ(named, is_missing ? 1 : 0) << "round " << round << ", LSN " << lsn;
    }
  }
}

}  // namespace
}  // namespace taskwal::pipeline

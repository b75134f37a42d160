#include "pipeline/flush/poison_guard.h"

#include <gtest/gtest.h>

#include <barrier>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "pipeline/flush/letter_retry.h"

namespace taskwal::pipeline {
namespace {

using Type = storage::OperationType;

class PoisonGuardTest : public ::testing::Test {
 protected:
  // A row is refused; false where it must not be lettered.
  bool Letter(std::uint64_t batch = 100, Type type = Type::kActivityLog) {
    return LetterAt(++lsn_, batch, type);
  }
  bool LetterAt(wal::Lsn lsn, std::uint64_t batch = 100, Type type = Type::kActivityLog) {
    return guard_
        .Letter(type, lsn, batch, "why",
                [&](const std::string& mark) {
                  last_ = {};
                  last_.type = type;
                  last_.lsns = {lsn, lsn};
                  last_.metadata[kGuardMark] = mark;
                  return Status::Ok();
                })
        .ok();
  }
  int LettersUntilTripped(std::uint64_t batch = 100, Type type = Type::kActivityLog) {
    int letters = 0;
    while (letters < kManyLetters && Letter(batch, type)) ++letters;
    return letters;
  }
  void GoThrough(std::size_t count, Type type = Type::kActivityLog, bool is_lettered = false) {
    lsn_ += count;
    QueuedRecord record;
    record.type = static_cast<std::uint8_t>(type);
    record.is_lettered = is_lettered;
    const std::vector<QueuedRecord*> records(count, &record);
    guard_.OnSettled(records);
  }
  // Another process, which finds this much settled.
  int LettersAfterRestart(wal::Lsn settled, std::uint64_t batch = 100) {
    PoisonGuard next;
    next.Load({&last_, 1}, settled);
    int letters = 0;
    const auto add = [](const std::string&) { return Status::Ok(); };
    while (letters < kManyLetters && next.Letter(last_.type, lsn_ + 1, batch, "", add).ok()) {
      ++letters;
    }
    return letters;
  }

  static constexpr int kManyLetters = 10'000;
  PoisonGuard guard_;
  wal::Lsn lsn_ = 0;
  DeadLetter last_;
};

TEST_F(PoisonGuardTest, AllowsTenOfASmallBatch) { EXPECT_EQ(LettersUntilTripped(100), 10); }

TEST_F(PoisonGuardTest, AllowsOnePercentOfALargeBatch) {
  EXPECT_EQ(LettersUntilTripped(5000), 50);
}

TEST_F(PoisonGuardTest, JudgesSmallBatchesTogether) {
  int letters = 0;
  for (int batch = 0; batch < 20; ++batch) letters += Letter(1) ? 1 : 0;
  EXPECT_EQ(letters, 10);
}

TEST_F(PoisonGuardTest, AllowsNoMoreForALargerBatchOnceItHasTripped) {
  EXPECT_EQ(LettersUntilTripped(100), 10);
  EXPECT_FALSE(Letter(100'000));
}

TEST_F(PoisonGuardTest, BeginsAnewWhenWhatWasRefusedThroughoutGoesThrough) {
  LettersUntilTripped();
  GoThrough(1);
  EXPECT_EQ(LettersUntilTripped(), 10);
}

TEST_F(PoisonGuardTest, AllowsOneMoreForFiveThatWentThroughWhereSomeAreRefused) {
  Letter();
  GoThrough(1);
  LettersUntilTripped();  // four and forty-five are owed
  GoThrough(3);
  EXPECT_EQ(LettersUntilTripped(), 0);
  GoThrough(1);
  EXPECT_EQ(LettersUntilTripped(), 1);
}

TEST_F(PoisonGuardTest, NeverTripsWhereOneInSixIsRefused) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(Letter(1)) << i;
    GoThrough(5);
  }
}

TEST_F(PoisonGuardTest, TripsWhereOneInFiveIsRefused) {
  int letters = 0;
  while (letters < 1000 && Letter(1)) {
    ++letters;
    GoThrough(4);
  }
  EXPECT_LT(letters, 100);
}

TEST_F(PoisonGuardTest, OtherOperationsSayNothing) {
  LettersUntilTripped(100, Type::kActivityLog);
  GoThrough(10'000, Type::kTaskUpdate);
  EXPECT_FALSE(Letter(100, Type::kActivityLog));
  EXPECT_EQ(LettersUntilTripped(100, Type::kTaskUpdate), 10);
}

TEST_F(PoisonGuardTest, WhatIsLetteredDoesNotGoThrough) {
  LettersUntilTripped();
  GoThrough(10'000, Type::kActivityLog, true);
  EXPECT_FALSE(Letter());
}

TEST_F(PoisonGuardTest, ARetryThatGoesThroughPaysForItsLetter) {
  GoThrough(1);
  ASSERT_TRUE(Letter());
  GoThrough(1);  // some do, so that one alone says nothing
  LettersUntilTripped();
  QueuedRecord retry;
  retry.type = static_cast<std::uint8_t>(Type::kRetry);
  retry.body = EncodeRetry(last_);
  QueuedRecord* const records[] = {&retry};
  retry.is_lettered = true;  // refused again
  guard_.OnSettled(records);
  EXPECT_FALSE(Letter());
  retry.is_lettered = false;
  guard_.OnSettled(records);
  EXPECT_EQ(LettersUntilTripped(), 1);
}

TEST_F(PoisonGuardTest, WhatCouldNotBeLetteredIsNotCounted) {
  for (int i = 0; i < 100; ++i) {
    const Status added = guard_.Letter(Type::kActivityLog, 1, 100, "why", [](const std::string&) {
      return Status::Unavailable("no space");
    });
    ASSERT_EQ(added.message(), "no space") << i;
  }
  EXPECT_EQ(LettersUntilTripped(), 10);
}

TEST_F(PoisonGuardTest, ARestartAllowsNoneOfWhatIsRefusedThroughout) {
  LettersUntilTripped();
  EXPECT_EQ(LettersAfterRestart(lsn_), 0);
  EXPECT_EQ(LettersAfterRestart(lsn_, 100'000), 0);
}

TEST_F(PoisonGuardTest, ARestartGoesOnCounting) {
  for (int i = 0; i < 4; ++i) Letter();
  EXPECT_EQ(LettersAfterRestart(lsn_), 6);
}

TEST_F(PoisonGuardTest, ARestartCountsWhatHasBeenBroughtSinceAsOftenAsItCameBefore) {
  for (int i = 0; i < 10; ++i) {
    lsn_ += 200;  // of other types
    Letter();
  }
  EXPECT_EQ(LettersAfterRestart(last_.lsns.from + 200), 0) << "one or so of its type";
  EXPECT_EQ(LettersAfterRestart(last_.lsns.from + 200'000), 10) << "a thousand or so";
}

// Workers meet them in any order.
TEST_F(PoisonGuardTest, ARestartCountsFromTheHighestLetterWhicheverCameLast) {
  for (wal::Lsn lsn = 1000; lsn > 100; lsn -= 100) LetterAt(lsn);
  LetterAt(50);
  lsn_ = 1000;
  EXPECT_EQ(LettersAfterRestart(60), 0);
  EXPECT_EQ(LettersAfterRestart(1000), 0);
}

TEST_F(PoisonGuardTest, ARestartReadsTheMarkOfAnOlderBuild) {
  LettersUntilTripped();
  last_.metadata[kGuardMark] = "50/10/1";
  EXPECT_EQ(LettersAfterRestart(lsn_), 0);
  last_.metadata[kGuardMark] = "30/6/1";
  EXPECT_EQ(LettersAfterRestart(lsn_), 4);
}

TEST_F(PoisonGuardTest, ARestartTakesNoLetterForAReasonThatSaysNothing) {
  LettersUntilTripped();
  last_.metadata[kGuardMark] = "x";
  EXPECT_EQ(LettersAfterRestart(lsn_), 10);
  last_.metadata.clear();
  EXPECT_EQ(LettersAfterRestart(lsn_), 10);
}

// What `workers` of them made of a type, in the order in which they were added.
std::vector<std::string> MarksOf(PoisonGuard* guard, int workers, int each) {
  Mutex mutex;
  std::vector<std::string> marks;
  const auto add = [&](const std::string& mark) {
    std::this_thread::yield();  // another would come between
    MutexLock lock(mutex);
    marks.push_back(mark);
    return Status::Ok();
  };
  std::barrier begin(workers);
  std::vector<std::jthread> threads;
  for (int w = 0; w < workers; ++w) {
    threads.emplace_back([&] {
      begin.arrive_and_wait();
      for (int i = 0; i < each; ++i) {
        const Status added = guard->Letter(Type::kTaskUpdate, 1, 100, "", add);
        EXPECT_TRUE(added.ok() || added.code() == StatusCode::kOverloaded) << added.ToString();
      }
    });
  }
  threads.clear();
  return marks;
}

TEST_F(PoisonGuardTest, CountsForAllWorkersTogether) {
  EXPECT_EQ(MarksOf(&guard_, 4, 100).size(), 10u);
}

TEST_F(PoisonGuardTest, TheLetterAddedLastKnowsOfAllBeforeIt) {
  for (int round = 0; round < 200; ++round) {
    PoisonGuard guard;
    const auto marks = MarksOf(&guard, 4, 3);
    ASSERT_EQ(marks.size(), 10u);
    ASSERT_EQ(marks.back(), "50/10/1/1") << "round " << round;
  }
}

}  // namespace
}  // namespace taskwal::pipeline

// The whole product is opened on what a killed or a stopped process left, and the N-th file system
// call fails, for every N: with that call alone failing, with every call from it on, each of them
// for want of room, too, and with the process dying in it. Then nothing acknowledged may be missing
// in the database.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "base/status_macros.h"
#include "pipeline/wal_task_storage.h"
#include "recovery/scanner.h"
#include "tests/support/simulated_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/switchable_backend.h"

namespace taskwal {
namespace {

using pipeline::WalStorageSetup;
using pipeline::WalTaskStorage;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kDirectory[] = "/wal";

enum class Trouble : std::uint8_t {
  kOneCall, kAllFromThere, kOneWithoutRoom, kNoRoomFromThere, kKill,
};

SimulatedFault FaultOf(Trouble trouble) {
  SimulatedFault fault;
  fault.sticky = trouble == Trouble::kAllFromThere || trouble == Trouble::kNoRoomFromThere;
  if (trouble == Trouble::kOneWithoutRoom || trouble == Trouble::kNoRoomFromThere) {
    fault.status = Status::Unavailable("injected fault: No space left on device (errno 28)");
  }
  return fault;
}

// A log in its third life: filled while the database is away, opened in trouble, opened for good.
class Product {
 public:
  explicit Product(std::uint64_t seed) : fs_(seed) {}

  void Fill(bool is_killed) {
    database_.GoAway();
    auto opened = Open();
    ASSERT_OK(opened);
    Save(**opened, 8, milliseconds(200));
    if (is_killed) {
      fs_.Kill();
    } else {
      EXPECT_THAT((*opened)->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
                  StatusIs(StatusCode::kUnavailable));
    }
  }
  // Calls of the file system meanwhile.
  std::uint64_t LiveInTrouble(Trouble trouble, std::uint64_t n) {
    database_.ComeBack();
    const std::uint64_t before = fs_.calls();
    if (trouble == Trouble::kKill) {
      fs_.CrashAfter(n);
    } else {
      fs_.FailNth(n, FaultOf(trouble));
    }
    if (auto opened = Open(); opened.ok()) {
      Save(**opened, 3, milliseconds(20));
      IgnoreStatus((*opened)->Shutdown(ShutdownMode::kImmediate, milliseconds(0)),
                   "what is not in the database stays in the log");
    }
    const std::uint64_t calls = fs_.calls() - before;
    fs_.ClearFaults();
    fs_.Kill();
    return calls;
  }
  void Check() {
    auto opened = Open();
    ASSERT_OK(opened);
    ASSERT_OK((*opened)->Flush(seconds(60)));
    ASSERT_OK((*opened)->Shutdown(ShutdownMode::kGraceful, seconds(60)));
    ASSERT_OK_AND_ASSIGN(const auto session, database_.data().Connect());
    for (const auto& [id, is_acknowledged] : saved_) {
      if (!is_acknowledged) continue;
      EXPECT_OK(session->GetTask(id)) << id;
    }
    ASSERT_OK_AND_ASSIGN(const auto report, recovery::Scan(fs_, kDirectory));
    EXPECT_FALSE(report.damaged());
  }

 private:
  Result<std::unique_ptr<WalTaskStorage>> Open() {
    WalStorageSetup setup;
    setup.options.wal_dir = kDirectory;
    setup.options.ring_bytes = 64u << 10;
    setup.options.segment_bytes = 64u << 10;
    setup.options.max_segment_size = 4;
    setup.options.initial_backoff = milliseconds(1);
    setup.options.max_backoff = milliseconds(5);
    setup.options.breaker_open_time = milliseconds(5);
    setup.options.shutdown_timeout = milliseconds(10);  // of one that was killed
    setup.backend = database_.Open();
    setup.fs = &fs_;
    return WalTaskStorage::Open(std::move(setup));
  }
  void Save(WalTaskStorage& storage, int count, milliseconds timeout) {
    for (int i = 0; i < count; ++i) {
      Task task;
      task.id = "t" + std::to_string(saved_.size());
      WriteOptions call;
      call.durability = i % 2 == 0 ? Durability::kDisk : Durability::kProcess;
      call.timeout = timeout;
      const bool is_saved = storage.SaveTask(task, call).ok();
      // A dead process acknowledges nothing.
      saved_[task.id] = is_saved && !fs_.crashed();
    }
  }

  SimulatedFileSystem fs_;
  SwitchableDatabase database_;
  std::map<std::string, bool> saved_;  // by task: whether that was acknowledged
};

class NthOpenCall : public ::testing::TestWithParam<Trouble> {};

std::string NameOf(const ::testing::TestParamInfo<Trouble>& trouble) {
  switch (trouble.param) {
    case Trouble::kOneCall: return "OneCall";
    case Trouble::kAllFromThere: return "AllFromThere";
    case Trouble::kOneWithoutRoom: return "OneWithoutRoom";
    case Trouble::kNoRoomFromThere: return "NoRoomFromThere";
    case Trouble::kKill: return "Kill";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(Troubles, NthOpenCall,
                         ::testing::Values(Trouble::kOneCall, Trouble::kAllFromThere,
                                           Trouble::kOneWithoutRoom, Trouble::kNoRoomFromThere,
                                           Trouble::kKill),
                         NameOf);

TEST_P(NthOpenCall, LosesNothingAcknowledged) {
  for (const bool is_killed : {true, false}) {
    Product untroubled(1);
    untroubled.Fill(is_killed);
    // Failures lead to further calls.
    const std::uint64_t calls = untroubled.LiveInTrouble(GetParam(), 1'000'000) + 10;
    ASSERT_GT(calls, 40u);
    for (std::uint64_t n = 1; n <= calls && !HasFailure(); ++n) {
      SCOPED_TRACE(::testing::Message() << "call " << n << " of a log that was "
                                        << (is_killed ? "killed" : "stopped"));
      Product product(n);
      product.Fill(is_killed);
      product.LiveInTrouble(GetParam(), n);
      product.Check();
    }
  }
}

}  // namespace
}  // namespace taskwal

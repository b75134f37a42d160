// taskwal metrics through the built tool: of a live process, of one that ended, of a daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class MetricsCommand : public ToolTest {
 protected:
  json Metrics() {
    const auto run = Tool({"metrics", "--wal", wal_, "--json"});
    EXPECT_EQ(run.exit.code, 0) << run.err;
    return run.exit.code == 0 ? json::parse(run.out) : json();
  }
  // Asks until the figure is there: the file is a second old at most.
  json AwaitApplied(std::uint64_t count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
      const auto run = Tool({"metrics", "--wal", wal_, "--json"});
      const json snapshot = run.exit.code == 0 ? json::parse(run.out) : json();
      if (!snapshot.is_null() &&
          snapshot["metrics"]["taskwal_records_applied_total"] == count) {
        return snapshot;
      }
      if (std::chrono::steady_clock::now() > until) {
        ADD_FAILURE() << run.out << run.err;
        return json();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
};

TEST_F(MetricsCommand, TellsOfALiveProcessWithoutAskingIt) {
  auto ingest = StartIngest();
  ASSERT_TRUE(ingest->Write(Activities(1, 50)));
  const json snapshot = AwaitApplied(50);
  EXPECT_EQ(snapshot["pid"], ingest->pid());
  EXPECT_EQ(snapshot["ended"], false);
  EXPECT_EQ(snapshot["running"], true);
  const json& metrics = snapshot["metrics"];
  EXPECT_EQ(metrics["taskwal_records_accepted_total"], 50);
  EXPECT_EQ(metrics["taskwal_records_pending"], 0);
  EXPECT_THAT(metrics["taskwal_commit_duration_seconds"]["count"].get<int>(), Gt(0));
  EXPECT_THAT(metrics["taskwal_flush_duration_seconds"][0]["p99"].get<double>(), Gt(0.0));
  const auto text = Tool({"metrics", "--wal", wal_});
  EXPECT_EQ(text.exit.code, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("of process " + std::to_string(ingest->pid())),
                              HasSubstr("taskwal_records_applied_total"), HasSubstr("p95")));
  ingest->CloseInput();
  EXPECT_EQ(ingest->Wait().code, 0);
}

TEST_F(MetricsCommand, LeavesTheLastFiguresBehindAtTheEnd) {
  ASSERT_EQ(Ingest(Activities(1, 7)).exit.code, 0);
  const json snapshot = Metrics();
  EXPECT_EQ(snapshot["ended"], true);
  EXPECT_EQ(snapshot["running"], false);
  EXPECT_EQ(snapshot["metrics"]["taskwal_records_applied_total"], 7);
  EXPECT_THAT(Tool({"metrics", "--wal", wal_}).out, HasSubstr("left them"));
}

TEST_F(MetricsCommand, TellsWhatFailedLastAndWithoutThePassword) {
  db_ = "postgresql://someone:hunter2@127.0.0.1:1/nowhere";
  ASSERT_EQ(Ingest(Activities(1, 7), {"--drain-timeout", "0"}).exit.code, 4);
  const json target = Metrics()["targets"].at(0);
  EXPECT_EQ(target["name"], "default");
  EXPECT_THAT(target["last_error"].get<std::string>(),
              AllOf(HasSubstr("refused"), Not(HasSubstr("hunter2"))));
  const auto failed_at = target["last_error_at"].get<std::string>();
  EXPECT_THAT(Tool({"metrics", "--wal", wal_}).out,
              HasSubstr("target default: last error, at " + failed_at + ": "));
}

TEST_F(MetricsCommand, SaysWhenTheFiguresAreOld) {
  ASSERT_EQ(Ingest(Activities(1, 1)).exit.code, 0);
  std::ofstream(wal_ + "/METRICS")
      << R"({"taken_at":"2020-01-01T00:00:00Z","pid":1,"ended":false,"metrics":{}})";
  EXPECT_EQ(Metrics()["running"], false);
  EXPECT_THAT(Tool({"metrics", "--wal", wal_}).out, HasSubstr("it was killed, or hangs"));
}

TEST_F(MetricsCommand, TheirFileConcernsNobodyElse) {
  ASSERT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  std::ofstream(wal_ + "/METRICS") << "nonsense";
  EXPECT_EQ(Tool({"metrics", "--wal", wal_}).exit.code, 1);
  for (const char* command : {"verify", "inspect", "dump"}) {
    const auto run = Tool({command, wal_});
    EXPECT_EQ(run.exit.code, 0) << command;
    EXPECT_THAT(run.out + run.err, Not(HasSubstr("METRICS")));
  }
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Metrics()["ended"], true);  // written anew
}

TEST_F(MetricsCommand, WithoutMetricsThereIsNoFile) {
  ASSERT_EQ(Ingest(Activities(1, 3), {"--set", "enable_metrics=false"}).exit.code, 0);
  const auto run = Tool({"metrics", "--wal", wal_});
  EXPECT_EQ(run.exit.code, 1);
  EXPECT_THAT(LinesOf(run.err), SizeIs(1));
}

TEST_F(MetricsCommand, WatchGoesOnUntilASignal) {
  ASSERT_EQ(Ingest(Activities(1, 3)).exit.code, 0);
  auto watch = Child::Start(
      {TASKWAL_TOOL, "metrics", "--wal", wal_, "--watch", "--interval", "10ms", "--json"});
  ASSERT_OK(watch);
  for (int i = 0; i < 3; ++i) {
    const auto line = (*watch)->ReadLine();
    ASSERT_TRUE(line.has_value());
    EXPECT_TRUE(json::parse(*line).contains("metrics"));
  }
  (*watch)->Kill(SIGTERM);
  EXPECT_EQ((*watch)->Wait().code, 0);
}

TEST_F(MetricsCommand, AsksADaemonAndShowsTheSame) {
  auto daemon = Child::Start({TASKWAL_TOOL, "serve", "--listen", "127.0.0.1:0", "--wal", wal_,
                              "--db", db_});
  ASSERT_OK(daemon);
  const auto line = (*daemon)->ReadLine();
  const std::string start = "taskwal serve: listening on ";
  ASSERT_TRUE(line && line->starts_with(start)) << (*daemon)->errors();
  const std::string url = line->substr(start.size());
  const auto run = Tool({"metrics", "--url", url, "--json"});
  ASSERT_EQ(run.exit.code, 0) << run.err;
  const json of_daemon = json::parse(run.out)["metrics"];
  const json of_file = AwaitApplied(0)["metrics"];
  // Every figure of the file is there, in the same shape; what never happened has no samples.
  for (const auto& [name, value] : of_file.items()) {
    if (value.is_array() && value.empty()) continue;
    ASSERT_TRUE(of_daemon.contains(name)) << name;
    EXPECT_EQ(of_daemon[name].is_array(), value.is_array()) << name;
    EXPECT_EQ(of_daemon[name].size(), value.size()) << name;
  }
  EXPECT_THAT(Tool({"metrics", "--url", url}).out,
              AllOf(HasSubstr(url), HasSubstr("taskwal_breaker_state"),
                    HasSubstr("target=default,state=closed")));
  (*daemon)->Kill(SIGTERM);
  EXPECT_EQ((*daemon)->Wait().code, 0);
  const auto gone = Tool({"metrics", "--url", url});
  EXPECT_EQ(gone.exit.code, 1);
  EXPECT_THAT(LinesOf(gone.err), SizeIs(1));
}

TEST_F(MetricsCommand, BadUsageIsSixtyFour) {
  EXPECT_EQ(Tool({"metrics"}).exit.code, 64);
  EXPECT_EQ(Tool({"metrics", "--wal", wal_, "--url", "http://127.0.0.1:1"}).exit.code, 64);
  EXPECT_EQ(Tool({"metrics", "--url", "nonsense"}).exit.code, 64);
  for (const std::string url : {"http://u:secret@127.0.0.1:1", "u:secret@127.0.0.1:1",
                                "http://127.0.0.1:1/?password=secret"}) {
    const auto run = Tool({"metrics", "--url", url});
    EXPECT_EQ(run.exit.code, 64) << url;
    EXPECT_EQ(run.err.find("secret"), std::string::npos) << run.err;
  }
  EXPECT_EQ(Tool({"metrics", "--wal", dir_.File("none")}).exit.code, 1);
}

}  // namespace
}  // namespace taskwal

// The daemon as its callers see it: the built tool on a port of its own.
#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>

#include <csignal>

#include "base/json_text.h"
#include "tests/contract/http_client.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

constexpr const char* kLogs = "/api/v1/logs";

std::string SaveTasks(int first, int last) {
  std::string body = "[";
  for (int i = first; i <= last; ++i) {
    if (body.size() > 1) body += ',';
    body += R"({"op":"save_task","task":{"id":"t)" + std::to_string(i) + R"(","dag_id":"d"}})";
  }
  return body + "]";
}

class HttpContractTest : public ToolTest {
 protected:
  // Runs until the test ends; null where it did not start.
  std::unique_ptr<Child> Start(std::vector<std::string> more = {},
                               std::vector<std::string> environment = {}) {
    more.insert(more.end(), {"--listen", "127.0.0.1:0", "--wal", wal_});
    if (std::find(more.begin(), more.end(), "--db") == more.end()) {
      more.insert(more.end(), {"--db", db_});
    }
    return StartWith(std::move(more), std::move(environment));
  }
  // The same with nothing but these arguments.
  std::unique_ptr<Child> StartWith(std::vector<std::string> arguments,
                                   std::vector<std::string> environment) {
    arguments.insert(arguments.begin(), {TASKWAL_TOOL, "serve"});
    auto child = Child::Start(arguments, {std::move(environment), dir_.path()});
    EXPECT_OK(child);
    if (!child.ok()) return nullptr;
    const auto line = (*child)->ReadLine();
    const std::string start = "taskwal serve: listening on ";
    if (!line || !line->starts_with(start)) {
      ADD_FAILURE() << line.value_or("it ended: ") << (*child)->errors();
      return nullptr;
    }
    client_ = HttpClient(line->substr(start.size()));
    return std::move(child).value();
  }
  std::string ConfigFile(const std::string& text) {
    const std::string path = dir_.File("taskwal.yaml");
    std::ofstream(path) << text;
    return path;
  }
  // Asks until the answer has the text.
  HttpAnswer Await(const std::string& path, const std::string& text) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (;;) {
      HttpAnswer answer = client_.Get(path);
      if (answer.body.find(text) != std::string::npos) return answer;
      if (std::chrono::steady_clock::now() > until) {
        ADD_FAILURE() << path << " has no " << text << ": " << answer.body;
        return answer;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  static int StopOf(Child& daemon) {
    daemon.Kill(SIGTERM);
    return daemon.Wait().code;
  }

  HttpClient client_{""};
};

TEST_F(HttpContractTest, PrintsTheAddressThatWasPicked) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Get("/healthz").status, 200);
  EXPECT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(daemon->pending_output(), "");
}

TEST_F(HttpContractTest, EveryReportIsOneLineOfJson) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  for (const char* path : {"/healthz", "/readyz", "/api/v1/health", "/api/v1/stats",
                           "/api/v1/targets", "/api/v1/tasks", "/api/v1/activity", "/buffer/stats",
                           "/buffer/backpressure", "/buffer/flow-control", "/api/v1/dead-letter"}) {
    const HttpAnswer answer = client_.Get(path);
    EXPECT_EQ(answer.status, 200) << path << answer.body;
    EXPECT_EQ(answer.headers.at("Content-Type"), "application/json") << path;
    EXPECT_TRUE(IsJson(answer.body)) << path;
    EXPECT_EQ(LinesOf(answer.body).size(), 1u) << path;
  }
}

TEST_F(HttpContractTest, ReportsHealthAndTargets) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer health = Await("/api/v1/health", R"("status":"healthy")");
  EXPECT_THAT(health.body, HasSubstr(R"("active_targets":1,"total_targets":1)"));
  EXPECT_THAT(health.body, HasSubstr(R"("uptime_seconds":)"));
  EXPECT_THAT(health.body, HasSubstr(R"("timestamp":"2)"));
  const std::string targets = client_.Get("/api/v1/targets").body;
  EXPECT_THAT(targets, HasSubstr(R"("name":"default")"));
  EXPECT_THAT(targets, HasSubstr(R"("last_error":"","last_error_at":null,"alarm":"")"));
}

TEST_F(HttpContractTest, TargetsTellWhatFailedLast) {
  db_ = "postgresql://someone:hunter2@127.0.0.1:1/nowhere";
  auto daemon = Start({"--set", "recovery_timeout=0", "--set", "shutdown_timeout=100ms"});
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 3)).status, 200);
  for (const char* path : {"/api/v1/targets", "/api/v1/stats", "/buffer/stats"}) {
    const HttpAnswer answer = Await(path, R"("last_error_at":"2)");
    EXPECT_THAT(answer.body, HasSubstr("refused")) << path;
    EXPECT_THAT(answer.body, Not(HasSubstr("hunter2"))) << path;
  }
  EXPECT_EQ(StopOf(*daemon), 4);
}

TEST_F(HttpContractTest, TakesATargetOutOfServiceAndBack) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const std::string path = "/api/v1/targets/default/health";
  EXPECT_EQ(client_.Post(path, R"({"in_service":false})").status, 200);
  EXPECT_THAT(client_.Get("/api/v1/targets").body, HasSubstr(R"("in_service":false)"));
  EXPECT_THAT(client_.Get("/api/v1/health").body, HasSubstr(R"("status":"degraded")"));
  EXPECT_EQ(client_.Post(path, R"({"in_service":true})").status, 200);
  EXPECT_THAT(client_.Get("/api/v1/targets").body, HasSubstr(R"("in_service":true)"));
  EXPECT_EQ(client_.Post("/api/v1/targets/none/health", R"({"in_service":true})").status, 404);
}

TEST_F(HttpContractTest, AnswersAsTheQueriesOfTheTool) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 3)).status, 200);
  ASSERT_EQ(client_
                .Post(kLogs, R"({"id":"p","messages":[{"level":"error","message":"boom",)"
                             R"("source":"api","metadata":{ "k": 1 }},{"message":"fine"}]})")
                .status,
            200);
  Await("/api/v1/stats", R"("pending":0)");
  for (const auto& [path, arguments] : std::map<std::string, std::vector<std::string>>{
           {"/api/v1/tasks", {"tasks"}},
           {"/api/v1/tasks?limit=2", {"tasks", "--limit", "2"}},
           {"/api/v1/tasks?newest=true&dag=d&status=pending,failed",
            {"tasks", "--newest", "--dag", "d", "--status", "pending,failed"}},
           {"/api/v1/tasks?dag=none", {"tasks", "--dag", "none"}},
           {"/api/v1/activity?level=error", {"activity", "--level", "error"}},
           {"/api/v1/activity?node=api&action=message&from=24h",
            {"activity", "--node", "api", "--action", "message", "--from", "24h"}}}) {
    std::vector<std::string> command{"query"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    command.insert(command.end(), {"--json", "--db", db_});
    EXPECT_EQ(client_.Get(path).body, Tool(command).out) << path;
  }
  EXPECT_THAT(client_.Get("/api/v1/activity?level=error").body, HasSubstr(R"("data":{ "k": 1 })"));
}

TEST_F(HttpContractTest, ATaskIsReadAsSoonAsItIsAcknowledged) {
  auto daemon = Start({"--set", "flush_interval=1h", "--set", "flush_linger=1h"});
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(
      client_.Post(kLogs, R"([{"op":"save_task","task":{"id":"d/n","payload":{"a":  1}}}])").status,
      200);
  const HttpAnswer answer = client_.Get("/api/v1/tasks/d%2Fn");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr(R"("payload":{"a":  1})"));
  EXPECT_EQ(client_.Get("/api/v1/tasks/d/n").body, answer.body);
  EXPECT_EQ(client_.Get("/api/v1/tasks/none").status, 404);
}

TEST_F(HttpContractTest, CountsWhatFailedItemByItem) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer mixed =
      client_.Post(kLogs, R"([{"op":"save_task","task":{"id":"a"}},{"op":"save_task","task":{}}])");
  EXPECT_EQ(mixed.status, 207);
  EXPECT_THAT(mixed.body, StartsWith(R"({"total":2,"successful":1,"failed":1,"ids":["a"],"lsn":)"));
  EXPECT_THAT(mixed.body, HasSubstr(R"("errors":[{"index":1,"error":")"));
  const HttpAnswer half = client_.Post(
      kLogs, R"([{"op":"save_task","task":{"id":"b","payload":"\ud800"}},)"
             R"({"op":"save_task","task":{"id":"c","payload":"\ud83d\ude00"}}])");
  EXPECT_EQ(half.status, 207);
  EXPECT_THAT(half.body, HasSubstr(R"("successful":1,"failed":1,"ids":["c"])"));
  EXPECT_THAT(half.body, HasSubstr("half a surrogate pair"));
  EXPECT_EQ(client_.Post(kLogs, R"([{"op":"dance"}])").status, 400);
  EXPECT_EQ(client_.Post(kLogs, "[").status, 400);
}

TEST_F(HttpContractTest, APacketSentAgainIsStoredOnce) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const std::string packet = R"({"id":"p","messages":[{"message":"a"},{"message":"b"}]})";
  ASSERT_EQ(client_.Post(kLogs, packet).status, 200);
  ASSERT_EQ(client_.Post(kLogs, packet).status, 200);
  ASSERT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(Stored().activities, 2u);
}

TEST_F(HttpContractTest, RefusesInOneLineWithTheRightStatus) {
  auto daemon = Start({"--config", ConfigFile("server:\n  max_body: 1KiB\n")});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Get("/nowhere").status, 404);
  const HttpAnswer method = client_.Get(kLogs);
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.headers.at("Allow"), "POST");
  EXPECT_EQ(client_.Delete("/api/v1/tasks/x").status, 405);
  EXPECT_EQ(client_.Get("/api/v1/tasks?limit=0").status, 400);
  EXPECT_EQ(client_.Get("/api/v1/tasks?after=nonsense").status, 400);
  const HttpAnswer large = client_.Post(kLogs, std::string(2048, ' '));
  EXPECT_EQ(large.status, 413);
  for (const HttpAnswer& answer : {method, large, client_.Get("/nowhere")}) {
    EXPECT_THAT(answer.body, StartsWith(R"({"error":")"));
    EXPECT_TRUE(IsJson(answer.body));
    EXPECT_EQ(LinesOf(answer.body).size(), 1u);
  }
  EXPECT_EQ(client_.Post(kLogs, "[]").status, 200);
}

TEST_F(HttpContractTest, AsksForTheToken) {
  auto daemon = Start({"--config", ConfigFile("server:\n  token: secret\n")});
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer refused = client_.Get("/api/v1/stats");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.at("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(client_.Get("/api/v1/stats", {{"Authorization", "Bearer secreT"}}).status, 401);
  EXPECT_EQ(client_.Get("/nowhere").status, 401);
  EXPECT_EQ(client_.Post(kLogs, SaveTasks(1, 1)).status, 401);
  EXPECT_EQ(client_.Get("/metrics").status, 401);
  for (const char* open : {"/", "/healthz", "/readyz"}) {
    EXPECT_EQ(client_.Get(open).status, 200) << open;
  }
  const HttpClient::Headers token{{"Authorization", "Bearer secret"}};
  EXPECT_EQ(client_.Get("/api/v1/stats", token).status, 200);
  EXPECT_EQ(client_.Post(kLogs, SaveTasks(1, 1), token).status, 200);
  EXPECT_EQ(client_.Get("/api/v1/tasks/t1", token).status, 200);
}

TEST_F(HttpContractTest, TheTokenMayStandInAFileOrTheEnvironment) {
  std::ofstream(dir_.File("token")) << "from-file\n";
  auto daemon =
      Start({"--config", ConfigFile("server:\n  token: \"@" + dir_.File("token") + "\"\n")});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Get("/api/v1/stats").status, 401);
  EXPECT_EQ(client_.Get("/api/v1/stats", {{"Authorization", "Bearer from-file"}}).status, 200);
  EXPECT_EQ(StopOf(*daemon), 0);
  auto other = Start({}, {"TASKWAL_TOKEN=from-environment"});
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(client_.Get("/api/v1/stats").status, 401);
  EXPECT_EQ(client_.Get("/api/v1/stats", {{"Authorization", "Bearer from-environment"}}).status,
            200);
}

TEST_F(HttpContractTest, ADeadLetterIsShownAndBroughtOnceMore) {
  {
    auto first = Start();  // makes the tables
    ASSERT_NE(first, nullptr);
    ASSERT_EQ(StopOf(*first), 0);
  }
  SQLite::Database database(dir_.File("t.db"), SQLite::OPEN_READWRITE);
  database.exec(
      "CREATE TRIGGER refuse BEFORE INSERT ON dag_tasks WHEN NEW.id = 't2' "
      "BEGIN SELECT RAISE(ABORT, 'no t2 here'); END");
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 3)).status, 200);
  const std::string list = Await("/api/v1/dead-letter", "no t2 here").body;
  EXPECT_THAT(list, StartsWith(R"({"dead_letters":[{"id":")"));
  EXPECT_THAT(list, HasSubstr(R"("task_id":"t2")"));
  const std::size_t start = list.find(R"("id":")") + 6;
  const std::string path =
      "/api/v1/dead-letter/" + list.substr(start, list.find('"', start) - start);
  EXPECT_THAT(client_.Get(path).body, HasSubstr(R"("operation":{"op":"save_task")"));
  EXPECT_THAT(client_.Post(path + "/retry", "").body, HasSubstr(R"("result":"rejected")"));
  database.exec("DROP TRIGGER refuse");
  EXPECT_THAT(client_.Post(path + "/retry", "").body, HasSubstr(R"("result":"applied")"));
  EXPECT_THAT(client_.Get("/api/v1/dead-letter").body, StartsWith(R"({"dead_letters":[],)"));
  EXPECT_EQ(client_.Get("/api/v1/dead-letter/none").status, 404);
  EXPECT_EQ(client_.Post("/api/v1/dead-letter/none/retry", "").status, 404);
  EXPECT_EQ(client_.Get("/api/v1/dead-letter?limit=0").status, 400);
  EXPECT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(Stored().tasks, 3u);
}

TEST_F(HttpContractTest, FeedsTheTargetsOfTheConfiguration) {
  const std::string file = ConfigFile("wal: {dir: " + wal_ + "}\n" +
                                      "server: {listen: '127.0.0.1:0'}\n"
                                      "targets:\n"
                                      "  - {name: a, dsn: '" +
                                      db_ + "', weight: 3}\n" + "  - {name: b, dsn: 'sqlite://" +
                                      dir_.File("b.db") + "'}\n");
  auto daemon = StartWith({"--config", file}, {});
  ASSERT_NE(daemon, nullptr);
  const std::string targets = Await("/api/v1/health", R"("active_targets":2)").body;
  EXPECT_THAT(targets, HasSubstr(R"("total_targets":2)"));
  ASSERT_EQ(client_.Post("/api/v1/targets/b/health", R"({"in_service":false})").status, 200);
  ASSERT_EQ(client_
                .Post(kLogs, R"({"id":"p","messages":[{"message":"1"},{"message":"2"},)"
                             R"({"message":"3"},{"message":"4"}]})")
                .status,
            200);
  EXPECT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(Stored().activities, 4u);  // all of them in `a`
}

TEST_F(HttpContractTest, WithoutATokenListensOnLoopbackOnly) {
  const std::vector<std::string> command{"serve", "--wal",    wal_,       "--db",
                                         db_,     "--listen", "0.0.0.0:0"};
  const auto refused = Tool(command);
  EXPECT_EQ(refused.exit.code, 64);
  EXPECT_THAT(refused.err, HasSubstr("needs a token"));
  EXPECT_EQ(LinesOf(refused.err).size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(wal_));
}

TEST_F(HttpContractTest, PagesOfOtherSitesMayNotCall) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Post(kLogs, SaveTasks(1, 1), {{"Origin", "http://evil.org"}}).status, 403);
  EXPECT_EQ(client_.Get("/api/v1/tasks", {{"Host", "evil.org"}}).status, 403);
}

TEST_F(HttpContractTest, TellsWhenTheRateIsReached) {
  auto daemon =
      Start({"--set", "rate_limit=1", "--set", "rate_burst=1", "--set", "block_timeout=0"});
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer answer = client_.Post(kLogs, SaveTasks(1, 50));
  EXPECT_EQ(answer.status, 207);
  const HttpAnswer full = client_.Post(kLogs, SaveTasks(1, 1));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.headers.at("Retry-After"), "1");
}

TEST_F(HttpContractTest, TurnsKnobsWhileItRuns) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer rate = client_.Post("/buffer/flow-control/rate", R"({"rate":5000,"burst":70})");
  EXPECT_EQ(rate.status, 200) << rate.body;
  EXPECT_THAT(client_.Get("/buffer/flow-control").body,
              HasSubstr(R"("rate_limit":5000,"rate_burst":70)"));
  const HttpAnswer size = client_.Post("/buffer/batch-size", R"({"size":123})");
  EXPECT_EQ(size.status, 200) << size.body;
  EXPECT_THAT(client_.Get("/buffer/stats").body, HasSubstr(R"("pinned":123)"));
  EXPECT_EQ(client_.Post("/buffer/batch-size", R"({"size":null})").status, 200);
  EXPECT_THAT(client_.Get("/buffer/stats").body, HasSubstr(R"("pinned":null)"));
  EXPECT_EQ(client_.Post("/buffer/circuit-breaker/reset", "").status, 200);
  EXPECT_EQ(client_.Post("/buffer/circuit-breaker/reset", R"({"target":"none"})").status, 404);
  ASSERT_EQ(client_.Post("/buffer/batch-size", R"({"size":456})").status, 200);
  for (const char* path : {"/buffer/flow-control/rate", "/buffer/batch-size"}) {
    EXPECT_EQ(client_.Post(path, "").status, 400) << path;
    EXPECT_EQ(client_.Post(path, "{}").status, 400) << path;
    EXPECT_EQ(client_.Post(path, R"({"size":"x","rate":"x"})").status, 400) << path;
    EXPECT_EQ(client_.Post(path, "nonsense").status, 400) << path;
  }
  EXPECT_THAT(client_.Get("/buffer/stats").body, HasSubstr(R"("pinned":456)"));  // as it was
}

TEST_F(HttpContractTest, ExposesMetrics) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 5)).status, 200);
  const HttpAnswer metrics = client_.Get("/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_THAT(metrics.headers.at("Content-Type"), StartsWith("text/plain; version=0.0.4"));
  EXPECT_THAT(metrics.body, HasSubstr("# TYPE taskwal_"));
  for (const std::string& line : LinesOf(metrics.body)) {
    EXPECT_THAT(line, MatchesRegex("# .*|taskwal_[a-z0-9_]+(\\{.*\\})? [^ ]+")) << line;
  }
}

TEST_F(HttpContractTest, ServesADashboardOfItsOwn) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const HttpAnswer page = client_.Get("/");
  EXPECT_EQ(page.headers.at("Content-Type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.headers.at("Content-Security-Policy"), HasSubstr("default-src 'none'"));
  EXPECT_THAT(page.body, HasSubstr("/api/v1/stats"));
}

TEST_F(HttpContractTest, AKillLosesNothingAcknowledged) {
  auto daemon = Start({"--set", "durability=process"});
  ASSERT_NE(daemon, nullptr);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(client_.Post(kLogs, SaveTasks(i * 100 + 1, i * 100 + 100)).status, 200);
  }
  daemon->Kill();
  ASSERT_EQ(daemon->Wait().signal, 9);
  auto again = Start();
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(client_.Get("/api/v1/tasks/t1000").status, 200);
  EXPECT_EQ(StopOf(*again), 0);
  EXPECT_EQ(Stored().tasks, 1000u);
}

TEST_F(HttpContractTest, ATermSignalDrains) {
  auto daemon = Start({"--set", "flush_interval=1h", "--set", "flush_linger=1h"});
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 100)).status, 200);
  EXPECT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(Stored().tasks, 100u);
}

TEST_F(HttpContractTest, ADatabaseThatIsAwayCostsNothing) {
  auto daemon = Start(
      {"--db", kNoDatabase, "--set", "recovery_timeout=0", "--set", "shutdown_timeout=100ms"});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Post(kLogs, SaveTasks(1, 10)).status, 200);
  EXPECT_THAT(client_.Get("/api/v1/health").body, HasSubstr(R"("status":"degraded")"));
  EXPECT_EQ(client_.Get("/api/v1/tasks").status, 503);
  EXPECT_EQ(StopOf(*daemon), 4);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().tasks, 10u);
}

TEST_F(HttpContractTest, ASecondSignalEndsTheDrainAndTheLogIsSealed) {
  auto daemon = Start(
      {"--db", kNoDatabase, "--set", "recovery_timeout=0", "--set", "shutdown_timeout=1h"});
  ASSERT_NE(daemon, nullptr);
  ASSERT_EQ(client_.Post(kLogs, SaveTasks(1, 10)).status, 200);
  SendSignal(*daemon, SIGTERM);
  SendSignal(*daemon, SIGINT);
  const ChildExit end = daemon->Wait();
  EXPECT_EQ(end.code, 4) << daemon->errors();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().tasks, 10u);
}

TEST_F(HttpContractTest, TheConfigurationMeansWhatItSays) {
  const std::string file = ConfigFile("database: " + db_ + "\nwal:\n  dir: " + wal_ +
                                      "\n  durability: process\nserver:\n  listen: 127.0.0.1:0\n");
  auto daemon = StartWith({"--config", file}, {});
  ASSERT_NE(daemon, nullptr);
  EXPECT_EQ(client_.Post(kLogs, SaveTasks(1, 10)).status, 200);
  EXPECT_EQ(StopOf(*daemon), 0);
  EXPECT_EQ(Stored().tasks, 10u);
}

TEST_F(HttpContractTest, AWrongConfigurationIsBadUsage) {
  const auto unknown =
      Tool({"serve", "--config", ConfigFile("wal:\n  dri: x\n"), "--db", "memory:"});
  EXPECT_EQ(unknown.exit.code, 64);
  EXPECT_THAT(unknown.err, HasSubstr("taskwal.yaml:2: unknown key \"wal.dri\"; did you mean "
                                     "\"wal.dir\"?"));
  EXPECT_EQ(LinesOf(unknown.err).size(), 1u);
  EXPECT_EQ(Tool({"serve", "--config", dir_.File("none.yaml")}).exit.code, 64);
  EXPECT_EQ(Tool({"serve", "--wal", wal_}).exit.code, 64);  // no database
  EXPECT_EQ(Tool({"serve", "--db", db_, "--set", "nonsense=1"}).exit.code, 64);
  EXPECT_EQ(Tool({"serve", "--db", db_, "--listen", "8080"}).exit.code, 64);
}

TEST_F(HttpContractTest, APortInUseIsAFailure) {
  auto daemon = Start();
  ASSERT_NE(daemon, nullptr);
  const std::string url = client_.url();
  const auto second = Tool({"serve", "--wal", wal_ + "2", "--db", "memory:", "--listen",
                            url.substr(url.find("//") + 2)});
  EXPECT_EQ(second.exit.code, 1);
  EXPECT_THAT(second.err, HasSubstr("cannot listen on"));
  EXPECT_FALSE(std::filesystem::exists(wal_ + "2"));
}

}  // namespace
}  // namespace taskwal

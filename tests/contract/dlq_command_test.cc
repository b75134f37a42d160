// taskwal dlq through the built tool: poison rows in a real SQLite file, listed, exported, retried,
// purged.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "base/posix_file.h"
#include "base/random.h"
#include "tests/contract/tool_fixture.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DlqCommand : public ToolTest {
 protected:
  // From here on the database refuses every row whose id begins with "bad".
  void Refuse() {
    const auto migrated = Tool({"schema", "migrate", "--db", db_});
    ASSERT_EQ(migrated.exit.code, 0) << migrated.err;
    Execute("CREATE TRIGGER no_task BEFORE INSERT ON dag_tasks WHEN NEW.id LIKE 'bad%' "
            "BEGIN SELECT RAISE(ABORT, 'no such luck'); END");
    Execute("CREATE TRIGGER no_log BEFORE INSERT ON dag_task_activity_logs "
            "WHEN NEW.id LIKE 'bad%' BEGIN SELECT RAISE(ABORT, 'no such luck'); END");
  }
  void Accept() {
    Execute("DROP TRIGGER no_task");
    Execute("DROP TRIGGER no_log");
  }
  void Execute(const std::string& sql) {
    SQLite::Database file(dir_.File("t.db"), SQLite::OPEN_READWRITE, 5000);
    file.exec(sql);
  }
  // A refused save with an update behind it, a refused activity, and a task that is fine.
  void MakeLetters() {
    Refuse();
    const auto run = Ingest(
        R"({"op":"save_task","task":{"id":"bad-1","payload":{"b": 1,  "a":[]}}})"
        "\n"
        R"({"op":"update_status","task_id":"bad-1","status":"completed"})"
        "\n"
        R"({"op":"log_activity","activity":{"id":"bad-log","task_id":"fine"}})"
        "\n"
        R"({"op":"save_task","task":{"id":"fine"}})"
        "\n",
        {"--set", "initial_backoff=0"});  // so that they are lettered in their order
    ASSERT_EQ(run.exit.code, 0) << run.err;
    EXPECT_THAT(run.err, AllOf(HasSubstr("records were refused by the database"),
                               HasSubstr("taskwal dlq list --wal " + wal_)));
  }
  // A single one, of an activity that the database would take now.
  void MakeLetter() {
    Refuse();
    ASSERT_EQ(Ingest(R"({"op":"log_activity","activity":{"id":"bad-log","task_id":"t"}})"
                     "\n").exit.code, 0);
    ASSERT_THAT(Listed(), SizeIs(1));
    Accept();
  }
  // From here on an activity takes the database as long as counting so far.
  void Slow(const std::string& steps) {
    Execute("CREATE TRIGGER slow BEFORE INSERT ON dag_task_activity_logs BEGIN SELECT count(*) "
            "FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n "
            "LIMIT " + steps + "); END");
  }
  // Returns once the letters are records of the log again, and on their way.
  std::unique_ptr<Child> StartRetry(std::vector<std::string> more) {
    more.insert(more.begin(), {TASKWAL_TOOL, "dlq", "retry", "--wal", wal_, "--db", db_, "--all"});
    auto retry = Child::Start(more);
    EXPECT_OK(retry);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!Listed().empty() && std::chrono::steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return retry.ok() ? std::move(retry).value() : nullptr;
  }
  RunOutcome Dlq(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "dlq");
    arguments.insert(arguments.begin() + 2, {"--wal", wal_});
    return Tool(arguments);
  }
  RunOutcome Retry(std::vector<std::string> more) {
    more.insert(more.begin(), {"retry", "--db", db_});
    return Dlq(more);
  }
  std::vector<json> Listed() {
    std::vector<json> letters;
    for (const std::string& line : LinesOf(Dlq({"list", "--json"}).out)) {
      letters.push_back(json::parse(line));
    }
    return letters;
  }
};

TEST_F(DlqCommand, ListAndShowTellWhichRecordAndWhy) {
  MakeLetters();
  const auto text = Dlq({"list"});
  EXPECT_EQ(text.exit.code, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("task_update"), HasSubstr("no such luck (SQLite 1811)"),
                              HasSubstr("3 rejected, 0 lost")));
  const auto letters = Listed();
  ASSERT_THAT(letters, SizeIs(3));
  EXPECT_EQ(letters[0]["lsn"], 1);
  EXPECT_EQ(letters[0]["sql_code"], "SQLite 1811");
  EXPECT_EQ(letters[0]["attempts"], 4);
  EXPECT_EQ(letters[1]["attempts"], 0);
  EXPECT_TRUE(letters[0]["metadata"].contains("epoch"));
  const auto shown = Dlq({"show", letters[0]["id"].get<std::string>(), "--json"});
  EXPECT_EQ(shown.exit.code, 0);
  EXPECT_THAT(shown.out, HasSubstr(R"("payload":{"b": 1,  "a":[]})"));  // byte for byte
  const auto absent = Dlq({"show", "nobody"});
  EXPECT_EQ(absent.exit.code, 1);
  EXPECT_THAT(LinesOf(absent.err), SizeIs(1));
}

TEST_F(DlqCommand, ExportIsAnArrayOfPacketsWithTheirFinalError) {
  MakeLetters();
  const auto out = Dlq({"export"});
  EXPECT_EQ(out.exit.code, 0);
  const json letters = json::parse(out.out);
  ASSERT_THAT(letters, SizeIs(3));
  const json& packet = letters[0]["packet"];
  EXPECT_EQ(packet["id"], letters[0]["id"]);
  EXPECT_EQ(packet["retry_count"], 3);  // the fourth failure is final
  ASSERT_THAT(packet["messages"], SizeIs(1));
  EXPECT_EQ(packet["messages"][0]["op"], "save_task");
  EXPECT_THAT(letters[0]["final_error"].get<std::string>(), HasSubstr("no such luck"));
  EXPECT_TRUE(letters[0].contains("failed_at"));
  const std::string file = dir_.File("failed_packets.json");
  const auto to_file = Dlq({"export", "--task", "bad-1", "-o", file});
  EXPECT_EQ(to_file.exit.code, 0) << to_file.err;
  EXPECT_THAT(to_file.out, HasSubstr("2 dead letters"));
  EXPECT_THAT(json::parse(ContentOf(file)), SizeIs(2));
  const auto told = Dlq({"export", "--task", "bad-1", "-o", file, "--json"});
  EXPECT_EQ(json::parse(told.out), json({{"exported", 2}}));
  EXPECT_EQ(Dlq({"export", "-o", "/nonexistent/x.json"}).exit.code, 1);
}

TEST_F(DlqCommand, ExportFollowsLinksAndReplacesNoPipeAndNothingBeside) {
  MakeLetters();
  const std::string file = dir_.File("file.json"), link = dir_.File("link.json");
  std::ofstream(file) << "old";
  std::ofstream(link + ".tmp") << "somebody's";
  fs::create_symlink(file, link);
  EXPECT_EQ(Dlq({"export", "-o", link}).exit.code, 0);
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_THAT(json::parse(ContentOf(file)), SizeIs(3));
  EXPECT_EQ(ContentOf(link + ".tmp"), "somebody's");

  const std::string pipe = dir_.File("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  auto read = std::async(std::launch::async, [&] { return ContentOf(pipe); });
  EXPECT_EQ(Dlq({"export", "-o", pipe}).exit.code, 0);
  EXPECT_TRUE(fs::is_fifo(pipe));
  // Should nobody have written to it, the reader is let go.
  const UniqueFd writer(::open(pipe.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  EXPECT_THAT(json::parse(read.get()), SizeIs(3));
}

TEST_F(DlqCommand, ExportedMessagesAreWhatIngestTakes) {
  MakeLetters();
  std::string lines;
  for (const json& letter : json::parse(Dlq({"export"}).out)) {
    lines += letter["packet"]["messages"][0].dump() + "\n";
  }
  const auto run = Tool({"ingest", "--wal", dir_.File("other"), "--db",
                         "sqlite://" + dir_.File("other.db")}, lines);
  EXPECT_EQ(run.exit.code, 0) << run.out;
}

// Of letters that mean several tasks, too: back into the log they came from, each once.
TEST_F(DlqCommand, ExportedMessagesOfManyTasksAreTakenAgainOnce) {
  Refuse();
  Execute("CREATE TRIGGER no_end BEFORE DELETE ON dag_tasks WHEN OLD.dag_id = 'bad-dag' "
          "BEGIN SELECT RAISE(ABORT, 'no such luck'); END");
  const auto run = Ingest(
      R"({"op":"save_task","task":{"id":"t1","dag_id":"bad-dag"}})"
      "\n"
      R"({"op":"delete_dag","dag_id":"bad-dag"})"
      "\n"
      R"({"op":"save_tasks","tasks":[{"id":"t2"},{"id":"bad-3","payload":{"a" : 1}}]})"
      "\n");
  ASSERT_EQ(run.exit.code, 0) << run.out << run.err;
  EXPECT_OK(StoredTask("t1"));
  EXPECT_FALSE(StoredTask("t2").ok());  // all or nothing
  ASSERT_THAT(Listed(), SizeIs(2));
  std::string lines;
  for (const json& letter : json::parse(Dlq({"export"}).out)) {
    ASSERT_THAT(letter["packet"]["messages"], SizeIs(1));
    lines += letter["packet"]["messages"][0].dump() + "\n";
  }
  Accept();
  Execute("DROP TRIGGER no_end");
  const auto again = Ingest(lines);
  EXPECT_EQ(again.exit.code, 0) << again.out << again.err;
  EXPECT_FALSE(StoredTask("t1").ok());
  EXPECT_OK(StoredTask("t2"));
  EXPECT_OK(StoredTask("bad-3"));
  EXPECT_EQ(Stored().tasks, 2u);
  // The letters themselves come too late now, whoever retries them.
  const auto late = Retry({"--all", "--json"});
  EXPECT_EQ(late.exit.code, 0) << late.err;
  EXPECT_EQ(Stored().tasks, 2u);
  EXPECT_THAT(Listed(), IsEmpty());
}

TEST_F(DlqCommand, ExportOfAnUnknownLetterIsOneAndWritesNothing) {
  MakeLetters();
  const std::string file = dir_.File("failed_packets.json");
  for (const std::vector<std::string>& which :
       {std::vector<std::string>{"nobody"}, {"--lsn", "999"}, {"--task", "nobody"},
        {"nobody", "-o", file}}) {
    std::vector<std::string> arguments{"export"};
    arguments.insert(arguments.end(), which.begin(), which.end());
    const auto run = Dlq(arguments);
    EXPECT_EQ(run.exit.code, 1);
    EXPECT_THAT(LinesOf(run.err), SizeIs(1));
    EXPECT_THAT(run.out, IsEmpty());
  }
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_FALSE(std::filesystem::exists(file + ".tmp"));
  // Everything may be nothing.
  const auto young = Dlq({"export", "--older-than", "24h"});
  EXPECT_EQ(young.exit.code, 0);
  EXPECT_EQ(json::parse(young.out), json::array());
}

TEST_F(DlqCommand, RetryBringsWhatTheDatabaseTakesNow) {
  MakeLetters();
  Accept();
  const auto run = Retry({"--all", "--json"});
  EXPECT_EQ(run.exit.code, 0) << run.err;
  const json report = json::parse(run.out);
  EXPECT_EQ(report["applied"], 3);
  EXPECT_THAT(report["letters"], SizeIs(3));
  ASSERT_OK_AND_ASSIGN(const Task task, StoredTask("bad-1"));
  EXPECT_EQ(task.status, TaskStatus::kCompleted);
  EXPECT_EQ(task.payload, R"({"b": 1,  "a":[]})");
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_THAT(Listed(), IsEmpty());
  const auto again = Retry({"--all"});
  EXPECT_EQ(again.exit.code, 0);
  EXPECT_THAT(again.out, HasSubstr("no dead letters"));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  const auto dump = Tool({"dump", wal_, "--type", "retry"});
  EXPECT_EQ(dump.exit.code, 0) << dump.err;
  EXPECT_THAT(dump.out, HasSubstr(R"("retry_of":1,"op":"save_task")"));
}

TEST_F(DlqCommand, RetryOfWhatIsStillRefusedIsThreeAndTheLetterIsBack) {
  MakeLetters();
  const auto before = Listed();
  const auto run = Retry({"--lsn", "3"});
  EXPECT_EQ(run.exit.code, 3) << run.err;
  EXPECT_THAT(run.out, HasSubstr("1 rejected"));
  const auto after = Listed();
  ASSERT_THAT(after, SizeIs(3));
  EXPECT_EQ(after[2]["id"], before[2]["id"]);
  EXPECT_EQ(after[2]["retries"], 1);
  EXPECT_EQ(after[2]["attempts"], 8);
}

TEST_F(DlqCommand, RetryAnswersSupersededWhereTheRowIsNewer) {
  MakeLetters();
  Accept();
  ASSERT_EQ(Ingest(R"({"op":"save_task","task":{"id":"bad-1","dag_id":"new"}})").exit.code, 0);
  const auto run = Retry({"--task", "bad-1", "--json"});
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_EQ(json::parse(run.out)["superseded"], 2);
  EXPECT_EQ(StoredTask("bad-1")->dag_id, "new");
  EXPECT_THAT(Listed(), SizeIs(1));
}

TEST_F(DlqCommand, RetryIntoADatabaseThatIsAwayIsFourAndComesLater) {
  MakeLetters();
  Accept();
  const auto run = Dlq({"retry", "--db", kNoDatabase, "--all", "--drain-timeout", "100ms"});
  EXPECT_EQ(run.exit.code, 4) << run.err;
  EXPECT_THAT(run.out, HasSubstr("3 pending"));
  EXPECT_FALSE(StoredTask("bad-1").ok());
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_OK(StoredTask("bad-1"));
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_THAT(Listed(), IsEmpty());
}

TEST_F(DlqCommand, PurgeLetsThemGoAfterAYes) {
  MakeLetters();
  const auto unsure = Dlq({"purge", "--all"});
  EXPECT_EQ(unsure.exit.code, 64);
  EXPECT_THAT(unsure.err, HasSubstr("--yes"));
  EXPECT_THAT(Listed(), SizeIs(3));
  EXPECT_EQ(Dlq({"purge", "--older-than", "1h", "--yes"}).exit.code, 0);
  EXPECT_THAT(Listed(), SizeIs(3));
  const auto one = Dlq({"purge", "--lsn", "3", "--yes", "--json"});
  EXPECT_EQ(one.exit.code, 0) << one.err;
  EXPECT_EQ(json::parse(one.out)["purged"], 1);
  EXPECT_EQ(Dlq({"purge", "--lsn", "3", "--yes"}).exit.code, 1);  // no such letter any more
  EXPECT_EQ(Dlq({"purge", "--all", "--yes"}).exit.code, 0);
  EXPECT_THAT(Listed(), IsEmpty());
  // What was purged stays settled: it does not come back by itself.
  Accept();
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_FALSE(StoredTask("bad-1").ok());
}

TEST_F(DlqCommand, BesideALiveProcessItReadsButChangesNothing) {
  MakeLetters();
  auto ingest = StartIngest();
  ASSERT_TRUE(ingest->WriteLine(R"({"op":"save_task","task":{"id":"more"}})"));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  EXPECT_THAT(Listed(), SizeIs(3));
  EXPECT_EQ(Dlq({"export"}).exit.code, 0);
  const std::string pid = std::to_string(ingest->pid());
  for (const auto& run : {Retry({"--all"}), Dlq({"purge", "--all", "--yes"})}) {
    EXPECT_EQ(run.exit.code, 1);
    EXPECT_THAT(run.err, HasSubstr(pid));
    EXPECT_THAT(LinesOf(run.err), SizeIs(1));
  }
  EXPECT_THAT(Listed(), SizeIs(3));
  ingest->CloseInput();
  EXPECT_EQ(ingest->Wait().code, 0);
}

// Told to stop while the database works on what was sent: that is waited for, and told.
TEST_F(DlqCommand, RetryToldToStopFinishesWhatItSent) {
  MakeLetter();
  Slow("20000000");
  const auto retry = StartRetry({"--json"});
  ASSERT_NE(retry, nullptr);
  SendSignal(*retry, SIGTERM);
  const ChildExit end = retry->Wait();
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(end.code, 0) << retry->errors();
  EXPECT_EQ(json::parse(retry->pending_output())["applied"], 1);
  EXPECT_EQ(Stored().activities, 1u);
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(DlqCommand, RetryToldTwiceEndsAtOnceAndTheLogIsSealed) {
  MakeLetter();
  Slow("1000000000000");
  const auto retry = StartRetry({"--drain-timeout", "1h"});
  ASSERT_NE(retry, nullptr);
  SendSignal(*retry, SIGTERM);
  SendSignal(*retry, SIGINT);
  const ChildExit end = retry->Wait();
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(end.code, 4) << retry->errors();
  EXPECT_THAT(retry->pending_output(), HasSubstr("1 pending"));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  Execute("DROP TRIGGER slow");
  EXPECT_EQ(Recover().exit.code, 0);
  EXPECT_EQ(Stored().activities, 1u);
}

TEST_F(DlqCommand, RetryToldToStopBeforeItSentAnythingLeavesTheLetters) {
  MakeLetters();
  Accept();
  auto started = Child::Start({TASKWAL_TOOL, "dlq", "retry", "--wal", wal_, "--db", kNoDatabase,
                               "--all", "--drain-timeout", "1h", "--set", "recovery_timeout=1h"});
  ASSERT_OK(started);
  AwaitHandler(**started, SIGTERM);
  SendSignal(**started, SIGTERM);
  const ChildExit end = (*started)->Wait();
  EXPECT_EQ(end.code, 4) << (*started)->errors();
  EXPECT_THAT(LinesOf((*started)->errors()), SizeIs(1));
  EXPECT_THAT((*started)->errors(), HasSubstr("stop"));
  EXPECT_THAT(Listed(), SizeIs(3));
  EXPECT_EQ(Retry({"--all"}).exit.code, 0);
  EXPECT_EQ(Stored().activities, 1u);
}

// The letters are records of the log again, and their batch is still under way when it is killed.
TEST_F(DlqCommand, RetryCatchesUpWithAnEarlierOneThatWasKilled) {
  MakeLetter();
  Slow("1000000000000");
  const auto killed = StartRetry({});
  ASSERT_NE(killed, nullptr);
  killed->Kill();
  killed->Wait();
  ASSERT_THAT(Listed(), IsEmpty());
  const auto early = Retry({"--all", "--drain-timeout", "1ms"});
  EXPECT_EQ(early.exit.code, 4) << early.err;
  EXPECT_THAT(LinesOf(early.err), SizeIs(1));
  EXPECT_EQ(Stored().activities, 0u);
  Execute("DROP TRIGGER slow");
  const auto late = Retry({"--all"});
  EXPECT_EQ(late.exit.code, 0) << late.err;
  EXPECT_EQ(Stored().activities, 1u);
}

// Killed at moments by chance and repeated: every letter comes once.
TEST_F(DlqCommand, RetryKilledAgainAndAgainBringsEachLetterOnce) {
  constexpr int kLetters = 9;  // of more it would say that the schema is broken
  Refuse();
  std::string lines;
  for (int i = 0; i < kLetters; ++i) {
    const std::string n = std::to_string(i);
    lines += R"({"op":"log_activity","activity":{"id":"bad-)" + n + R"(","task_id":"t)" + n +
             R"("}})" + "\n";
  }
  ASSERT_EQ(Ingest(lines).exit.code, 0);
  ASSERT_THAT(Listed(), SizeIs(kLetters));
  Accept();
  Random random = Random::FromSystem();
  for (int i = 0; i < 12; ++i) {
    auto child = Child::Start({TASKWAL_TOOL, "dlq", "retry", "--wal", wal_, "--db", db_, "--all"});
    ASSERT_OK(child);
    std::this_thread::sleep_for(std::chrono::microseconds(random.Next() % 60'000));
    (*child)->Kill();
    (*child)->Wait();
  }
  const auto last = Retry({"--all"});
  EXPECT_EQ(last.exit.code, 0) << last.err;
  EXPECT_THAT(Listed(), IsEmpty());
  EXPECT_EQ(Stored().activities, static_cast<std::uint64_t>(kLetters));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(DlqCommand, BadUsageIsSixtyFourAndNoLogIsOne) {
  MakeLetters();
  EXPECT_EQ(Dlq({"retry", "--db", db_}).exit.code, 64);  // which letters?
  EXPECT_EQ(Dlq({"purge", "--yes"}).exit.code, 64);
  EXPECT_EQ(Dlq({"purge", "--older-than", "yesterday", "--yes"}).exit.code, 64);
  EXPECT_EQ(Dlq({"export", "--older-than", "yesterday"}).exit.code, 64);
  EXPECT_EQ(Dlq({"list", "--nonsense"}).exit.code, 64);
  EXPECT_EQ(Tool({"dlq"}).exit.code, 64);
  EXPECT_EQ(Retry({"--task", "nobody"}).exit.code, 1);
  const std::string none = dir_.File("none");
  for (const auto& run : {Tool({"dlq", "list", "--wal", none}),
                          Tool({"dlq", "retry", "--wal", none, "--db", db_, "--all"}),
                          Tool({"dlq", "purge", "--wal", none, "--all", "--yes"})}) {
    EXPECT_EQ(run.exit.code, 1) << run.err;
    EXPECT_THAT(LinesOf(run.err), SizeIs(1));
  }
  EXPECT_FALSE(std::filesystem::exists(none));
  ASSERT_TRUE(std::filesystem::create_directory(dir_.File("empty")));
  const auto empty = Tool({"dlq", "list", "--wal", dir_.File("empty")});
  EXPECT_EQ(empty.exit.code, 1);
  EXPECT_THAT(empty.err, HasSubstr("holds no log"));
}

TEST_F(DlqCommand, DamagedLettersAreTwoAndTheRestIsRead) {
  MakeLetters();
  const std::string file = wal_ + "/dead-letters/letters-00000001";
  std::string content = ContentOf(file);
  content[100] ^= 1;
  std::ofstream(file, std::ios::binary) << content;
  const auto run = Dlq({"list"});
  EXPECT_EQ(run.exit.code, 2);
  EXPECT_THAT(run.err, HasSubstr("damaged"));
  EXPECT_THAT(run.out, HasSubstr("2 rejected"));
}

}  // namespace
}  // namespace taskwal

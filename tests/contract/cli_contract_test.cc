// The built tool against the sentences of the contract about ingest, recover, verify, dump, adopt
// and exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/checksum.h"
#include "storage/backend.h"
#include "tests/support/status_matchers.h"
#include "tests/support/subprocess.h"
#include "tests/support/temp_dir.h"

namespace taskwal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string ContentOf(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string Activities(int first, int last) {
  std::string text;
  for (int i = first; i <= last; ++i) {
    text += R"({"op":"log_activity","activity":{"id":"a)" + std::to_string(i) +
            R"(","task_id":"t","action":"go"}})"
            "\n";
  }
  return text;
}

// Every file below, with a hash of its content and its time of change.
using Snapshot = std::map<std::string, std::pair<std::uint64_t, fs::file_time_type>>;

Snapshot SnapshotOf(const fs::path& root) {
  Snapshot files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    std::string content;
    if (entry.is_regular_file()) content = ContentOf(entry.path());
    files[entry.path().string()] = {HashOf(content.data(), content.size()),
                                    entry.last_write_time()};
  }
  return files;
}

std::vector<std::string> ChangedSince(const Snapshot& before, const fs::path& root) {
  std::vector<std::string> changed;
  const Snapshot after = SnapshotOf(root);
  for (const auto& [path, state] : after) {
    const auto known = before.find(path);
    if (known == before.end() || known->second != state) changed.push_back(path);
  }
  for (const auto& [path, state] : before) {
    if (!after.contains(path)) changed.push_back(path);
  }
  return changed;
}

class CliContract : public ::testing::Test {
 protected:
  CliContract() : wal_(dir_.File("new/wal")), db_("sqlite://" + dir_.File("t.db")) {}

  RunOutcome Tool(std::vector<std::string> arguments, std::string_view input = {},
                  std::vector<std::string> environment = {}) {
    arguments.insert(arguments.begin(), TASKWAL_TOOL);
    return taskwal::Run(arguments, input, {std::move(environment), dir_.path()});
  }
  RunOutcome Ingest(std::string_view input, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"ingest", "--wal", wal_, "--db", db_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Tool(arguments, input);
  }
  RunOutcome Recover(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"recover", "--wal", wal_, "--db", db_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Tool(arguments);
  }
  std::unique_ptr<Child> StartIngest(std::vector<std::string> more = {}) {
    std::vector<std::string> command{TASKWAL_TOOL, "ingest", "--wal", wal_, "--db", db_};
    command.insert(command.end(), more.begin(), more.end());
    auto child = Child::Start(command);
    EXPECT_OK(child);
    return child.ok() ? std::move(child).value() : nullptr;
  }
  StoredCounts Stored() {
    auto backend = storage::MakeBackend(db_, {});
    EXPECT_OK(backend);
    auto session = (*backend)->Connect();
    EXPECT_OK(session);
    auto counts = (*session)->Count();
    EXPECT_OK(counts);
    return *counts;
  }
  Result<Task> StoredTask(std::string_view id) {
    auto backend = storage::MakeBackend(db_, {});
    if (!backend.ok()) return backend.status();
    auto session = (*backend)->Connect();
    if (!session.ok()) return session.status();
    auto row = (*session)->GetTask(id);
    if (!row.ok()) return row.status();
    return row->task;
  }
  // Records in segments of few, acknowledged and not in any database: 1 to `count`.
  void FillLog(int count) {
    const auto filled = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0",
                              "--set", "max_segment_size=10", "--set", "frame_bytes=512"},
                             Activities(1, count));
    ASSERT_EQ(filled.exit.code, 4) << filled.err;
  }
  std::vector<fs::path> Segments() {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(wal_)) {
      if (entry.path().filename().string().starts_with("wal-")) paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  // Turns a bit of a record in the middle of the log's second segment.
  void Damage() {
    const auto segments = Segments();
    ASSERT_GE(segments.size(), 3u);
    std::fstream file(segments[1], std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(4096 + 64 + 40);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(4096 + 64 + 40);
    file.put(byte);
  }

  static constexpr const char* kNoDatabase = "sqlite:///nonexistent/t.db";
  TempDir dir_;
  const std::string wal_;
  const std::string db_;
};

// --- ingest: answers -----------------------------------------------------------------------------

TEST_F(CliContract, IngestAnswersEachLineInOrderAndABadLineStopsNothing) {
  const auto run = Ingest(R"({"op":"save_task","task":{"id":"t","payload":{ "b":1,  "a":[]}}})"
                          "\n"
                          "\n"
                          "nonsense\n"
                          R"({"op":"explode"})"
                          "\n"
                          R"({"op":"save_task","task":{"id":"t","colour":"red"}})"
                          "\n"
                          R"({"op":"update_status","task_id":"t","status":"failed","error":"why"})"
                          "\n"
                          R"({"op":"log_activity","activity":{"task_id":"t","action":"go"}})"
                          "\n"
                          R"({"op":"delete_task","task_id":"absent"})");
  EXPECT_EQ(run.exit.code, 3) << run.err;
  const auto lines = LinesOf(run.out);
  ASSERT_EQ(lines.size(), 8u);
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const json answer = json::parse(lines[i]);
    EXPECT_EQ(answer["line"], i + 1);
    const bool is_bad = i >= 1 && i <= 4;
    EXPECT_EQ(answer.contains("error"), is_bad) << lines[i];
    EXPECT_EQ(answer.contains("lsn"), !is_bad) << lines[i];
    if (is_bad) continue;
    EXPECT_GT(answer["lsn"].get<std::uint64_t>(), last);
    last = answer["lsn"];
  }
  ASSERT_OK_AND_ASSIGN(const Task task, StoredTask("t"));
  EXPECT_EQ(task.payload, R"({ "b":1,  "a":[]})");  // byte for byte
  EXPECT_EQ(task.status, TaskStatus::kFailed);
  EXPECT_EQ(task.error, "why");
  EXPECT_EQ(Stored().activities, 1u);
}

TEST_F(CliContract, IngestOfNothingIsDone) {
  const auto run = Ingest("");
  EXPECT_EQ(run.exit.code, 0) << run.err;
  EXPECT_THAT(run.out, IsEmpty());
  EXPECT_THAT(run.err, IsEmpty());
}

TEST_F(CliContract, IngestAnswersWhileTheInputPauses) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(ingest->Write(Activities(i, i)));
    const auto answer = ingest->ReadLine();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(json::parse(*answer)["line"], i);
    EXPECT_GT(json::parse(*answer)["lsn"], 0);
  }
  ASSERT_TRUE(ingest->Write("half a line"));
  ingest->CloseInput();
  EXPECT_THAT(ingest->ReadLine().value_or(""), HasSubstr(R"({"line":4,"error":)"));
  EXPECT_EQ(ingest->Wait().code, 3);
}

TEST_F(CliContract, LsnsGrowOverRestarts) {
  std::uint64_t last = 0;
  for (int i = 1; i <= 3; ++i) {
    const auto run = Ingest(Activities(i, i));
    ASSERT_EQ(run.exit.code, 0) << run.err;
    const std::uint64_t lsn = json::parse(run.out)["lsn"];
    EXPECT_GT(lsn, last);
    last = lsn;
  }
}

TEST_F(CliContract, IngestTakesEveryDurabilityLevelAndNoOther) {
  for (const char* level : {"memory", "process", "disk"}) {
    EXPECT_EQ(Ingest(Activities(1, 3), {"--durability", level}).exit.code, 0) << level;
  }
  EXPECT_EQ(Ingest("", {"--durability", "paper"}).exit.code, 64);
  EXPECT_EQ(Stored().activities, 3u);  // an activity id names one activity
}

TEST_F(CliContract, IngestTakesALineOfTheLimitsAndRefusesALongerOne) {
  const std::string big(15u << 20, 'x');
  const std::string huge(41u << 20, 'y');
  const auto run = Ingest(R"({"op":"save_task","task":{"id":"t","payload":")" + big + "\"}}\n" +
                          huge + "\n" + Activities(1, 1));
  EXPECT_EQ(run.exit.code, 3) << run.err;
  const auto lines = LinesOf(run.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], HasSubstr("lsn"));
  EXPECT_THAT(lines[1], HasSubstr("40 MiB"));
  EXPECT_THAT(lines[2], HasSubstr("lsn"));
  ASSERT_OK_AND_ASSIGN(const Task task, StoredTask("t"));
  EXPECT_EQ(task.payload->size(), big.size() + 2);
}

TEST_F(CliContract, IngestReportsAsJsonOnStderr) {
  const auto run = Ingest(Activities(1, 4) + "bad\n", {"--json"});
  const json report = json::parse(run.err);
  EXPECT_EQ(report["lines"], 5);
  EXPECT_EQ(report["acknowledged"], 4);
  EXPECT_EQ(report["rejected"], 1);
  EXPECT_EQ(report["applied"], 4);
  EXPECT_EQ(report["drained"], true);
}

// --- ingest: the database, the end ---------------------------------------------------------------

TEST_F(CliContract, AnUnreachableDatabaseIsNoReasonToRefuseInput) {
  const auto run = Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "100ms"},
                        Activities(1, 5));
  EXPECT_EQ(run.exit.code, 4);
  EXPECT_EQ(LinesOf(run.out).size(), 5u);
  EXPECT_THAT(run.out, Not(HasSubstr("error")));
  EXPECT_THAT(run.err, HasSubstr("safe in"));
  // The next ingest brings them along.
  EXPECT_EQ(Ingest(Activities(6, 6)).exit.code, 0);
  EXPECT_EQ(Stored().activities, 6u);
}

TEST_F(CliContract, NotDrainedIsGraverThanRejected) {
  EXPECT_EQ(Tool({"ingest", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "0"},
                 Activities(1, 1) + "bad\n")
                .exit.code,
            4);
}

TEST_F(CliContract, AKilledIngestLosesNothingAndTheNextJustWorks) {
  for (const char* level : {"process", "disk"}) {
    auto ingest = StartIngest({"--durability", level});
    ASSERT_NE(ingest, nullptr);
    ASSERT_TRUE(ingest->Write(Activities(1, 2000)));
    int acknowledged = 0;
    for (; acknowledged < 1000 && ingest->ReadLine(); ++acknowledged) {
    }
    ASSERT_EQ(acknowledged, 1000);
    ingest->Kill();
    EXPECT_EQ(ingest->Wait().signal, 9);
    EXPECT_EQ(Ingest("").exit.code, 0);
    EXPECT_GE(Stored().activities, 1000u) << level;
  }
}

TEST_F(CliContract, AClosedOutputCostsNoAcknowledgedRecord) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Write(Activities(1, 10)));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  ingest->CloseOutput();
  ingest->Write(Activities(11, 20));
  ingest->CloseInput();
  const ChildExit end = ingest->Wait();
  EXPECT_EQ(end.code, 1) << ingest->errors();
  EXPECT_EQ(end.signal, 0);
  EXPECT_GE(Stored().activities, 10u);
}

TEST_F(CliContract, SignalsStopTheInputAndDrain) {
  for (const int signal : {SIGINT, SIGTERM}) {
    auto ingest = StartIngest();
    ASSERT_NE(ingest, nullptr);
    ASSERT_TRUE(ingest->Write(Activities(1, 1)));
    ASSERT_TRUE(ingest->ReadLine().has_value());
    ::kill(ingest->pid(), signal);  // its input stays open
    std::optional<std::string> more;
    while ((more = ingest->ReadLine())) {
    }
    EXPECT_EQ(ingest->Wait().code, 0) << ingest->errors();
  }
  EXPECT_EQ(Stored().activities, 1u);
}

TEST_F(CliContract, ALockedLogNamesItsHolder) {
  auto ingest = StartIngest();
  ASSERT_NE(ingest, nullptr);
  ASSERT_TRUE(ingest->Write(Activities(1, 1)));
  ASSERT_TRUE(ingest->ReadLine().has_value());
  const auto second = Ingest(Activities(2, 2));
  EXPECT_EQ(second.exit.code, 1);
  EXPECT_THAT(second.err, HasSubstr(std::to_string(ingest->pid())));
  EXPECT_THAT(second.out, IsEmpty());
  EXPECT_EQ(ingest->Wait().code, 0);
}

// --- usage ---------------------------------------------------------------------------------------

TEST_F(CliContract, BadUsageIs64WithOneLineInEveryCommand) {
  const std::vector<std::vector<std::string>> commands{
      {},
      {"nonsense"},
      {"ingest"},
      {"ingest", "--wal", wal_},
      {"ingest", "--wal", wal_, "--db", db_, "--bogus"},
      {"ingest", "--wal", wal_, "--db", "oracle://x"},
      {"ingest", "--wal", wal_, "--db", db_, "--drain-timeout", "soon"},
      {"ingest", "--wal", wal_, "--db", db_, "--set", "batch_sise=1"},
      {"ingest", "--wal", wal_, "--db", db_, "--set", "batch_size=0"},
      {"recover", "--db", db_},
      {"recover", "--wal", wal_, "--db", "oracle://x"},
      {"recover", "--wal", wal_, "--db", db_, "--dry-run", "--salvage"},
      {"adopt", "--wal", wal_, "--db", db_},
      {"adopt", "--wal", wal_, "--db", db_, "--moved", "--relabel"},
      {"verify"},
      {"dump"},
      {"inspect", wal_, "extra"},
  };
  for (const auto& command : commands) {
    const auto run = Tool(command);
    std::string shown;
    for (const auto& argument : command) shown += argument + " ";
    EXPECT_EQ(run.exit.code, 64) << shown << run.err;
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << shown << run.err;
    EXPECT_THAT(run.out, IsEmpty()) << shown;
  }
  EXPECT_FALSE(fs::exists(wal_));
}

TEST_F(CliContract, EveryCommandHasHelp) {
  const auto help = Tool({"--help"});
  EXPECT_EQ(help.exit.code, 0);
  for (const char* command : {"run", "ingest", "recover", "inspect", "verify", "dump", "dlq",
                              "adopt", "query", "schema", "bench"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("  ") + command));
    const auto own = Tool({command, "--help"});
    EXPECT_EQ(own.exit.code, 0) << command;
    EXPECT_THAT(own.out, HasSubstr("Usage:")) << command;
    EXPECT_THAT(own.err, IsEmpty()) << command;
  }
  EXPECT_THAT(help.out, Not(HasSubstr("serve")));  // nothing that is not built
  for (const char* command : {"ingest", "recover", "run"}) {
    EXPECT_THAT(Tool({command, "--help"}).out, HasSubstr("segment_bytes = 64MiB")) << command;
  }
  EXPECT_THAT(Tool({"--version"}).out, HasSubstr("taskwal "));
}

TEST_F(CliContract, TheDatabaseMayComeFromTheEnvironmentOrAFile) {
  EXPECT_EQ(Tool({"ingest", "--wal", wal_}, Activities(1, 1), {"TASKWAL_DB=" + db_}).exit.code, 0);
  std::ofstream(dir_.File("dsn")) << db_ << "\n";
  EXPECT_EQ(
      Tool({"ingest", "--wal", wal_, "--db", "@" + dir_.File("dsn")}, Activities(2, 2)).exit.code,
      0);
  EXPECT_EQ(Stored().activities, 2u);
}

TEST_F(CliContract, UnwritableAndMissingPlacesFailWithOneLine) {
  std::ofstream(dir_.File("file")) << "x";
  const auto ingest = Tool({"ingest", "--wal", dir_.File("file"), "--db", db_}, Activities(1, 1));
  EXPECT_EQ(ingest.exit.code, 1);
  EXPECT_EQ(LinesOf(ingest.err).size(), 1u) << ingest.err;
  for (const char* command : {"recover", "adopt"}) {
    std::vector<std::string> arguments{command, "--wal", wal_, "--db", db_};
    if (std::string(command) == "adopt") arguments.emplace_back("--moved");
    const auto run = Tool(arguments);
    EXPECT_EQ(run.exit.code, 1) << command;
    EXPECT_EQ(LinesOf(run.err).size(), 1u) << run.err;
  }
  for (const char* command : {"verify", "inspect", "dump"}) {
    EXPECT_EQ(Tool({command, wal_}).exit.code, 1) << command;
  }
  EXPECT_FALSE(fs::exists(wal_));
}

// --- recover, verify, dump -----------------------------------------------------------------------

TEST_F(CliContract, RecoverBringsWhatTheDatabaseLacksAndReportsIt) {
  FillLog(30);
  const auto first = Recover();
  EXPECT_EQ(first.exit.code, 0) << first.err;
  const json report = json::parse(first.out);
  EXPECT_EQ(report["scanned"], 30);
  EXPECT_EQ(report["replayed"], 30);
  EXPECT_EQ(report["already_there"], 0);
  EXPECT_EQ(report["dead_lettered"], 0);
  EXPECT_EQ(report["corrupt"], 0);
  EXPECT_EQ(report["lost"], json::array());
  EXPECT_EQ(report["unknown"], json::array());
  const json again = json::parse(Recover().out);
  EXPECT_EQ(again["replayed"], 0);
  EXPECT_EQ(again["already_there"], 30);
  EXPECT_EQ(Stored().activities, 30u);
}

TEST_F(CliContract, RecoverWithoutADatabaseIsNotDrained) {
  FillLog(5);
  const auto run =
      Tool({"recover", "--wal", wal_, "--db", kNoDatabase, "--drain-timeout", "100ms", "--json"});
  EXPECT_EQ(run.exit.code, 4) << run.err;
  EXPECT_EQ(json::parse(run.out)["replayed"], 0);
}

TEST_F(CliContract, DryRunChangesNothingAnywhere) {
  FillLog(30);
  Damage();
  const Snapshot before = SnapshotOf(dir_.path());
  const auto run = Recover({"--dry-run"});
  EXPECT_EQ(run.exit.code, 2) << run.err;
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
  const json report = json::parse(run.out);
  EXPECT_GT(report["replayed"], 0);
  EXPECT_GT(report["corrupt"], 0);
  EXPECT_FALSE(report["lost"].empty());
}

TEST_F(CliContract, DryRunAsksTheDatabaseWhatItHas) {
  FillLog(30);
  const std::string state = ContentOf(wal_ + "/STATE");
  ASSERT_EQ(Recover().exit.code, 0);
  // As after a kill: STATE knows nothing of what was brought since it was written.
  std::ofstream(wal_ + "/STATE", std::ios::binary) << state;
  const Snapshot before = SnapshotOf(dir_.path());
  const json report = json::parse(Recover({"--dry-run"}).out);
  EXPECT_EQ(report["already_there"], 30);
  EXPECT_EQ(report["replayed"], 0);
  EXPECT_THAT(ChangedSince(before, dir_.path()), IsEmpty());
}

TEST_F(CliContract, DamageIsNamedAndTheRestIsBrought) {
  FillLog(50);
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  Damage();
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 2);
  const auto first = Recover();
  EXPECT_EQ(first.exit.code, 2) << first.err;
  const json report = json::parse(first.out);
  ASSERT_FALSE(report["lost"].empty());
  std::uint64_t lost = 0;
  for (const json& range : report["lost"]) {
    lost += range["to"].get<std::uint64_t>() - range["from"].get<std::uint64_t>() + 1;
  }
  EXPECT_THAT(first.err, HasSubstr("LSN " + report["lost"][0]["from"].dump()));
  EXPECT_EQ(report["replayed"].get<std::uint64_t>() + lost, 50u);
  EXPECT_EQ(Stored().activities + lost, 50u);
  // The damage is still there, and is said again.
  EXPECT_EQ(Recover().exit.code, 2);
  const auto ingest = Ingest(Activities(51, 51));
  EXPECT_EQ(ingest.exit.code, 2);
  EXPECT_THAT(ingest.err, HasSubstr("damaged"));
  EXPECT_THAT(ingest.out, HasSubstr("lsn"));
  EXPECT_EQ(Stored().activities + lost, 51u);
}

TEST_F(CliContract, SalvageKeepsTheFilesAsideAndEndsTheDamage) {
  FillLog(50);
  Damage();
  const auto salvaged = Recover({"--salvage"});
  EXPECT_EQ(salvaged.exit.code, 2) << salvaged.err;
  EXPECT_FALSE(json::parse(salvaged.out)["lost"].empty());
  EXPECT_FALSE(fs::is_empty(wal_ + "/quarantine"));
  const auto verified = Tool({"verify", wal_});
  EXPECT_EQ(verified.exit.code, 0) << verified.out << verified.err;
  const auto after = Recover();
  EXPECT_EQ(after.exit.code, 0) << after.err;
  EXPECT_EQ(Ingest(Activities(51, 51)).exit.code, 0);
}

TEST_F(CliContract, RecoverAndThenSalvageLeavesWhatSalvageAtOnceWould) {
  FillLog(50);
  Damage();
  fs::copy(wal_, dir_.File("twin"), fs::copy_options::recursive);
  const std::string twin_db = "sqlite://" + dir_.File("twin.db");
  ASSERT_EQ(Recover().exit.code, 2);
  ASSERT_EQ(Recover({"--salvage"}).exit.code, 2);
  ASSERT_EQ(Tool({"recover", "--wal", dir_.File("twin"), "--db", twin_db, "--salvage"}).exit.code,
            2);
  const auto stored = [&](const std::string& db) {
    return Tool({"query", "activity", "--db", db, "--json", "--limit", "1000"}).out;
  };
  EXPECT_EQ(stored(db_), stored(twin_db));
  EXPECT_THAT(stored(db_), Not(IsEmpty()));
}

TEST_F(CliContract, AnyChangedByteOfACleanlyClosedSegmentIsFound) {
  FillLog(25);
  const fs::path segment = Segments()[0];
  const std::string whole = ContentOf(segment);
  // Header, padding, frame, footer: a byte in every 300.
  for (std::size_t at = 0; at < whole.size(); at += 300) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    std::ofstream(segment, std::ios::binary) << changed;
    const auto verified = Tool({"verify", wal_});
    ASSERT_EQ(verified.exit.code, 2) << "offset " << at << "\n" << verified.out;
  }
  std::ofstream(segment, std::ios::binary) << whole;
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
}

TEST_F(CliContract, AMissingSegmentIsDamageAndEmptyNewFilesAreNot) {
  FillLog(50);
  const auto segments = Segments();
  std::ofstream(wal_ + "/wal-00000099.log");
  std::ofstream(wal_ + "/spare-00000100") << std::string(4096, '\0');
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 0);
  fs::rename(segments[1], dir_.File("aside"));
  EXPECT_EQ(Tool({"verify", wal_}).exit.code, 2);
  EXPECT_EQ(Recover().exit.code, 2);
}

TEST_F(CliContract, DumpPrintsTheRecordsThatAreAskedFor) {
  FillLog(30);
  const auto all = LinesOf(Tool({"dump", wal_}).out);
  ASSERT_EQ(all.size(), 30u);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(json::parse(all[i])["lsn"], i + 1);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--from", "11", "--to", "15"}).out).size(), 5u);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--type", "task_update"}).out).size(), 0u);
  EXPECT_EQ(LinesOf(Tool({"dump", wal_, "--task", "t"}).out).size(), 30u);
}

// --- copies --------------------------------------------------------------------------------------

TEST_F(CliContract, ACopyIsRefusedByTheDatabaseThatKnowsItUntilAdopted) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  fs::copy(wal_, copy, fs::copy_options::recursive);
  for (const char* command : {"ingest", "recover"}) {
    const auto refused = Tool({command, "--wal", copy, "--db", db_});
    EXPECT_EQ(refused.exit.code, 1) << command << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("taskwal adopt --wal")) << command;
  }
  EXPECT_EQ(Tool({"adopt", "--wal", copy, "--db", db_, "--relabel"}).exit.code, 0);
  EXPECT_EQ(Tool({"ingest", "--wal", copy, "--db", db_}, Activities(6, 6)).exit.code, 0);
  EXPECT_EQ(Ingest(Activities(7, 7)).exit.code, 0);  // the original goes on
  EXPECT_EQ(Stored().activities, 7u);
}

TEST_F(CliContract, ACopyThatMeetsAnotherDatabaseTakesItsOwnIdentityAndCanBeRepeated) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string copy = dir_.File("copy");
  fs::copy(wal_, copy, fs::copy_options::recursive);
  const std::string other = "sqlite://" + dir_.File("other.db");
  for (int i = 0; i < 2; ++i) {
    const auto run = Tool({"recover", "--wal", copy, "--db", other, "--json"});
    EXPECT_EQ(run.exit.code, 0) << run.err;
    EXPECT_EQ(json::parse(run.out)["replayed"], i == 0 ? 5 : 0);
  }
  EXPECT_EQ(Ingest(Activities(6, 6)).exit.code, 0);
}

TEST_F(CliContract, AnotherDatabaseIsFedOnTheOperatorsWord) {
  ASSERT_EQ(Ingest(Activities(1, 5)).exit.code, 0);
  const std::string other = "sqlite://" + dir_.File("other.db");
  const auto refused = Tool({"ingest", "--wal", wal_, "--db", other}, Activities(6, 6));
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("--new-db"));
  EXPECT_EQ(Tool({"adopt", "--wal", wal_, "--db", other, "--new-db"}).exit.code, 0);
  const auto fed = Tool({"recover", "--wal", wal_, "--db", other, "--json"});
  EXPECT_EQ(json::parse(fed.out)["replayed"], 5) << fed.err;
}

}  // namespace
}  // namespace taskwal

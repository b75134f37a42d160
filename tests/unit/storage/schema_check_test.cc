#include "storage/schema_check.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "storage/schema.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// As SQLite describes what the migrations make.
std::vector<FoundColumn> OurColumns() {
  SQLite::Database database(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  database.exec(*SchemaText("sqlite"));
  std::vector<FoundColumn> columns;
  for (const char* table : {"dag_tasks", "dag_task_activity_logs", "wal_checkpoints"}) {
    SQLite::Statement rows(database, "SELECT name, type FROM pragma_table_info(?)");
    rows.bind(1, table);
    while (rows.executeStep()) {
      columns.push_back({table, rows.getColumn(0).getString(), rows.getColumn(1).getString()});
    }
  }
  return columns;
}

FoundColumn& ColumnOf(std::vector<FoundColumn>& columns, const std::string& name) {
  return *std::find_if(columns.begin(), columns.end(),
                       [&](const FoundColumn& column) { return column.name == name; });
}

std::string FaultWithType(const std::string& name, const std::string& type) {
  std::vector<FoundColumn> columns = OurColumns();
  ColumnOf(columns, name).type = type;
  return SchemaFault(DatabaseKind::kSqlite, columns);
}

TEST(SchemaCheck, FindsNoFaultWithTheTablesAsTheyWereMade) {
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, OurColumns()), "");
}

TEST(SchemaCheck, NamesAColumnThatIsMissing) {
  std::vector<FoundColumn> columns = OurColumns();
  std::erase_if(columns, [](const FoundColumn& column) { return column.name == "wal_stamp"; });
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, columns), "column dag_tasks.wal_stamp is missing");
}

TEST(SchemaCheck, NamesAColumnOfAnotherKind) {
  EXPECT_EQ(FaultWithType("node_id", "integer"), "column dag_tasks.node_id is of type integer");
  EXPECT_EQ(FaultWithType("message", "INT"),
            "column dag_task_activity_logs.message is of type INT");
  for (const char* type : {"bigint(20)", "timestamp with time zone", "uuid", "boolean"}) {
    EXPECT_NE(FaultWithType("payload", type), "") << type;
  }
}

// SQLite takes any length whatever the type says. What is not known may well do.
TEST(SchemaCheck, LetsColumnsBeThatMayTakeOurValues) {
  for (const char* type : {"character varying", "varbinary", "bytea", "longtext", "mood", ""}) {
    EXPECT_EQ(FaultWithType("node_id", type), "") << type;
  }
  for (const char* type : {"json", "jsonb", "text", "LONGTEXT"}) {
    EXPECT_EQ(FaultWithType("payload", type), "") << type;
  }
  EXPECT_EQ(FaultWithType("retry_count", "tinyint"), "");
  EXPECT_EQ(FaultWithType("started_at", "datetime"), "");
  EXPECT_EQ(FaultWithType("started_at", "interval"), "");
}

TEST(SchemaCheck, NamesAColumnThatIsTooNarrowWhereTheDatabaseHasWidths) {
  std::vector<FoundColumn> columns = OurColumns();
  ColumnOf(columns, "wal_stamp").type = "INT";
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, columns), "");
  for (FoundColumn& column : columns) column.type = "longtext";
  EXPECT_EQ(SchemaFault(DatabaseKind::kMysql, columns), "");
  ColumnOf(columns, "wal_stamp").type = "int(11)";
  EXPECT_EQ(SchemaFault(DatabaseKind::kMysql, columns),
            "column dag_tasks.wal_stamp is of type int(11), which does not hold all that is "
            "written to it");
}

TEST(SchemaCheck, NamesAForeignColumnThatMustBeGivenAndNoOther) {
  std::vector<FoundColumn> columns = OurColumns();
  columns.push_back({"dag_tasks", "tenant", "text", false});
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, columns), "");
  columns.back().must_be_given = true;
  EXPECT_THAT(SchemaFault(DatabaseKind::kSqlite, columns),
              AllOf(HasSubstr("dag_tasks.tenant"), HasSubstr("no default")));
  // wal_checkpoints gets no row with a batch.
  columns.back().table = "wal_checkpoints";
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, columns), "");
  // One of ours is always given.
  columns.pop_back();
  ColumnOf(columns, "created_at").must_be_given = true;
  EXPECT_EQ(SchemaFault(DatabaseKind::kSqlite, columns), "");
}

TEST(SchemaCheck, NamesATableThatIsMissing) {
  std::vector<FoundColumn> columns = OurColumns();
  std::erase_if(columns, [](const FoundColumn& column) { return column.table == "dag_tasks"; });
  EXPECT_THAT(SchemaFault(DatabaseKind::kSqlite, columns), HasSubstr("table dag_tasks is missing"));
}

TEST(SchemaCheck, NamesATableWithoutItsKey) {
  const std::vector<FoundKey> whole = {{"dag_tasks", "id"},
                                       {"dag_task_activity_logs", "dag_id,id"},
                                       {"dag_task_activity_logs", "id"},
                                       {"wal_checkpoints", "partition,wal_id"}};
  EXPECT_EQ(KeyFault(whole), "");
  EXPECT_THAT(KeyFault({}), HasSubstr("table dag_tasks has no primary key on exactly (id)"));
  std::vector<FoundKey> wider = whole;
  wider.erase(wider.begin() + 2);
  EXPECT_THAT(KeyFault(wider), HasSubstr("dag_task_activity_logs has no primary key"));
  EXPECT_THAT(KeyFault(std::span(whole).first(3)),
              HasSubstr("wal_checkpoints has no primary key on exactly (partition,wal_id)"));
}

TEST(SchemaCheck, NamesAnEncodingThatLacksCharactersAndWhatToDo) {
  for (const char* encoding : {"LATIN1", "EUC_JP", "WIN1252", "MULE_INTERNAL"}) {
    EXPECT_THAT(EncodingFault(encoding), AllOf(HasSubstr(std::string("encoding ") + encoding),
                                               HasSubstr("create it again with ENCODING 'UTF8'")));
  }
  for (const char* encoding : {"UTF8", "SQL_ASCII", ""}) EXPECT_EQ(EncodingFault(encoding), "");
}

TEST(SchemaCheck, AFaultFoundAtAContactIsToldInOneLine) {
  EXPECT_THAT(WrongSchema("mysql://h/d", "table t has no key"),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("mysql://h/d: the tables are not as taskwal made them"),
                             HasSubstr("table t has no key"))));
}

TEST(SchemaCheck, ARefusalByTheCheckpointsIsWaitedForAndNamesThem) {
  EXPECT_THAT(RefusedByCheckpoints(Status::Rejected("out of range (22003)")),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("wal_checkpoints does not take"), HasSubstr("(22003)"))));
}

TEST(SchemaCheck, ARefusalByTheSchemaIsWaitedForAndTellsBoth) {
  EXPECT_THAT(RefusedBySchema("column t.c is missing", Status::Rejected("null value (23502)")),
              StatusIs(StatusCode::kUnavailable,
                       AllOf(HasSubstr("column t.c is missing"), HasSubstr("(23502)"))));
}

}  // namespace
}  // namespace taskwal::storage

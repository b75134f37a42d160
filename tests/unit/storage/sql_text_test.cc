#include "storage/sql_text.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Placeholder = Dialect::Placeholder;

constexpr Dialect kNumbered = {Placeholder::kDollarNumber, &FormatTime, true, true, ""};
constexpr Dialect kInOrder = {Placeholder::kQuestion, &FormatTime, false, true, ""};
constexpr Dialect kPlain = {Placeholder::kQuestionNumber, &FormatTime, true, false, "+"};

const Time kTime = *ParseTime("2026-11-21T06:00:00Z");
constexpr const char* kTimeText = "2026-11-21T06:00:00.000000Z";

std::string Tail(const SqlText& text) { return text.sql.substr(text.sql.find(" FROM ")); }

TEST(SqlText, ValuesAreParameters) {
  TaskQuery query;
  query.dag_id = "a'b";
  query.created_until = kTime;
  const SqlText text = TaskPageSql(kNumbered, query, {});
  EXPECT_EQ(Tail(text),
            " FROM dag_tasks WHERE TRUE AND dag_id = $1 AND created_at < $2 "
            "ORDER BY created_at, id LIMIT 101");
  EXPECT_THAT(text.values, ElementsAre("a'b", kTimeText));
}

TEST(SqlText, PageStartsBehindItsRow) {
  TaskQuery query;
  query.paging.newest_first = true;
  const PageStart start = std::pair(kTime, std::string("t"));
  const SqlText rows = TaskPageSql(kNumbered, query, start);
  EXPECT_THAT(rows.sql, HasSubstr("AND (created_at, id) < ($1, $2) ORDER BY created_at DESC, id"));
  EXPECT_THAT(rows.values, ElementsAre(kTimeText, "t"));
  const SqlText spelt_out = TaskPageSql(kInOrder, query, start);
  EXPECT_THAT(spelt_out.sql,
              HasSubstr("AND created_at <= ? AND (created_at < ? OR id < ?) ORDER BY"));
  EXPECT_THAT(spelt_out.values, ElementsAre(kTimeText, kTimeText, "t"));
}

TEST(SqlText, EachStatusIsAnArmOfItsOwn) {
  TaskQuery query;
  query.node_id = "n";
  query.paging.limit = 1;
  query.statuses = {TaskStatus::kFailed, TaskStatus::kPending, TaskStatus::kFailed};
  const SqlText limited = TaskPageSql(kInOrder, query, {});
  EXPECT_THAT(limited.sql,
              HasSubstr("status = 'pending' ORDER BY created_at, id LIMIT 2) UNION ALL (SELECT"));
  EXPECT_THAT(limited.sql, HasSubstr("status = 'failed' ORDER BY created_at, id LIMIT 2) ORDER"));
  EXPECT_THAT(limited.values, ElementsAre("n", "n"));
  const SqlText plain = TaskPageSql(kPlain, query, {});
  EXPECT_THAT(plain.sql, HasSubstr("node_id = ?1 AND status = 'pending' UNION ALL SELECT"));
  EXPECT_THAT(plain.values, ElementsAre("n"));
}

TEST(SqlText, IndexesAreNamedAwayWhereTheDialectCan) {
  ActivityQuery query;
  query.task_id = "t";
  query.dag_id = "d";
  EXPECT_THAT(ActivityPageSql(kPlain, query, {}).sql, HasSubstr("task_id = ?1 AND +dag_id = ?2"));
  EXPECT_THAT(ActivityPageSql(kNumbered, query, {}).sql, HasSubstr("task_id = $1 AND dag_id = $2"));
}

TEST(SqlText, CleanUpWithoutTerminalStatusFindsNothing) {
  const TaskStatus running[] = {TaskStatus::kRunning};
  EXPECT_THAT(OldTasksSql(kNumbered, kTime, running, "", 5).sql, HasSubstr("AND FALSE ORDER BY"));
}

}  // namespace
}  // namespace taskwal::storage

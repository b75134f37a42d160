#include "storage/schema.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

// The names of each table's columns, in order.
std::map<std::string, std::vector<std::string>> ColumnsIn(const std::string& script) {
  static const std::regex kTable("CREATE TABLE (IF NOT EXISTS )?([a-z_]+) \\(");
  static const std::regex kColumn("  `?([a-z_]+)`? +[A-Z].*");
  static const std::regex kAdded(
      "ALTER TABLE ([a-z_]+) ADD COLUMN (IF NOT EXISTS )?([a-z_]+) .*;");
  std::map<std::string, std::vector<std::string>> tables;
  std::istringstream lines(script);
  std::string table;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, kTable)) table = match[2];
    if (line.starts_with(")")) table.clear();
    if (std::regex_match(line, match, kAdded)) tables[match[1]].push_back(match[3]);
    if (!table.empty() && std::regex_match(line, match, kColumn)) {
      tables[table].push_back(match[1]);
    }
  }
  return tables;
}

TEST(Schema, EveryDialectHasTheSameTablesAndColumns) {
  ASSERT_OK_AND_ASSIGN(const std::string sqlite, SchemaText("sqlite"));
  const auto expected = ColumnsIn(sqlite);
  ASSERT_EQ(expected.size(), 4u);
  ASSERT_EQ(expected.at("dag_tasks").size(), 20u);
  for (const char* dialect : {"postgres", "mysql"}) {
    ASSERT_OK_AND_ASSIGN(const std::string script, SchemaText(dialect));
    EXPECT_EQ(ColumnsIn(script), expected) << dialect;
  }
}

}  // namespace
}  // namespace taskwal::storage

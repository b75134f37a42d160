#include "storage/column_type.h"

#include <gtest/gtest.h>

#include "taskwal/task.h"

namespace taskwal::storage {
namespace {

constexpr ColumnNeed kName{ColumnKind::kText, kIdBytesMax};
constexpr ColumnNeed kJson{ColumnKind::kJson, kJsonBytesMax};
constexpr ColumnNeed kNumber{ColumnKind::kNumber, 32};
constexpr ColumnNeed kCount{ColumnKind::kCount, 64};
constexpr ColumnNeed kMoment{ColumnKind::kTime, 6};
constexpr ColumnNeed kWalId{ColumnKind::kId, 36};

struct Case {
  DatabaseKind database;
  const char* type;
  ColumnNeed need;
};

constexpr DatabaseKind kPostgres = DatabaseKind::kPostgres;
constexpr DatabaseKind kMysql = DatabaseKind::kMysql;
constexpr DatabaseKind kSqlite = DatabaseKind::kSqlite;

TEST(ColumnType, FitsWhereItHoldsAllThatIsWritten) {
  for (const auto& [database, type, need] : {
           Case{kPostgres, "text", kName},
           Case{kMysql, "varchar(36) character set ascii", kWalId},
           Case{kPostgres, "character varying", kName},
           Case{kPostgres, "character varying(255)", kName},
           Case{kPostgres, "mood", kName},
           Case{kPostgres, "jsonb", kJson},
           Case{kPostgres, "text", kJson},
           Case{kPostgres, "integer", kNumber},
           Case{kPostgres, "bigint", kNumber},
           Case{kPostgres, "numeric", kCount},
           Case{kPostgres, "numeric(19,0)", kCount},
           Case{kPostgres, "double precision", kNumber},
           Case{kPostgres, "timestamp with time zone", kMoment},
           Case{kPostgres, "timestamp(6) without time zone", kMoment},
           Case{kPostgres, "text", kMoment},
           Case{kPostgres, "uuid", kWalId},
           Case{kMysql, "varbinary(255)", kName},
           Case{kMysql, "tinytext", kName},
           Case{kMysql, "longtext", kJson},
           Case{kMysql, "json", kJson},
           Case{kMysql, "int(11)", kNumber},
           Case{kMysql, "int", kNumber},
           Case{kMysql, "bigint(20) unsigned", kCount},
           Case{kMysql, "decimal(20,0)", kCount},
           Case{kMysql, "datetime(6)", kMoment},
           Case{kMysql, "varbinary(36)", kWalId},
           Case{kSqlite, "INT", kCount},
           Case{kSqlite, "VARCHAR(10)", kName},
           Case{kSqlite, "CHAR(2)", kName},
           Case{kSqlite, "DATE", kMoment},
       }) {
    EXPECT_EQ(FitOf(database, type, need), ColumnFit::kFits) << type;
  }
}

TEST(ColumnType, IsNarrowerWhereItRefusesSomeOrKeepsAPart) {
  for (const auto& [database, type, need] : {
           Case{kPostgres, "character varying(254)", kName},
           Case{kPostgres, "character(255)", kName},
           Case{kPostgres, "character varying(4000)", kJson},
           Case{kPostgres, "smallint", kNumber},
           Case{kPostgres, "boolean", kNumber},
           Case{kPostgres, "real", kNumber},
           Case{kPostgres, "numeric(10,2)", kNumber},
           Case{kPostgres, "integer", kCount},
           Case{kPostgres, "numeric(18,0)", kCount},
           Case{kPostgres, "double precision", kCount},
           Case{kPostgres, "date", kMoment},
           Case{kPostgres, "time with time zone", kMoment},
           Case{kPostgres, "timestamp(0) with time zone", kMoment},
           Case{kPostgres, "timestamp(5) without time zone", kMoment},
           Case{kPostgres, "character varying(10)", kMoment},
           Case{kPostgres, "character varying(35)", kWalId},
           Case{kMysql, "varbinary(254)", kName},
           Case{kMysql, "char(255)", kName},
           Case{kMysql, "binary(255)", kName},
           Case{kMysql, "varchar(255) character set latin1", kName},
           Case{kMysql, "mediumtext", kJson},  // by one byte
           Case{kMysql, "text", kJson},
           Case{kMysql, "mediumint(9)", kNumber},
           Case{kMysql, "int(10) unsigned", kNumber},
           Case{kMysql, "decimal(9,0)", kNumber},
           Case{kMysql, "int(10) unsigned", kCount},
           Case{kMysql, "date", kMoment},
           Case{kMysql, "year(4)", kMoment},
           Case{kMysql, "datetime", kMoment},
           Case{kMysql, "datetime(3)", kMoment},
           Case{kMysql, "timestamp(6)", kMoment},  // 1970 to 2038
       }) {
    EXPECT_EQ(FitOf(database, type, need), ColumnFit::kNarrower) << type;
  }
}

TEST(ColumnType, IsOfAnotherKindWhereItTakesOtherValues) {
  for (const auto& [database, type, need] : {
           Case{kPostgres, "integer", kName},
           Case{kPostgres, "text[]", kName},
           Case{kPostgres, "uuid", kName},
           Case{kPostgres, "boolean", kJson},
           Case{kPostgres, "timestamp with time zone", kNumber},
           Case{kMysql, "json", kName},
           Case{kMysql, "bigint(20)", kMoment},
           Case{kSqlite, "INT", kName},
       }) {
    EXPECT_EQ(FitOf(database, type, need), ColumnFit::kOtherKind) << type;
  }
}

}  // namespace
}  // namespace taskwal::storage

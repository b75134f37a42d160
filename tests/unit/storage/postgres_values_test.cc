// Values on their way to PostgreSQL and back, without a server.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "storage/postgres/postgres_params.h"
#include "storage/postgres/postgres_rows.h"

namespace taskwal::storage {
namespace {

using namespace std::string_literals;

TEST(PostgresTime, GoesThereAndBackAtAnyYear) {
  EXPECT_EQ(PostgresTimeText(*ParseTime("2026-11-21T06:00:00.123456Z")),
            "2026-11-21T06:00:00.123456Z");
  EXPECT_EQ(PostgresTimeText(*ParseTime("0000-02-29T00:00:00Z")),
            "0001-02-29T00:00:00.000000Z BC");
  EXPECT_EQ(ParsePostgresTime("2026-11-21 06:00:00.1234+00"),
            ParseTime("2026-11-21T06:00:00.123400Z"));
  EXPECT_EQ(ParsePostgresTime("0001-02-29 00:00:00+00 BC"), ParseTime("0000-02-29T00:00:00Z"));
  EXPECT_EQ(ParsePostgresTime("0044-03-15 00:00:00+00 BC"), std::nullopt);
  EXPECT_EQ(ParsePostgresTime("infinity"), std::nullopt);
}

TEST(PostgresParams, SingleValuesAreInNetworkOrder) {
  PostgresParams params;
  params.Add(std::int64_t{-2}).Add(std::string_view("a\0b", 3));
  params.Add(*ParseTime("2000-01-01T00:00:01Z"));
  EXPECT_EQ(params.values()[0], "\xff\xff\xff\xff\xff\xff\xff\xfe"s);
  EXPECT_EQ(params.values()[1], "a\0b"s);
  EXPECT_EQ(params.values()[2], "\0\0\0\0\0\x0f\x42\x40"s);
}

TEST(PostgresParams, ArraysHaveOneElementPerRow) {
  using Text = std::optional<std::string_view>;
  PostgresParams params;
  params.AddArray(std::vector<Text>{"{}", std::nullopt}, [](const Text& row) { return row; });
  EXPECT_EQ(params.values()[0],
            // one dimension, NULLs, text, two elements, from one
            "\0\0\0\1\0\0\0\1\0\0\0\x19\0\0\0\2\0\0\0\1"
            "\0\0\0\2{}\xff\xff\xff\xff"s);
}

}  // namespace
}  // namespace taskwal::storage

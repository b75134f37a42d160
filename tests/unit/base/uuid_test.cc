#include "base/uuid.h"

#include <gtest/gtest.h>

namespace taskwal {
namespace {

constexpr const char* kText = "0123abcd-4567-89ef-8123-456789abcdef";

TEST(Uuid, ReadsWhatItWrites) {
  const auto id = Uuid::Parse(kText);
  ASSERT_TRUE(id);
  EXPECT_EQ(id->ToString(), kText);
  EXPECT_EQ(id->bytes[0], 0x01);
  EXPECT_EQ(id->bytes[15], 0xef);
}

TEST(Uuid, TakesUpperCase) {
  EXPECT_EQ(Uuid::Parse("0123ABCD-4567-89EF-8123-456789ABCDEF"), Uuid::Parse(kText));
}

TEST(Uuid, RefusesWhatIsNone) {
  for (const char* text :
       {"", "0123abcd", "0123abcd-4567-89ef-8123-456789abcde",
        "0123abcd-4567-89ef-8123-456789abcdef0", "0123abcg-4567-89ef-8123-456789abcdef",
        "0123abcd04567-89ef-8123-456789abcdef",
        "0123abcd-4567-89ef-8123-456789abcd f"}) {
    EXPECT_FALSE(Uuid::Parse(text)) << text;
  }
}

TEST(Uuid, MakesRandomOnesOfVersion4) {
  const Uuid one = Uuid::Make();
  EXPECT_NE(one, Uuid::Make());
  EXPECT_FALSE(one.IsZero());
  EXPECT_EQ(one.ToString()[14], '4');
  EXPECT_NE(std::string("89ab").find(one.ToString()[19]), std::string::npos);
}

TEST(Uuid, ZeroIsZero) { EXPECT_TRUE(Uuid{}.IsZero()); }

}  // namespace
}  // namespace taskwal

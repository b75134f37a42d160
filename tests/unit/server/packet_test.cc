#include "server/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace taskwal::server {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text) {
  const auto packet = ParsePacket(text);
  EXPECT_EQ(packet.status().code(), StatusCode::kInvalidArgument) << text;
  return packet.status().message();
}

TEST(Packet, MessagesBecomeActivities) {
  const auto packet =
      ParsePacket(R"({"id":"p","messages":[{"level":"ERROR","message":"boom","source":"api",)"
                  R"("metadata":{ "b":1,  "a":2}},{"message":"m"}],"retry_count":2})");
  ASSERT_OK(packet);
  EXPECT_EQ(packet->id, "p");
  ASSERT_EQ(packet->messages.size(), 2u);
  const Activity& first = packet->messages[0];
  EXPECT_EQ(first.id, "p/0");
  EXPECT_EQ(first.action, "message");
  EXPECT_EQ(first.level, Level::kError);
  EXPECT_EQ(first.message, "boom");
  EXPECT_EQ(first.node_id, "api");
  EXPECT_EQ(first.data, R"({ "b":1,  "a":2})");
  const Activity& second = packet->messages[1];
  EXPECT_EQ(second.id, "p/1");
  EXPECT_EQ(second.level, Level::kInfo);
  EXPECT_EQ(second.data, std::nullopt);
}

TEST(Packet, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("id"));
  EXPECT_THAT(ErrorOf(R"({"id":"p"})"), HasSubstr("messages"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[]})"), HasSubstr("messages"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":"a"},{"level":"info"}]})"),
              HasSubstr("messages[1].message: missing"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":"a","level":"loud"}]})"),
              HasSubstr("messages[0].level"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":"a","metadata":[1]}]})"),
              HasSubstr("messages[0].metadata: is no object"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":"a","extra":1}]})"),
              HasSubstr("unknown field"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":"a"}],"extra":1})"),
              HasSubstr("unknown field"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","id":"q","messages":[{"message":"a"}]})"),
              HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(R"({"id":7,"messages":[{"message":"a"}]})"), HasSubstr("id"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("packet"));
}

TEST(Packet, HoldsToTheLimitsOfTheDataModel) {
  const std::string long_id(255, 'x');
  EXPECT_THAT(ErrorOf(R"({"id":")" + long_id + R"(","messages":[{"message":"a"}]})"),
              HasSubstr("activity.id is 257 bytes"));
  EXPECT_THAT(ErrorOf(R"({"id":"p","messages":[{"message":")" + std::string((1 << 20) + 1, 'm') +
                      R"("}]})"),
              HasSubstr("activity.message"));
}

}  // namespace
}  // namespace taskwal::server

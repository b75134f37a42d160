#include <gmock/gmock.h>

#include "dag/graph.h"
#include "tests/support/status_matchers.h"

namespace taskwal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Status Nothing(const NodeContext&) { return {}; }

Graph Chain(std::size_t nodes) {
  Graph graph("chain");
  for (std::size_t i = 0; i < nodes; ++i) {
    EXPECT_OK(graph.AddNode(std::to_string(i), Nothing));
    if (i == 0) continue;
    EXPECT_OK(graph.AddEdge(std::to_string(i - 1), std::to_string(i)));
  }
  return graph;
}

TEST(Graph, RefusesBadIds) {
  Graph graph;
  EXPECT_THAT(graph.AddNode("", Nothing), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode(std::string("a\0b", 3), Nothing),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode("\xff", Nothing), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode(std::string(256, 'x'), Nothing),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("256 bytes")));
  EXPECT_OK(graph.AddNode(std::string(255, 'x'), Nothing));
  EXPECT_EQ(graph.size(), 1u);
}

TEST(Graph, RefusesAKnownId) {
  Graph graph;
  ASSERT_OK(graph.AddNode("a", Nothing));
  EXPECT_THAT(graph.AddNode("a", Nothing),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("\"a\" is there already")));
}

TEST(Graph, RefusesBadNodes) {
  Graph graph;
  EXPECT_THAT(graph.AddNode("a", nullptr), StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode("a", Nothing, {.payload = "{"}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode("a", Nothing, {.retries = -1}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode("a", Nothing, {.retry_delay = std::chrono::milliseconds(-1)}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_THAT(graph.AddNode("a", Nothing, {.timeout = std::chrono::milliseconds(-1)}),
              StatusIs(StatusCode::kInvalidArgument));
  EXPECT_EQ(graph.size(), 0u);
}

TEST(Graph, NamesTheUnknownNodeOfAnEdge) {
  Graph graph;
  ASSERT_OK(graph.AddNode("a", Nothing));
  ASSERT_OK(graph.AddEdge("a", "later"));
  EXPECT_THAT(graph.Validate(), StatusIs(StatusCode::kInvalidArgument,
                                         AllOf(HasSubstr("\"later\""), HasSubstr("\"a\""))));
  ASSERT_OK(graph.AddNode("later", Nothing));
  EXPECT_OK(graph.Validate());
  EXPECT_THAT(graph.AddEdge("", "a"), StatusIs(StatusCode::kInvalidArgument));
}

TEST(Graph, NamesTheCycle) {
  Graph graph;
  for (const char* id : {"start", "a", "b", "c", "end"}) ASSERT_OK(graph.AddNode(id, Nothing));
  ASSERT_OK(graph.AddEdge("start", "a"));
  ASSERT_OK(graph.AddEdge("c", "a"));
  ASSERT_OK(graph.AddEdge("a", "b"));
  ASSERT_OK(graph.AddEdge("b", "c"));
  ASSERT_OK(graph.AddEdge("c", "end"));
  EXPECT_THAT(graph.Validate(), StatusIs(StatusCode::kInvalidArgument,
                                         HasSubstr("cycle: a -> b -> c -> a")));
}

TEST(Graph, NamesANodeThatWaitsForItself) {
  Graph graph;
  ASSERT_OK(graph.AddNode("a", Nothing));
  ASSERT_OK(graph.AddEdge("a", "a"));
  EXPECT_THAT(graph.Validate(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("cycle: a -> a")));
}

TEST(Graph, KeepsTheCycleOnOneLine) {
  Graph graph;
  ASSERT_OK(graph.AddNode("two\nlines", Nothing));
  ASSERT_OK(graph.AddEdge("two\nlines", "two\nlines"));
  EXPECT_EQ(graph.Validate().message().find('\n'), std::string::npos);
}

TEST(Graph, TakesAChainOf100000Nodes) { EXPECT_OK(Chain(100'000).Validate()); }

TEST(Graph, NamesTheEndsOfALongCycle) {
  Graph graph = Chain(100'000);
  ASSERT_OK(graph.AddEdge("99999", "0"));
  const Status status = graph.Validate();
  EXPECT_THAT(status.message(), HasSubstr("cycle: 0 -> 1 -> 2"));
  EXPECT_THAT(status.message(), HasSubstr("(99980 more) -> 99990"));
  EXPECT_THAT(status.message(), HasSubstr("99999 -> 0"));
  EXPECT_LT(status.message().size(), 1000u);
}

TEST(Graph, CountsAnEdgeGivenTwiceOnce) {
  Graph graph;
  ASSERT_OK(graph.AddNode("a", Nothing));
  ASSERT_OK(graph.AddNode("b", Nothing));
  ASSERT_OK(graph.AddEdge("a", "b"));
  ASSERT_OK(graph.AddEdge("a", "b"));
  ASSERT_OK_AND_ASSIGN(const dag::Plan plan, dag::MakePlan(graph.impl()));
  EXPECT_EQ(plan.waits_for[1], 1u);
}

}  // namespace
}  // namespace taskwal

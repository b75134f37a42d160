// The routes over a storage in memory, without sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "server/service.h"
#include "tests/support/recording_storage.h"
#include "tests/support/status_matchers.h"

namespace taskwal::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class RoutesTest : public ::testing::Test {
 protected:
  RoutesTest() : service_(storage_, Options{}, Clock::Real()) {
    AddIngestRoutes(router_, service_);
    AddQueryRoutes(router_, service_);
    AddAdminRoutes(router_, service_);
    AddBufferRoutes(router_, service_);
    AddLetterRoutes(router_, service_);
    AddPageRoutes(router_);
  }
  HttpResponse Ask(std::string_view method, std::string_view path, std::string body = {},
                   std::vector<std::pair<std::string, std::string>> parameters = {}) {
    const auto match = router_.Find(method, path);
    if (match.route == nullptr) return ErrorAnswer(404, "no such path");
    HttpRequest request;
    request.id = match.id;
    request.body = std::move(body);
    request.parameters = std::move(parameters);
    return match.route->handler(request);
  }
  HttpResponse Post(std::string body) { return Ask("POST", "/api/v1/logs", std::move(body)); }

  RecordingStorage storage_;
  Service service_;
  Router router_;
};

TEST_F(RoutesTest, TakesOperationsAndPackets) {
  const auto answer = Post(R"([{"op":"save_task","task":{"id":"t1"}},)"
                           R"({"id":"p","messages":[{"message":"a"},{"message":"b"}]},)"
                           R"({"op":"update_status","task_id":"t1","status":"running"}])");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, StartsWith(R"({"total":3,"successful":3,"failed":0,)"
                                      R"("ids":["t1","p","t1"],"lsn":)"));
  EXPECT_THAT(storage_.calls(), ElementsAre("save t1 pending", HasSubstr("log message"),
                                            HasSubstr("log message"), "status t1 running"));
}

TEST_F(RoutesTest, ABadItemStopsNoOther) {
  const auto answer = Post(R"([{"op":"save_task","task":{"id":"t1"}},{"op":"dance"},)"
                           R"({"id":"p","messages":[{"message":"a","level":"loud"}]}])");
  EXPECT_EQ(answer.status, 207);
  EXPECT_THAT(answer.body, StartsWith(R"({"total":3,"successful":1,"failed":2,"ids":["t1"])"));
  EXPECT_THAT(answer.body, HasSubstr(R"("errors":[{"index":1,)"));
  EXPECT_THAT(answer.body, HasSubstr(R"({"index":2,)"));
  EXPECT_EQ(storage_.calls().size(), 1u);
}

TEST_F(RoutesTest, TakesOneItemWithoutAList) {
  EXPECT_EQ(Post(R"({"op":"save_task","task":{"id":"t1"}})").status, 200);
  EXPECT_EQ(Post(R"({"id":"p","messages":[{"message":"a"}]})").status, 200);
}

TEST_F(RoutesTest, NothingIsKeptOfABodyThatIsNoJson) {
  for (const char* body : {"", "x", R"([{"op":"save_task","task":{"id":"t1"}},)", "[] []"}) {
    EXPECT_EQ(Post(body).status, 400) << body;
  }
  EXPECT_TRUE(storage_.calls().empty());
}

TEST_F(RoutesTest, ItemsThatAreNoObjectsFail) {
  const auto answer = Post(R"([7,"x",null,[]])");
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr(R"("failed":4)"));
}

TEST_F(RoutesTest, AnEmptyListIsNothingToDo) {
  EXPECT_EQ(Post("[]").body, R"({"total":0,"successful":0,"failed":0,"ids":[]})"
                             "\n");
}

TEST_F(RoutesTest, TellsWhenToComeBack) {
  storage_.SetFault([](std::uint64_t, const std::string&) { return Status::Overloaded("full"); });
  const auto answer = Post(R"([{"op":"save_task","task":{"id":"t1"}}])");
  EXPECT_EQ(answer.status, 429);
  EXPECT_THAT(answer.headers, ElementsAre(::testing::Pair("Retry-After", "1")));
  EXPECT_THAT(answer.body, HasSubstr(R"("error":"full")"));
}

TEST_F(RoutesTest, AnInDoubtItemHasItsLsn) {
  storage_.SetFault([](std::uint64_t, const std::string&) { return Status::InDoubt("hm", 42); });
  const auto answer = Post(R"([{"op":"save_task","task":{"id":"t1"}}])");
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr(R"("lsn":42,"error":"hm")"));
}

TEST_F(RoutesTest, WritesEndWhenTheDaemonStops) {
  EXPECT_EQ(Ask("GET", "/readyz").status, 200);
  service_.stopping.request_stop();
  EXPECT_EQ(Post("[]").status, 503);
  EXPECT_EQ(Ask("GET", "/readyz").status, 503);
  EXPECT_EQ(Ask("GET", "/healthz").status, 200);
}

TEST_F(RoutesTest, ReadsATaskById) {
  Post(R"({"op":"save_task","task":{"id":"dag/node","status":"failed"}})");
  const auto answer = Ask("GET", "/api/v1/tasks/dag/node");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, StartsWith(R"({"id":"dag/node",)"));
  EXPECT_EQ(Ask("GET", "/api/v1/tasks/none").status, 404);
}

TEST_F(RoutesTest, NamesTheNearestParameter) {
  const auto answer = Ask("GET", "/api/v1/tasks", {}, {{"statsu", "failed"}});
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body, HasSubstr(R"(did you mean \"status\"?)"));
}

TEST_F(RoutesTest, RefusesBadFilters) {
  using Parameters = std::vector<std::pair<std::string, std::string>>;
  for (const Parameters& parameters :
       {Parameters{{"status", "gone"}}, Parameters{{"from", "noon"}}, Parameters{{"limit", "x"}},
        Parameters{{"limit", ""}}, Parameters{{"newest", "maybe"}}}) {
    EXPECT_EQ(Ask("GET", "/api/v1/tasks", {}, parameters).status, 400) << parameters[0].second;
  }
  EXPECT_EQ(Ask("GET", "/api/v1/activity", {}, {{"level", "loud"}}).status, 400);
}

TEST_F(RoutesTest, ThereMayBeNothingToControl) {
  for (const char* path : {"/buffer/stats", "/buffer/backpressure", "/buffer/flow-control"}) {
    EXPECT_EQ(Ask("GET", path).status, 404) << path;
  }
  EXPECT_EQ(Ask("POST", "/buffer/batch-size", R"({"size":5})").status, 404);
}

TEST_F(RoutesTest, AnUnknownTargetIsNotFound) {
  EXPECT_EQ(Ask("POST", "/api/v1/targets/x/health", R"({"in_service":false})").status, 404);
  for (const char* body : {"", "{}", R"({"in_service":1})", R"({"in_service":true,"x":1})"}) {
    EXPECT_EQ(Ask("POST", "/api/v1/targets/x/health", body).status, 400) << body;
  }
}

TEST_F(RoutesTest, ThePageAsksForNothingFromElsewhere) {
  const auto page = Ask("GET", "/");
  EXPECT_EQ(page.content_type, "text/html; charset=utf-8");
  EXPECT_THAT(page.body, HasSubstr("rel=\"icon\" href=\"data:"));
  EXPECT_THAT(page.body, ::testing::Not(::testing::ContainsRegex("(src|href)=.https?:")));
}

}  // namespace
}  // namespace taskwal::server

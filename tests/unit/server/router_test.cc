#include "server/router.h"

#include <gtest/gtest.h>

namespace taskwal::server {
namespace {

Router::Handler Answering(std::string text) {
  return [text](const HttpRequest& request) { return JsonAnswer(text + request.id); };
}

class RouterTest : public ::testing::Test {
 protected:
  RouterTest() {
    router_.Add("GET", "/list", Answering("list"));
    router_.Add("POST", "/list", Answering("add"));
    router_.Add("GET", "/list/:id", Answering("one "));
    router_.Add("POST", "/list/:id/retry", Answering("retry "));
    router_.AddOpen("GET", "/", Answering("page"));
  }
  std::string Ask(std::string_view method, std::string_view path) {
    const auto match = router_.Find(method, path);
    if (match.route == nullptr) return "none, allowed: " + match.allowed;
    HttpRequest request;
    request.id = match.id;
    return match.route->handler(request).body;
  }
  Router router_;
};

TEST_F(RouterTest, FindsByMethodAndPath) {
  EXPECT_EQ(Ask("GET", "/list"), "list\n");
  EXPECT_EQ(Ask("POST", "/list"), "add\n");
  EXPECT_EQ(Ask("HEAD", "/list"), "list\n");
}

TEST_F(RouterTest, TakesIdsWithSlashes) {
  EXPECT_EQ(Ask("GET", "/list/dag/node"), "one dag/node\n");
  EXPECT_EQ(Ask("POST", "/list/dag/node/retry"), "retry dag/node\n");
}

TEST_F(RouterTest, AnEmptyIdIsNone) {
  EXPECT_EQ(Ask("GET", "/list/"), "none, allowed: ");
  EXPECT_EQ(Ask("POST", "/list//retry"), "none, allowed: GET");
}

TEST_F(RouterTest, NamesTheMethodsOfAKnownPath) {
  EXPECT_EQ(Ask("DELETE", "/list"), "none, allowed: GET, POST");
  EXPECT_EQ(Ask("GET", "/other"), "none, allowed: ");
}

TEST_F(RouterTest, OnlySomeRoutesAreOpen) {
  EXPECT_TRUE(router_.Find("GET", "/").route->is_open);
  EXPECT_FALSE(router_.Find("GET", "/list").route->is_open);
}

}  // namespace
}  // namespace taskwal::server

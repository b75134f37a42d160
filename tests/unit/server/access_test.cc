#include "server/access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace taskwal::server {
namespace {

TEST(ListenAddress, ReadsHostAndPort) {
  const auto v4 = ParseListenAddress("127.0.0.1:8080");
  ASSERT_OK(v4);
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 8080);
  const auto v6 = ParseListenAddress("[::1]:0");
  ASSERT_OK(v6);
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 0);
}

TEST(ListenAddress, RefusesWhatIsNone) {
  for (const char* text :
       {"", "8080", ":8080", "a:", "a:b", "a:65536", "a:-1", "::1:80", "[]:80", "a:80x", "a: 80"}) {
    EXPECT_EQ(ParseListenAddress(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
}

TEST(IsLoopback, KnowsTheLoopbackAddresses) {
  for (const char* host : {"127.0.0.1", "127.9.9.9", "::1", "localhost"}) {
    EXPECT_TRUE(IsLoopback(host)) << host;
  }
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "localhost.evil.org",
                           "127.0.0.1.evil.org", "", "example.org"}) {
    EXPECT_FALSE(IsLoopback(host)) << host;
  }
}

TEST(CheckServerOptions, OnlyLoopbackGoesWithoutToken) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  EXPECT_OK(CheckServerOptions(options));
  options.listen = "0.0.0.0:0";
  EXPECT_EQ(CheckServerOptions(options).code(), StatusCode::kInvalidArgument);
  options.token = "t";
  EXPECT_OK(CheckServerOptions(options));
}

TEST(ShowsToken, TakesTheTokenAndNothingElse) {
  // The scheme in whatever case, and blanks behind it (RFC 9110, 11.1 and 11.4).
  for (const char* header : {"Bearer secret", "bearer secret", "BEARER   secret"}) {
    EXPECT_TRUE(ShowsToken(header, "secret")) << header;
  }
  for (const char* header :
       {"", "Bearer", "Bearer ", "Bearer   ", "Bearer secre", "Bearer secrets", "Bearer secret ",
        "Bearer secretsecret", "Bearer Secret", "secret", " secret", "Basic secret", "Bear secret",
        "Bearers secret", "Bearersecret"}) {
    EXPECT_FALSE(ShowsToken(header, "secret")) << header;
  }
  EXPECT_FALSE(ShowsToken("Bearer ", ""));
}

TEST(CheckSource, RefusesPagesOfOtherSites) {
  EXPECT_OK(CheckSource({"127.0.0.1:8080", ""}));
  EXPECT_OK(CheckSource({"localhost:8080", "http://localhost:8080"}));
  EXPECT_OK(CheckSource({"[::1]:8080", "http://[::1]:8080"}));
  EXPECT_OK(CheckSource({"", ""}));
  EXPECT_FALSE(CheckSource({"127.0.0.1:8080", "http://evil.org"}).ok());
  EXPECT_FALSE(CheckSource({"127.0.0.1:8080", "null"}).ok());
  EXPECT_FALSE(CheckSource({"127.0.0.1:8080", "http://127.0.0.1:9"}).ok());
  // A name of theirs that leads to this machine.
  EXPECT_FALSE(CheckSource({"evil.org:8080", "http://evil.org:8080"}).ok());
  EXPECT_FALSE(CheckSource({"evil.org", ""}).ok());
}

}  // namespace
}  // namespace taskwal::server

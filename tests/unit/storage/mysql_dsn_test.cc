#include "storage/mysql/mysql_dsn.h"

#include <gtest/gtest.h>

#include <string>

#include "storage/backend.h"
#include "tests/support/status_matchers.h"

namespace taskwal::storage {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MysqlDsn, PartsArePercentDecoded) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target,
                       ParseMysqlDsn("mysql://us%65r:p%40ss%3A%2F%27%5C@db.example:3307/my%20db"));
  EXPECT_EQ(target.user, "user");
  EXPECT_EQ(target.password, "p@ss:/'\\");
  EXPECT_EQ(target.host, "db.example");
  EXPECT_EQ(target.port, 3307);
  EXPECT_EQ(target.database, "my db");
  EXPECT_EQ(target.tls, "");
}

TEST(MysqlDsn, EverythingButTheDatabaseMayBeLeftOut) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget bare, ParseMysqlDsn("mysql:///d"));
  EXPECT_EQ(bare.host, "");
  EXPECT_EQ(bare.user, "");
  EXPECT_EQ(bare.port, 0);
  EXPECT_EQ(bare.database, "d");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget host, ParseMysqlDsn("mariadb://h/d"));
  EXPECT_EQ(host.host, "h");
  for (const char* dsn : {"mysql://h", "mysql://h/", "mysql://u:p@h:1", "mysql://"}) {
    EXPECT_THAT(ParseMysqlDsn(dsn),
                StatusIs(StatusCode::kInvalidArgument, HasSubstr("names no database")))
        << dsn;
  }
}

TEST(MysqlDsn, AnUnescapedPasswordEndsAtTheLastAt) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target, ParseMysqlDsn("mysql://u:a@b/c:d@h:1/db"));
  EXPECT_EQ(target.password, "a@b/c:d");
  EXPECT_EQ(target.host, "h");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget asking, ParseMysqlDsn("mysql://u:a?b@h/db"));
  EXPECT_EQ(asking.password, "a?b");
  EXPECT_EQ(asking.database, "db");
}

TEST(MysqlDsn, LocalhostWithAPortIsNotTheMachinesOwnSocket) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget with_port, ParseMysqlDsn("mysql://localhost:3307/d"));
  EXPECT_EQ(with_port.host, "127.0.0.1");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget without, ParseMysqlDsn("mysql://localhost/d"));
  EXPECT_EQ(without.host, "localhost");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget list, ParseMysqlDsn("mysql://localhost:3307,h2:3308/d"));
  EXPECT_THAT(SociConnectString(list, milliseconds(1000)),
              HasSubstr("host='host={localhost:3307,h2:3308};protocol=1;' db='d'"));
}

TEST(MysqlDsn, LocalhostKeepsTheNameThatACertificateIsCheckedFor) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget target,
                       ParseMysqlDsn("mysql://localhost:3307/d?ssl_mode=verify_identity"));
  EXPECT_THAT(SociConnectString(target, milliseconds(1000)),
              HasSubstr("host='host={localhost};protocol=1;ssl-verify-server-cert=1;ssl-enforce=1;"
                        "' port=3307"));
  ASSERT_OK_AND_ASSIGN(const MysqlTarget by_socket,
                       ParseMysqlDsn("mysql://localhost/d?ssl_mode=verify_identity"));
  EXPECT_THAT(SociConnectString(by_socket, milliseconds(1000)), Not(HasSubstr("protocol")));
  ASSERT_OK_AND_ASSIGN(const MysqlTarget unchecked,
                       ParseMysqlDsn("mysql://localhost:3307/d?ssl_mode=required"));
  EXPECT_EQ(unchecked.host, "127.0.0.1");
}

TEST(MysqlDsn, HostsMayBeV6OrSeveral) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget v6, ParseMysqlDsn("mysql://u@[::1]:3307/d"));
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.port, 3307);
  ASSERT_OK_AND_ASSIGN(const MysqlTarget plain_v6, ParseMysqlDsn("mysql://u@[fe80::1]/d"));
  EXPECT_EQ(plain_v6.host, "fe80::1");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget list, ParseMysqlDsn("mysql://u@a:1,b:2/d"));
  EXPECT_EQ(list.host, "a:1,b:2");
  EXPECT_EQ(list.port, 0);
}

TEST(MysqlDsn, TellsTheHostsThatAreConnectedTo) {
  const auto hosts = [](const char* dsn) {
    const auto target = ParseMysqlDsn(dsn);
    EXPECT_OK(target);
    return HostsOf(*target);
  };
  EXPECT_THAT(hosts("mysql://u@h:1/d"), ElementsAre("h"));
  EXPECT_THAT(hosts("mysql://u@[::1]:1/d"), ElementsAre("::1"));
  EXPECT_THAT(hosts("mysql://u@a:1,[fe80::1]:2,10.0.0.1,c/d"),
              ElementsAre("a", "fe80::1", "10.0.0.1", "c"));
  EXPECT_THAT(hosts("mysql:///d"), ElementsAre());
  EXPECT_THAT(hosts("mysql://u@h/d?unix_socket=/s"), ElementsAre());
}

TEST(MysqlDsn, UnknownParametersAreRefusedByName) {
  EXPECT_THAT(ParseMysqlDsn("mysql://h/d?ssl_ca=/x&compress=1"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("unknown parameter: compress")));
  EXPECT_THAT(ParseMysqlDsn("mysql://h/d?unix_socket"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("without value: unix_socket")));
}

TEST(MysqlDsn, WhatIsWrongIsSaidWithoutThePassword) {
  for (const char* dsn :
       {"mysql://u:hunter2@h:x/d", "mysql://u:hunter2@h:0/d", "mysql://u:hunter2@h:70000/d",
        "mysql://u:hunter2%zz@h/d", "mysql://u:hunter2%00@h/d", "mysql://u:hunter2@h",
        "mysql://u:x/y?hunter2@h/d", "mysql://u:hunter2@[::1/d", "mysql://u:hunter2@h/d?what=1",
        "mysql://u:hunter2@h/d?ssl_mode=maybe", "mysql://u:hunter2@h/d?ssl_verify_server_cert=2",
        "mysql://u:hunter2@h/d?ssl_ca=a%7Db"}) {
    EXPECT_THAT(ParseMysqlDsn(dsn),
                StatusIs(StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("mysql://"), Not(HasSubstr("hunter2")))))
        << dsn;
    EXPECT_THAT(MakeBackend(dsn, {}), StatusIs(StatusCode::kInvalidArgument)) << dsn;
  }
}

TEST(MysqlDsn, TlsParametersMakeEncryptionRequired) {
  ASSERT_OK_AND_ASSIGN(const MysqlTarget ca,
                       ParseMysqlDsn("mysql://h/d?ssl-ca=/etc/ca%20x.pem&tls_version=TLSv1.3"));
  EXPECT_EQ(ca.tls,
            "ssl-ca={/etc/ca x.pem};tls-version={TLSv1.3};ssl-verify-server-cert=0;ssl-enforce=1;");
  ASSERT_OK_AND_ASSIGN(const MysqlTarget verified,
                       ParseMysqlDsn("mysql://h/d?ssl_ca=/ca&ssl_verify_server_cert=1"));
  EXPECT_EQ(verified.tls, "ssl-ca={/ca};ssl-verify-server-cert=1;ssl-enforce=1;");
  for (const char* mode : {"VERIFY_IDENTITY", "verify_ca"}) {
    ASSERT_OK_AND_ASSIGN(const MysqlTarget strict,
                         ParseMysqlDsn("mysql://h/d?ssl_mode=" + std::string(mode)));
    EXPECT_EQ(strict.tls, "ssl-verify-server-cert=1;ssl-enforce=1;");
  }
  for (const char* mode : {"disabled", "PREFERRED"}) {
    ASSERT_OK_AND_ASSIGN(const MysqlTarget lax,
                         ParseMysqlDsn("mysql://h/d?ssl_mode=" + std::string(mode)));
    EXPECT_EQ(lax.tls, "");
  }
  EXPECT_THAT(ParseMysqlDsn("mysql://h/d?ssl_mode=disabled&ssl_ca=/ca"),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("disabled")));
}

TEST(MysqlDsn, ConnectStringQuotesWhatItHolds) {
  MysqlTarget target;
  target.host = "h";
  target.port = 3307;
  target.user = "u";
  target.password = "it's \\ x=y";
  target.database = "d";
  EXPECT_EQ(SociConnectString(target, milliseconds(1500)),
            "charset=utf8mb4 connect_timeout=2 read_timeout=2 write_timeout=2 host='h' port=3307 "
            "user='u' password='it\\'s \\\\ x=y' db='d'");
}

TEST(MysqlDsn, ConnectStringTakesTheSocketOrTlsInTheHostsPlace) {
  MysqlTarget target;
  target.host = "h";
  target.port = 3307;
  target.database = "d";
  target.tls = "ssl-enforce=1;";
  EXPECT_THAT(SociConnectString(target, milliseconds(100)),
              HasSubstr("connect_timeout=1 read_timeout=1 write_timeout=1 "
                        "host='host={h};ssl-enforce=1;' port=3307 db='d'"));
  target.unix_socket = "/run/s";
  target.tls.clear();
  EXPECT_THAT(SociConnectString(target, milliseconds(100)),
              HasSubstr("host='localhost' unix_socket='/run/s' db='d'"));
}

}  // namespace
}  // namespace taskwal::storage

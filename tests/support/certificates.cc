#include "tests/support/certificates.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <filesystem>

#include "base/check.h"
#include "tests/support/subprocess.h"

namespace taskwal {

Certificates::Certificates(const std::string& user, const std::string& name) {
  for (const char* authority : {"ca", "other"}) {
    OpenSsl({"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
             std::string("/CN=") + authority, "-keyout", File(authority, "key"), "-out",
             File(authority, "pem")});
  }
  const std::string key = File("server", "key"), request = File("server", "csr");
  const bool is_address = name.find_first_not_of("0123456789.") == std::string::npos;
  OpenSsl({"req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name, "-addext",
           (is_address ? "subjectAltName=IP:" : "subjectAltName=DNS:") + name, "-keyout", key,
           "-out", request});
  OpenSsl({"x509", "-req", "-in", request, "-CA", File("ca", "pem"), "-CAkey", File("ca", "key"),
           "-CAcreateserial", "-days", "30", "-copy_extensions", "copy", "-out",
           File("server", "pem")});
  OpenSsl({"rsa", "-in", key, "-out", key});
  std::filesystem::permissions(dir_.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  if (::geteuid() != 0) return;
  const passwd* owner = ::getpwnam(user.c_str());
  TASKWAL_CHECK(owner != nullptr);
  EXPECT_EQ(::chown(key.c_str(), owner->pw_uid, owner->pw_gid), 0);
}

void Certificates::OpenSsl(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "openssl");
  const RunOutcome made = Run(arguments);
  ASSERT_EQ(made.exit.code, 0) << made.err;
}

}  // namespace taskwal

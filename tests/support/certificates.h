// Certificates for tests of TLS, made anew by openssl: an authority ("ca"), one that nobody trusts
// ("other"), and a server's, signed by "ca".
#pragma once

#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

namespace taskwal {

class Certificates {
 public:
  // `user` runs the server: its key is that user's, where this process is root. `name`: the
  // server's, or its address. A failure fails the test.
  explicit Certificates(const std::string& user, const std::string& name = "127.0.0.1");

  // "ca", "other" or "server"; "pem" or "key".
  [[nodiscard]] std::string File(const std::string& name, const std::string& kind) const {
    return dir_.File(name + "." + kind);
  }

 private:
  static void OpenSsl(std::vector<std::string> arguments);

  TempDir dir_;
};

}  // namespace taskwal

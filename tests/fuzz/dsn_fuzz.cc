// Parses DSNs, and makes a backend of what is taken (which contacts nobody). No message shows the
// password that the input holds.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "storage/backend.h"
#include "storage/dsn.h"

namespace {

constexpr std::string_view kPassword = "Geh8eim";

void ExpectMasked(std::string_view text) {
  TASKWAL_CHECK(text.find(kPassword) == std::string_view::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace taskwal;  // NOLINT: one small program
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static_cast<void>(storage::MaskDsn(text));
  const auto parsed = storage::ParseDsn(text);
  if (parsed.ok()) {
    TASKWAL_CHECK(parsed->text == text);
    const auto backend = storage::MakeBackend(std::string(text), {.create = false});
    TASKWAL_CHECK(backend.ok() || !backend.status().message().empty());
  }
  if (text.find(kPassword) != std::string_view::npos) return 0;
  // In the place of a password, whatever stands behind it.
  for (const char* scheme : {"postgresql://", "mysql://"}) {
    const std::string dsn = std::string(scheme) + "user:" + std::string(kPassword) + "@" +
                            std::string(text.substr(0, text.find_first_of("@/?#")));
    ExpectMasked(storage::MaskDsn(dsn));
    const auto made = storage::MakeBackend(dsn, {.create = false});
    if (!made.ok()) ExpectMasked(made.status().message());
    // The same with "@host" forgotten.
    const std::string cut = dsn.substr(0, dsn.find('@')) + dsn.substr(dsn.find('@') + 1);
    ExpectMasked(storage::MaskDsn(cut));
    const auto refused = storage::MakeBackend(cut, {.create = false});
    if (!refused.ok()) ExpectMasked(refused.status().message());
  }
  return 0;
}

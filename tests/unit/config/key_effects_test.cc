// Every key of the configuration changes what the running product does.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "config/daemon_config.h"
#include "tests/support/io_uring_probe.h"
#include "tests/unit/config/key_effect.h"

namespace taskwal::config {
namespace {

using std::chrono::steady_clock;

// A machine that holds a run up for so long may by itself bring about what the defaults need a
// second for; such a run is repeated.
constexpr auto kHeldUp = std::chrono::milliseconds(400);
constexpr int kRunsMax = 20;

std::vector<KeyEffect> AllEffects() {
  std::vector<KeyEffect> all;
  for (const auto& part :
       {LogEffects(), AdmissionEffects(), PressureEffects(), BatchEffects(), WorkerEffects(),
        FaultEffects(), LifeEffects(), DaemonEffects()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

class KeyEffects : public ::testing::TestWithParam<KeyEffect> {
 protected:
  // Of a file without the key.
  static bool HoldsByDefault(const KeyEffect& effect) {
    for (int run = 1;; ++run) {
      const auto begin = steady_clock::now();
      EffectWorld world(effect, false);
      const bool holds = effect.holds(world);
      if (!holds || steady_clock::now() - begin < kHeldUp || run == kRunsMax) return holds;
    }
  }
};

TEST_P(KeyEffects, ShowWithTheKeyAndNotWithoutIt) {
  const KeyEffect& effect = GetParam();
  EXPECT_FALSE(HoldsByDefault(effect));
  EffectWorld world(effect, true);
  EXPECT_TRUE(effect.holds(world)) << world.yaml();
  if (effect.key == "wal.io_uring") SKIP_WITHOUT_IO_URING();
}

std::string NameOf(const ::testing::TestParamInfo<KeyEffect>& effect) {
  std::string name(effect.param.key);
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Configuration, KeyEffects, ::testing::ValuesIn(AllEffects()), &NameOf);

TEST(KeyEffectTable, HasEveryKeyExactlyOnce) {
  std::map<std::string, int> entries;
  for (const KeyEffect& effect : AllEffects()) ++entries[std::string(effect.key)];
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_EQ(entries[key.path()], 1) << key.path();
    entries.erase(key.path());
  }
  // It belongs to no group, as the targets do, which have tests of their own.
  EXPECT_EQ(entries.erase("database"), 1u);
  EXPECT_TRUE(entries.empty()) << entries.begin()->first << " is no key";
}

}  // namespace
}  // namespace taskwal::config

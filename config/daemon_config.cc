#include "config/daemon_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/file_system.h"
#include "base/json_text.h"
#include "base/nearest_name.h"
#include "base/status_macros.h"
#include "base/yaml_text.h"
#include "pipeline/option_fields.h"

namespace taskwal::config {
namespace {

constexpr std::string_view kDatabase = "database";
constexpr std::string_view kTargets = "targets";
constexpr std::uint32_t kWeightMax = 1000;

std::vector<std::string_view> NamesAtTop() {
  std::vector<std::string_view> names{kDatabase, kTargets};
  for (const ConfigKey& key : ConfigKeys()) {
    if (std::find(names.begin(), names.end(), key.group) == names.end()) names.push_back(key.group);
  }
  return names;
}

// A known key of this very name, or whose option has it.
std::string KeyNamed(std::string_view name) {
  for (const std::string_view top : NamesAtTop()) {
    if (top == name) return std::string(top);
  }
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.name == name || key.option == name) return key.path();
  }
  return {};
}

// For a name that is not among `known`, which stand behind `prefix`: what stands elsewhere under
// it, else what is near, here or elsewhere. Else the nearest here, however far: the keys are few,
// and a wrong name is often one of another tool.
std::string NearestKey(const std::string& prefix, const std::string& name,
                       const std::vector<std::string_view>& known) {
  if (std::string same = KeyNamed(name); !same.empty()) return same;
  std::string here = prefix + std::string(NearestName(name, known));
  if (!DidYouMean(name, known).empty()) return here;
  std::vector<std::string_view> all;
  for (const ConfigKey& key : ConfigKeys()) {
    all.push_back(key.name);
    if (!key.option.empty()) all.push_back(key.option);
  }
  return DidYouMean(name, all).empty() ? here : KeyNamed(NearestName(name, all));
}

// The option's names in a message, as the file has them.
std::string InKeys(const std::string& message) {
  constexpr std::string_view kOfNames = "abcdefghijklmnopqrstuvwxyz_";
  std::string text;
  for (std::size_t at = 0; at < message.size();) {
    const std::size_t end = std::min(message.find_first_not_of(kOfNames, at), message.size());
    const std::string word = message.substr(at, std::max<std::size_t>(end - at, 1));
    const auto& keys = ConfigKeys();
    const auto key = std::find_if(keys.begin(), keys.end(),
                                  [&](const ConfigKey& k) { return k.option == word; });
    text += key == keys.end() ? word : key->path();
    at += word.size();
  }
  return text;
}

class ConfigReader {
 public:
  explicit ConfigReader(const std::string& file) : file_(file) {}

  Result<DaemonConfig> Read(const YAML::Node& root);

 private:
  Status ReadGroup(const std::string& group, const YAML::Node& map);
  // `name` says where it stands: an absent value has no place of its own.
  Status ReadKey(const ConfigKey& key, const YAML::Node& name, const YAML::Node& value);
  Status ReadTargets(const YAML::Node& list);
  Status ReadTarget(const YAML::Node& map, TargetOptions* target);
  // A map's keys: each text, once, and known.
  Status CheckKeys(const YAML::Node& map, const std::string& where,
                   const std::vector<std::string_view>& known) const;
  Result<std::string> Text(const std::string& key, const YAML::Node& value) const;
  [[nodiscard]] Status Checked() const;
  [[nodiscard]] Status Error(const YAML::Node& at, const std::string& what) const;

  const std::string file_;
  DaemonConfig config_;
  std::map<std::string, YAML::Node> given_;  // option -> where it was set
};

Result<DaemonConfig> ConfigReader::Read(const YAML::Node& root) {
  TASKWAL_TRY(CheckKeys(root, "", NamesAtTop()));
  for (const auto& member : root) {
    const std::string& name = member.first.Scalar();
    if (name == kDatabase) {
      TASKWAL_ASSIGN(config_.database, Text(name, member.second));
    } else if (name == kTargets) {
      TASKWAL_TRY(ReadTargets(member.second));
    } else {
      TASKWAL_TRY(ReadGroup(name, member.second));
    }
  }
  if (!config_.database.empty() && !config_.options.targets.empty()) {
    return Error(root[std::string(kDatabase)], "database and targets exclude each other");
  }
  if (config_.max_segments > 0) {
    if (given_.contains("quota_bytes")) {
      return Error(given_.at("quota_bytes"), "wal.quota and wal.max_segments exclude each other");
    }
    config_.options.quota_bytes = config_.max_segments * config_.options.segment_bytes;
  }
  TASKWAL_TRY(Checked());
  return std::move(config_);
}

Status ConfigReader::ReadGroup(const std::string& group, const YAML::Node& map) {
  std::vector<std::string_view> known;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.group == group) known.push_back(key.name);
  }
  TASKWAL_TRY(CheckKeys(map, group, known));
  for (const auto& member : map) {
    for (const ConfigKey& key : ConfigKeys()) {
      if (key.group != group || key.name != member.first.Scalar()) continue;
      TASKWAL_TRY(ReadKey(key, member.first, member.second));
    }
  }
  return Status::Ok();
}

Status ConfigReader::ReadKey(const ConfigKey& key, const YAML::Node& name,
                             const YAML::Node& value) {
  if (!value.IsScalar()) return Error(name, key.path() + " takes one value");
  const Status set = key.option.empty()
                         ? key.set(&config_, value.Scalar())
                         : pipeline::SetOption(&config_.options, key.option, value.Scalar());
  if (!set.ok()) return Error(name, key.path() + ": " + set.message());
  if (!key.option.empty()) given_[std::string(key.option)] = name;
  return Status::Ok();
}

Status ConfigReader::ReadTargets(const YAML::Node& list) {
  if (!list.IsSequence() || list.size() == 0) {
    return Error(list, "targets takes a list of databases");
  }
  for (const YAML::Node& node : list) {
    TASKWAL_TRY(ReadTarget(node, &config_.options.targets.emplace_back()));
  }
  return Status::Ok();
}

Status ConfigReader::ReadTarget(const YAML::Node& map, TargetOptions* target) {
  TASKWAL_TRY(CheckKeys(map, std::string(kTargets), {"name", "dsn", "weight"}));
  for (const char* required : {"name", "dsn"}) {
    if (!map[required]) return Error(map, std::string("a target has no ") + required);
  }
  TASKWAL_ASSIGN(target->name, Text("targets.name", map["name"]));
  TASKWAL_ASSIGN(target->dsn, Text("targets.dsn", map["dsn"]));
  const YAML::Node weight = map["weight"];
  if (!weight) return Status::Ok();
  if (!weight.IsScalar() || !YAML::convert<std::uint32_t>::decode(weight, target->weight) ||
      target->weight > kWeightMax) {
    return Error(weight, "targets.weight must be a whole number from 0 to 1000");
  }
  return Status::Ok();
}

Status ConfigReader::CheckKeys(const YAML::Node& map, const std::string& where,
                               const std::vector<std::string_view>& known) const {
  const std::string prefix = where.empty() ? "" : where + ".";
  if (!where.empty() && map.IsNull()) return Status::Ok();  // a group whose keys are all left out
  if (!map.IsMap()) {
    return Error(map, (where.empty() ? "the file" : where) + " is no map of keys and values");
  }
  std::set<std::string> seen;
  for (const auto& member : map) {
    const YAML::Node& key = member.first;
    if (!key.IsScalar()) return Error(key, "a key that is no text");
    const std::string& name = key.Scalar();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      for (const DeclinedKey& declined : DeclinedKeys()) {
        if (declined.path != prefix + name) continue;
        return Error(key, "no key " + JsonQuote(prefix + name) + ": " + std::string(declined.why));
      }
      return Error(key, "unknown key " + JsonQuote(prefix + name) + "; did you mean " +
                            JsonQuote(NearestKey(prefix, name, known)) + "?");
    }
    if (!seen.insert(name).second) return Error(key, prefix + name + " is given twice");
  }
  return Status::Ok();
}

Result<std::string> ConfigReader::Text(const std::string& key, const YAML::Node& value) const {
  if (value.IsScalar() && !value.Scalar().empty()) return value.Scalar();
  return Error(value, key + " is no text, or empty");
}

// Bounds and combinations; the message starts with the name of the option.
Status ConfigReader::Checked() const {
  Status checked = pipeline::CheckOptions(config_.options);
  if (checked.ok()) return checked;
  const std::string& message = checked.message();
  const auto at = given_.find(message.substr(0, message.find(' ')));
  return at == given_.end() ? Status::InvalidArgument(file_ + ": " + InKeys(message))
                            : Error(at->second, InKeys(message));
}

Status ConfigReader::Error(const YAML::Node& at, const std::string& what) const {
  const int line = at.Mark().line;
  const std::string place = line >= 0 ? ":" + std::to_string(line + 1) : "";
  return Status::InvalidArgument(file_ + place + ": " + what);
}

}  // namespace

Result<DaemonConfig> LoadConfig(const std::string& file) {
  TASKWAL_ASSIGN(const std::string text, ReadFile(FileSystem::Real(), file));
  return ParseConfig(text, file);
}

// The only function that meets yaml-cpp's exceptions.
Result<DaemonConfig> ParseConfig(std::string_view text, const std::string& file) {
  try {
    if (HasSecondYamlDocument(text)) {
      return Status::InvalidArgument(file + ": it holds more than one document");
    }
    const YAML::Node document = YAML::Load(std::string(text));
    return document.IsNull() ? DaemonConfig{} : ConfigReader(file).Read(document);
  } catch (const YAML::Exception& e) {
    const std::string place = e.mark.is_null() ? "" : ":" + std::to_string(e.mark.line + 1);
    return Status::InvalidArgument(file + place + ": " + e.msg +
                                   QuotingAdvice(text, e.mark.line));
  }
}

}  // namespace taskwal::config

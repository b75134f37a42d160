#include "cli/findings.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace taskwal::cli {
namespace {

using Json = nlohmann::ordered_json;
using recovery::Finding;

// "missing_segment" of "missing segment".
std::string VerdictWord(recovery::Verdict verdict) {
  std::string word(recovery::VerdictName(verdict));
  std::replace(word.begin(), word.end(), ' ', '_');
  std::transform(word.begin(), word.end(), word.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return word;
}

Json FindingJson(const Finding& finding) {
  Json json;
  json["verdict"] = VerdictWord(finding.verdict);
  json["damage"] = recovery::IsDamage(finding.verdict);
  json["file"] = finding.file;
  json["offset"] = finding.offset;
  if (!finding.lsns.empty()) {
    json["from"] = finding.lsns.from;
    json["to"] = finding.lsns.to;
  }
  json["detail"] = finding.detail;
  return json;
}

}  // namespace

std::string RangeText(const wal::LsnRange& range) {
  std::string text = "LSN " + std::to_string(range.from);
  if (range.to != range.from) text += "-" + std::to_string(range.to);
  return text;
}

std::string FindingLine(const Finding& finding) {
  std::string line = finding.file + " offset " + std::to_string(finding.offset) + ": " +
                     std::string(recovery::VerdictName(finding.verdict));
  if (!finding.lsns.empty()) line += ", " + RangeText(finding.lsns);
  if (!finding.detail.empty()) line += " (" + finding.detail + ")";
  return line;
}

std::string FindingsJson(const std::vector<Finding>& findings) {
  Json json = Json::array();
  for (const Finding& finding : findings) json.push_back(FindingJson(finding));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace taskwal::cli

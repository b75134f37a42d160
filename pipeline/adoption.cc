#include "pipeline/adoption.h"

#include <algorithm>

#include "base/shell_text.h"

namespace taskwal::pipeline {
namespace {

struct Word {
  Adoption adoption;
  std::string_view flag;
  std::string_view meaning;
};
constexpr Word kWords[] = {
    {Adoption::kMoved, "--moved", "this is the original, and there is no other"},
    {Adoption::kRelabel, "--relabel", "this is a copy or a backup: a log of its own from now on"},
    {Adoption::kNewDatabase, "--new-db", "feed this database all that is kept"},
};

}  // namespace

Relation RelationOf(const wal::LogState& state, const storage::LogRow& row, const Uuid& db_id,
                    wal::Lsn end_lsn) {
  const auto has_above = [&](wal::Lsn lsn) {
    return std::any_of(row.watermarks.begin(), row.watermarks.end(),
                       [&](wal::Lsn stored) { return stored > lsn; });
  };
  Relation relation;
  relation.is_known = !row.watermarks.empty();
  relation.is_another = !state.db_id.IsZero() && state.db_id != db_id;
  relation.is_behind = has_above(end_lsn);
  relation.is_taken_over =
      relation.is_known && (row.epoch > state.registered_epoch || relation.is_behind);
  relation.is_copied = state.copied;
  relation.lived_on = state.copied && has_above(state.copied_at);
  return relation;
}

bool Fits(Adoption word, const Relation& relation) {
  switch (word) {
    case Adoption::kMoved:
      // Were another directory's records in the database under these LSNs, ours would be taken for
      // them and never brought.
      if (relation.is_another) return false;
      return relation.is_copied ? !relation.lived_on : !relation.is_taken_over;
    case Adoption::kRelabel:
      return relation.is_shared() && !relation.is_another;
    case Adoption::kNewDatabase:
      return !relation.is_shared() || !relation.is_known || relation.is_another;
  }
  return false;
}

std::string AdoptCommands(const Relation& relation, std::string_view directory,
                          std::string_view database) {
  const std::string databases[] = {std::string(database)};
  return AdoptCommands(relation, directory, databases);
}

std::string AdoptCommands(const Relation& relation, std::string_view directory,
                          std::span<const std::string> databases) {
  std::string text;
  for (const Word& word : kWords) {
    if (!Fits(word.adoption, relation)) continue;
    text += text.empty() ? "" : " or ";
    text += "`taskwal adopt --wal " + ShellQuote(directory);
    for (const std::string& database : databases) text += " --db " + ShellQuote(database);
    text += " " + std::string(word.flag) + "` (" + std::string(word.meaning) + ")";
  }
  return text;
}

}  // namespace taskwal::pipeline

#include "pipeline/flush/poison_guard.h"

#include <algorithm>
#include <cstdio>

#include "pipeline/flush/letter_retry.h"

namespace taskwal::pipeline {
namespace {

using wal::Lsn;

constexpr std::uint64_t kOwedForLetter = 5;
constexpr std::uint64_t kLettersMin = 10;

}  // namespace

void PoisonGuard::Load(std::span<const DeadLetter> letters, Lsn settled) {
  MutexLock lock(mutex_);
  for (const DeadLetter& letter : letters) {
    const auto mark = letter.metadata.find(kGuardMark);
    unsigned long long owed = 0, records = 0, from = 0, to = 0;
    if (mark == letter.metadata.end()) continue;
    const char* text = mark->second.c_str();
    // Older builds wrote three.
    if (std::sscanf(text, "%llu/%llu/%llu/%llu", &owed, &records, &from, &to) < 3) continue;
    // What went through since then is not known, but how far the log has been brought, and how
    // often such records came before.
    const Lsn last = std::max<Lsn>(to, letter.lsns.from);
    const double span = static_cast<double>(std::max<Lsn>(last - std::min<Lsn>(from, last), 1));
    const double since = settled > last ? static_cast<double>(settled - last) : 0;
    const double paid = since * static_cast<double>(records) / span;
    if (paid >= static_cast<double>(owed)) continue;
    Account& account = accounts_[letter.type];
    account = {owed - static_cast<std::uint64_t>(paid), records, from, last,
               records * kOwedForLetter == owed, false};
    account.is_tripped = account.owed + kOwedForLetter > kLettersMin * kOwedForLetter;
  }
}

Status PoisonGuard::Letter(Type type, Lsn lsn, std::uint64_t batch_records, std::string_view why,
                           const std::function<Status(const std::string& mark)>& add) {
  MutexLock adding(adding_);
  const auto mark = Claim(type, lsn, batch_records);
  if (!mark) {
    return Status::Overloaded("too many rows are refused for poison: nothing more is dead-lettered "
                              "and the log waits: " + std::string(why));
  }
  const Status added = add(*mark);
  if (!added.ok()) TakeBack(type);
  return added;
}

std::optional<std::string> PoisonGuard::Claim(Type type, Lsn lsn, std::uint64_t batch_records) {
  MutexLock lock(mutex_);
  Account& account = accounts_[type];
  const std::uint64_t share = account.is_tripped ? 0 : batch_records / 100;
  const std::uint64_t letters_max = std::max(kLettersMin, share);
  if (account.owed + kOwedForLetter > letters_max * kOwedForLetter) {
    account.is_tripped = true;
    return std::nullopt;
  }
  account.from = account.records == 0 ? lsn : std::min(account.from, lsn);
  account.to = std::max(account.to, lsn);
  account.owed += kOwedForLetter;
  ++account.records;
  std::string mark;
  for (const std::uint64_t part : {account.owed, account.records, account.from, account.to}) {
    mark += (mark.empty() ? "" : "/") + std::to_string(part);
  }
  return mark;
}

void PoisonGuard::TakeBack(Type type) {
  MutexLock lock(mutex_);
  const auto account = accounts_.find(type);
  // Paid for meanwhile.
  if (account == accounts_.end()) return;
  account->second.owed -= std::min(account->second.owed, kOwedForLetter);
  account->second.records -= std::min<std::uint64_t>(account->second.records, 1);
  if (account->second.owed == 0) accounts_.erase(account);
}

void PoisonGuard::OnSettled(std::span<QueuedRecord* const> records) {
  MutexLock lock(mutex_);
  if (accounts_.empty()) return;
  std::map<Type, std::uint64_t> gone_through;
  for (const QueuedRecord* record : records) {
    const auto type = static_cast<Type>(record->type);
    if (record->is_lettered) continue;
    if (!storage::IsRetry(type)) {
      ++gone_through[type];
    } else if (const auto retry = DecodeRetry(record->body)) {
      gone_through[retry->type] += kOwedForLetter;
    }
  }
  for (const auto& [type, count] : gone_through) {
    const auto account = accounts_.find(type);
    if (account == accounts_.end()) continue;
    Pay(&account->second, count);
    if (account->second.owed == 0) accounts_.erase(account);
  }
}

void PoisonGuard::Pay(Account* account, std::uint64_t records) {
  // All were refused, until they had to wait, and now one is not: it has been mended.
  if (account->is_tripped && account->all_refused) account->owed = 0;
  account->all_refused = false;
  account->owed -= std::min(account->owed, records);
  account->records += records;
}

}  // namespace taskwal::pipeline

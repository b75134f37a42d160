// What operators do with dead letters: listing, retrying, purging. The public DeadLetterControl of
// running storage, and the same parts for tools that work on the directory alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file_system.h"
#include "pipeline/flush/dead_letters.h"
#include "taskwal/dead_letters.h"
#include "wal/log.h"

namespace taskwal::pipeline {

DeadLetterInfo InfoOf(const DeadLetter& letter);
// Whether the selection means this letter; never a loss.
bool IsMeant(const DeadLetterSelection& selection, const DeadLetter& letter);

// One line: what `dlq list --json` and the admin API give; `with_operation` as `dlq show` does.
std::string LetterJson(const DeadLetterInfo& letter, bool with_operation);
// {"packet":{"id":…,"messages":[…],"retry_count":…},"final_error":…,"failed_at":…, …}
std::string LetterExportJson(const DeadLetterInfo& letter);

class LetterDesk final : public DeadLetterControl {
 public:
  // A record that retries a letter, and the target it went to.
  struct Sent {
    wal::Lsn lsn = 0;  // 0: not appended
    std::uint16_t target = 0;
  };
  // What running storage lends: all outlive it.
  struct Parties {
    DeadLetters& letters;
    wal::Log& log;
    Clock& clock;
    // Appends a record (level disk) with a stamp of its own; kClosed once calls are refused.
    // `goes_home`: to the target that its key is at home in now, not the header's.
    std::function<Result<Sent>(const wal::RecordHeader&, std::span<const std::byte> body,
                               bool goes_home, std::chrono::milliseconds timeout,
                               const std::stop_token& stop)>
        append;
    // Until everything up to the LSN is in its database, or in dead letters.
    std::function<Status(wal::Lsn, std::chrono::milliseconds)> wait_applied;
  };
  explicit LetterDesk(Parties parties) : parties_(std::move(parties)) {}

  Result<std::vector<DeadLetterInfo>> List(std::uint32_t limit, std::string_view after) override;
  Result<DeadLetterInfo> Get(std::string_view id) override;
  Result<std::vector<RetryOutcome>> Retry(const DeadLetterSelection& selection,
                                          std::chrono::milliseconds timeout) override;
  Result<std::uint64_t> Purge(const DeadLetterSelection& selection) override;

  // Retry in its two steps, for who waits for the database by himself.
  struct Chosen {
    LetterKey key;
    std::string id;
    wal::Lsn origin = 0;
    Sent by;
    std::string error;
  };
  struct Sending {
    std::vector<Chosen> letters;
    wal::Lsn last = 0;  // of those in the log; 0: none
    Status refused;     // why some were not sent: they are letters as before
  };
  // A requested stop ends it; what was sent by then is on its way. kNotFound as Retry.
  Result<Sending> Send(const DeadLetterSelection& selection, std::chrono::milliseconds timeout,
                       const std::stop_token& stop = {});
  // `waited`: for the database to take what was sent.
  Result<std::vector<RetryOutcome>> OutcomesOf(const Sending& sending, const Status& waited) const;

 private:
  Result<std::vector<Chosen>> Select(const DeadLetterSelection& selection) const;
  Result<Sent> Append(const DeadLetter& letter, std::chrono::milliseconds timeout,
                      const std::stop_token& stop);
  Status Await(const Sending& sending, Monotonic until);

  const Parties parties_;
};

// For a directory that no process writes: under its lock (kUnavailable names the holder).
Result<std::uint64_t> PurgeOffline(FileSystem& fs, const std::string& directory,
                                   const DeadLetterSelection& selection);
// Purges from an open store, and gives back the disk. `log`: what it holds, or may hold.
Result<std::uint64_t> PurgeLetters(DeadLetters& letters, const wal::LsnRange& log,
                                   const DeadLetterSelection& selection);

}  // namespace taskwal::pipeline

#include "cli/ack_file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/json_text.h"
#include "base/status_macros.h"
#include "dag/sleep.h"

namespace taskwal::cli {
namespace {

constexpr mode_t kFileMode = 0644;
constexpr std::chrono::milliseconds kReaderPoll{20};

std::string Member(std::string_view name, std::string_view value) {
  return ",\"" + std::string(name) + "\":" + JsonQuote(value);
}

bool IsFifo(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 && S_ISFIFO(found.st_mode);
}

// Opening a FIFO waits for its reader, and no signal of another thread ends that: it is asked again
// and again instead.
Result<UniqueFd> OpenStoppably(const std::string& path, const std::stop_token& stop) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
  for (;;) {
    UniqueFd fd(::open(path.c_str(), kFlags | O_NONBLOCK, kFileMode));
    if (fd.get() >= 0) {
      ::fcntl(fd.get(), F_SETFL, O_APPEND);
      return fd;
    }
    if (errno == EINTR) continue;
    const int error = errno;
    if (error != ENXIO || !IsFifo(path)) return ErrnoStatus("open " + path, error);
    if (!dag::SleepUnlessStopped(kReaderPoll, stop)) {
      return Status::Closed("told to stop before anybody read " + path);
    }
  }
}

// Of a file that may be read and holds something.
bool EndsInsideALine(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode) || found.st_size == 0) {
    return false;
  }
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char last = '\n';
  return ::pread(fd.get(), &last, 1, found.st_size - 1) == 1 && last != '\n';
}

}  // namespace

Result<std::unique_ptr<AckFile>> AckFile::Open(TaskStorage& storage, const std::string& path,
                                               const std::stop_token& stop,
                                               std::stop_token late) {
  TASKWAL_ASSIGN(UniqueFd fd, OpenStoppably(path, stop));
  if (EndsInsideALine(path) && ::write(fd.get(), "\n", 1) != 1) {
    return ErrnoStatus("write " + path, errno);
  }
  return std::unique_ptr<AckFile>(new AckFile(storage, path, std::move(fd), std::move(late)));
}

AckFile::AckFile(TaskStorage& storage, std::string path, UniqueFd fd, std::stop_token late)
    : storage_(storage),
      path_(std::move(path)),
      fd_(std::move(fd)),
      write_bytes_(IsFifo(path_) ? PIPE_BUF : SIZE_MAX),
      late_(std::move(late)) {}

Status AckFile::written() {
  MutexLock lock(mutex_);
  return written_;
}

Result<Ack> AckFile::SaveTask(const Task& task, const WriteOptions& options) {
  TASKWAL_ASSIGN(const Ack ack, storage_.SaveTask(task, options));
  Note(ack.lsn, Member("task_id", task.id) + Member("status", TaskStatusName(task.status)),
       options);
  return ack;
}

Result<Ack> AckFile::SaveTasks(std::span<const Task> tasks, const WriteOptions& options) {
  TASKWAL_ASSIGN(const Ack ack, storage_.SaveTasks(tasks, options));
  std::string ids;
  for (const Task& task : tasks) ids += (ids.empty() ? "" : ",") + JsonQuote(task.id);
  Note(ack.lsn, ",\"task_ids\":[" + ids + "]", options);
  return ack;
}

Result<Ack> AckFile::UpdateTaskStatus(std::string_view id, TaskStatus status,
                                      std::string_view error, const WriteOptions& options) {
  TASKWAL_ASSIGN(const Ack ack, storage_.UpdateTaskStatus(id, status, error, options));
  Note(ack.lsn, Member("task_id", id) + Member("status", TaskStatusName(status)), options);
  return ack;
}

Result<Ack> AckFile::DeleteTask(std::string_view id, const WriteOptions& options) {
  TASKWAL_ASSIGN(const Ack ack, storage_.DeleteTask(id, options));
  Note(ack.lsn, Member("deleted_task_id", id), options);
  return ack;
}

Result<Ack> AckFile::DeleteTasksByDag(std::string_view dag_id, const WriteOptions& options) {
  TASKWAL_ASSIGN(const Ack ack, storage_.DeleteTasksByDag(dag_id, options));
  Note(ack.lsn, Member("deleted_dag_id", dag_id), options);
  return ack;
}

Result<ActivityAck> AckFile::LogActivity(const Activity& activity, const WriteOptions& options) {
  TASKWAL_ASSIGN(ActivityAck ack, storage_.LogActivity(activity, options));
  // Below min_activity_level there is none, and nothing is kept.
  const std::string_view id = ack.id.empty() ? activity.id : ack.id;
  if (ack.lsn > 0) Note(ack.lsn, Member("activity_id", id), options);
  return ack;
}

Status AckFile::Wait(std::uint64_t lsn, WaitFor what, Durability level,
                     std::chrono::milliseconds timeout) {
  TASKWAL_TRY(storage_.Wait(lsn, what, level, timeout));
  MutexLock lock(mutex_);
  if (what != WaitFor::kAppended) WriteUpTo(lsn);
  return {};
}

void AckFile::Note(std::uint64_t lsn, std::string line, const WriteOptions& options) {
  MutexLock lock(mutex_);
  pending_.emplace(lsn, "{\"lsn\":" + std::to_string(lsn) + std::move(line) + "}\n");
  if (options.wait != WaitFor::kAppended) WriteUpTo(lsn);
}

// False where the reader takes nothing, and is waited for no longer.
bool AckFile::AwaitReader() const {
  pollfd output{fd_.get(), POLLOUT, 0};
  while (::poll(&output, 1, static_cast<int>(kReaderPoll.count())) <= 0) {
    if (late_.stop_requested()) return false;
  }
  return true;
}

// In one write(2) where it can be, and under the lock: lines stand in the order of their calls, and
// a kill cuts the last one at most.
void AckFile::WriteUpTo(std::uint64_t lsn) {
  std::string text;
  for (auto line = pending_.begin(); line != pending_.end() && line->first <= lsn;) {
    text += line->second;
    line = pending_.erase(line);
  }
  std::string_view left = text;
  while (!left.empty() && written_.ok()) {
    if (!AwaitReader()) {
      written_ = Status::Unavailable("told to stop, and nobody reads " + path_);
      return;
    }
    const ssize_t bytes = ::write(fd_.get(), left.data(), std::min(left.size(), write_bytes_));
    if (bytes >= 0) {
      left.remove_prefix(static_cast<std::size_t>(bytes));
    } else if (errno != EINTR) {
      written_ = ErrnoStatus("write " + path_, errno);
    }
  }
}

}  // namespace taskwal::cli

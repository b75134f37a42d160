// A question to a storage whose database may not answer for long. It is asked on a thread of its
// own, so that whoever waits can be told to stop, and can go on without the answer.
//
// Used by one thread. One that is still unanswered in the end is left behind: the storage is
// shared with it, so that nothing it uses goes away; for the same reason the process then ends by
// EndProcess, and not by destroying what is global.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <stop_token>
#include <thread>

#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::cli {

void NoteLeftBehind();
// Ends the process as a return from main does. Where a question was left behind nothing is
// destroyed before: its thread, or the driver of a database in it, may use it to the last moment,
// and an answer that comes just then would destroy the storage beside that.
[[noreturn]] void EndProcess(int exit_code);

template <typename Answer>
class Question {
 public:
  Question(std::shared_ptr<TaskStorage> storage,
           std::function<Result<Answer>(TaskStorage&)> question) {
    std::packaged_task<Result<Answer>()> asking(
        [storage = std::move(storage), question = std::move(question)] {
          return question(*storage);
        });
    answer_ = asking.get_future();
    thread_ = std::thread(std::move(asking));
  }
  ~Question() {
    // An answered one ends at once, and before the storage does.
    if (!answer_.valid() || IsAnswered(std::chrono::milliseconds(0))) {
      thread_.join();
    } else {
      NoteLeftBehind();
      thread_.detach();
    }
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  // Until it is answered, the time is up or a stop is requested.
  bool Await(std::chrono::milliseconds patience, const std::stop_token& stop) {
    constexpr std::chrono::milliseconds kSlice{50};
    while (!IsAnswered(std::min(kSlice, patience))) {
      if (stop.stop_requested() || patience.count() == 0) return false;
      patience -= std::min(kSlice, patience);
    }
    return true;
  }
  // Once, when it is answered. What the question threw is thrown here.
  Result<Answer> Take() { return answer_.get(); }

 private:
  bool IsAnswered(std::chrono::milliseconds within) {
    return answer_.wait_for(within) == std::future_status::ready;
  }

  std::future<Result<Answer>> answer_;
  std::thread thread_;
};

}  // namespace taskwal::cli

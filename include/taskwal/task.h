// The data model: Task and Activity as plain values. Limits are in bytes of UTF-8.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace taskwal {

// UTC with microseconds, the resolution of every supported database.
using Time = std::chrono::sys_time<std::chrono::microseconds>;

enum class TaskStatus : std::uint8_t { kPending = 0, kRunning, kCompleted, kFailed, kCancelled };
enum class Level : std::uint8_t { kDebug = 0, kInfo, kWarn, kError, kFatal };

// "pending", "running", … and "debug", "info", …: the spelling in SQL, JSON and the tool.
std::string_view TaskStatusName(TaskStatus status);
std::optional<TaskStatus> ParseTaskStatus(std::string_view name);
std::string_view LevelName(Level level);
std::optional<Level> ParseLevel(std::string_view name);

// completed, failed or cancelled.
constexpr bool IsTerminal(TaskStatus s) {
  return s == TaskStatus::kCompleted || s == TaskStatus::kFailed || s == TaskStatus::kCancelled;
}

inline constexpr std::size_t kIdBytesMax = 255;            // ids, action, processing_state
inline constexpr std::size_t kSubDagPathBytesMax = 4096;
inline constexpr std::size_t kMessageBytesMax = 1u << 20;  // message, error
inline constexpr std::size_t kJsonBytesMax = 16u << 20;    // payload, data
inline constexpr std::size_t kJsonDepthMax = 10'000;       // arrays and objects within each other

struct Task {
  std::string id;  // required
  std::string dag_id;
  std::string node_id;
  std::string current_node_id;
  std::string sub_dag_path;
  std::string processing_state;
  TaskStatus status = TaskStatus::kPending;
  std::optional<std::string> payload;  // JSON text, given back byte for byte; absent is NULL
  std::string error;
  std::int32_t retry_count = 0;
  std::int32_t max_retries = 0;
  std::int32_t priority = 0;
  // Absent in a SaveTask: created_at keeps what the stored task has (now for a new one), updated_at
  // is now. Always set in what a query returns. Where several logs save one task the last
  // created_at that is given stands, else the time of the first call, in whatever order they come.
  std::optional<Time> created_at;
  std::optional<Time> updated_at;
  std::optional<Time> started_at;
  std::optional<Time> completed_at;

  friend bool operator==(const Task&, const Task&) = default;
};

struct Activity {
  // Made (time-ordered) when empty. One id names one activity: of several in one database the first
  // stays (with several databases: docs/OPERATIONS.md).
  std::string id;
  std::string task_id;
  std::string dag_id;
  std::string node_id;
  std::string action;
  std::string message;
  std::optional<std::string> data;  // JSON text
  Level level = Level::kInfo;
  std::optional<Time> created_at;  // now when absent
  std::int32_t priority = 3;       // 1 (lowest) to 5; only shapes shedding

  friend bool operator==(const Activity&, const Activity&) = default;
};

// RFC 3339 text. Format gives "2026-11-21T06:00:00.123456Z"; Parse wants a zone and takes 0 to 9
// digits of a second (more than 6 are cut).
std::string FormatTime(Time time);
std::optional<Time> ParseTime(std::string_view text);

}  // namespace taskwal

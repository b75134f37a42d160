// The one logger (spdlog). Changes of state only, as key=value; never a line per record.
#pragma once

#include <spdlog/spdlog.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace taskwal {

// The logger in force: that of the last LoggerLease, else given by SetLogger, else one that writes
// warnings and errors to stderr.
spdlog::logger& Logger();

// A logger in force for as long as the object lives; several at once: the last one taken. Nothing
// for null.
class LoggerLease {
 public:
  explicit LoggerLease(std::shared_ptr<spdlog::logger> logger);
  ~LoggerLease();
  LoggerLease(const LoggerLease&) = delete;
  LoggerLease& operator=(const LoggerLease&) = delete;

 private:
  const std::shared_ptr<spdlog::logger> logger_;
};

// Shared ownership is spdlog's own way with loggers.
void SetLogger(std::shared_ptr<spdlog::logger> logger);

// One that hands `take` what is warned of one event: the text behind its name. Any thread; `take`
// is not called twice at once.
std::shared_ptr<spdlog::logger> MakeEventLogger(const std::string& event,
                                                std::function<void(std::string_view)> take);

}  // namespace taskwal

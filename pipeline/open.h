// What taskwal/open.h offers, for those who may be told to stop while a database does not answer.
#pragma once

#include <memory>
#include <stop_token>
#include <string_view>

#include "taskwal/options.h"
#include "taskwal/status.h"
#include "taskwal/task_storage.h"

namespace taskwal::pipeline {

// As OpenTaskStorage. A requested stop ends the wait for the databases, as if they had not answered
// in time.
Result<std::unique_ptr<TaskStorage>> OpenStorage(std::string_view dsn, Options options,
                                                 const std::stop_token& stop);
Result<std::unique_ptr<TaskStorage>> OpenStorage(Options options, const std::stop_token& stop);

}  // namespace taskwal::pipeline

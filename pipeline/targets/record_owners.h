// Whether every record that the log holds is of a target that STATE names. Where STATE was rebuilt
// and TARGETS is no help it may not be: who is passed over by all is retired, and lost.
#pragma once

#include <string>

#include "base/file_system.h"
#include "taskwal/status.h"
#include "wal/log.h"

namespace taskwal::pipeline {

// Reads all of the log where STATE was rebuilt without targets, and else nothing. kCorruption:
// records are of targets that nobody knows, or tasks at home where nobody knows, and nobody is to
// be fed. kIoError as reading.
Status CheckRecordOwners(FileSystem& fs, wal::Log& log, const std::string& directory);

}  // namespace taskwal::pipeline

// Whether every record that the log holds is of a target that STATE names. Where STATE was rebuilt
// and TARGETS is no help it may not be: who is passed over by all is retired, and lost.
#pragma once

#include "base/file_system.h"
#include "recovery/identity.h"
#include "recovery/survey.h"
#include "taskwal/status.h"

namespace taskwal::recovery {

// Reads all of the log, its ring included, where STATE is damaged, was rebuilt and has met no
// database since, or lacks a list (LacksList), and else nothing; changes nothing. kCorruption:
// records are of targets that nobody knows, or tasks at home where nobody knows, and nobody is to
// be fed. kIoError as reading.
Status CheckRecordOwners(FileSystem& fs, const Survey& survey);

// TARGETS is there and damaged, and STATE names no target.
bool LacksList(const LogIdentity& identity);

}  // namespace taskwal::recovery

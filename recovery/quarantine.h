// quarantine/: where recovery puts what it takes out of the log. Nothing reads it and nothing
// deletes it but a person. Durable on return, safe to repeat after a crash at any point.
#pragma once

#include <cstdint>
#include <string>

#include "base/file_system.h"
#include "taskwal/status.h"

namespace taskwal::recovery {

// A stretch of a file of the log directory.
struct FilePart {
  std::string file;
  std::uint64_t from = 0;
  std::uint64_t to = UINT64_MAX;  // or the end of the file
};

// Copies it to quarantine/`name`, replacing what a repeated run left there.
Status CopyToQuarantine(FileSystem& fs, const std::string& directory, const FilePart& part,
                        const std::string& name);

// Moves a whole file there, by rename; returns its name there.
Result<std::string> MoveToQuarantine(FileSystem& fs, const std::string& directory,
                                     const std::string& file);

// `file` if quarantine/ has none of that name, else with ".2", ".3"… behind it.
Result<std::string> FreeQuarantineName(FileSystem& fs, const std::string& directory,
                                       const std::string& file);

// Highest segment number that something in quarantine/ was made under; 0 when there is none.
Result<std::uint64_t> HighestQuarantined(FileSystem& fs, const std::string& directory);

}  // namespace taskwal::recovery

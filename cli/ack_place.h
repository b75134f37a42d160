// Where `taskwal run --acks` may write: on nothing that the run itself reads or keeps.
#pragma once

#include <string>
#include <vector>

#include "taskwal/options.h"
#include "taskwal/status.h"

namespace taskwal::cli {

struct AckPlace {
  std::string acks;  // empty: none are written
  std::string workflow;
  std::string wal_dir;
  std::vector<std::string> given;  // databases as on the command line: @FILE names one
  std::vector<TargetOptions> targets;
};

// Opens, makes and changes nothing. Other names of a file (links, "..") are seen through, whether
// it is there or yet to be made. kInvalidArgument says what the file is.
Status CheckAckPlace(const AckPlace& place);

}  // namespace taskwal::cli

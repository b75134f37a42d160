// The machine's file system: what FileSystem::Real() gives. Files are made with mode 0600,
// directories with 0700, and every descriptor is closed on exec.
#pragma once

#include "base/file_system.h"

namespace taskwal {

// Process-wide, from any thread: false makes WriteAndSync use pwrite and fdatasync. Where the
// kernel refuses io_uring they are used in any case.
void SetIoUringAllowed(bool allowed);

}  // namespace taskwal

// Whether the kernel takes io_uring, asked past every setting of this process, and what a test sees
// of its use.
#pragma once

namespace taskwal {

// Asked once in a process.
bool KernelTakesIoUring();
// Kernel queues that this process has open.
int OpenIoUringQueues();

// For a test of the way through io_uring: where the kernel refuses it, nothing is shown.
#define SKIP_WITHOUT_IO_URING() \
  if (!::taskwal::KernelTakesIoUring()) GTEST_SKIP() << "the kernel refuses io_uring"

}  // namespace taskwal

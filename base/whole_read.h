// Reads that may come short, put together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "taskwal/status.h"

namespace taskwal {

// Reads from `offset` on until `into` is full or there is no more; how much that was, or the first
// error. `read_some(offset, into)` returns a Result<std::size_t>: what it got, 0 only at the end.
template <typename ReadSome>
Result<std::size_t> ReadWhole(std::uint64_t offset, std::span<std::byte> into,
                              ReadSome&& read_some) {
  std::size_t done = 0;
  while (done < into.size()) {
    const Result<std::size_t> count = read_some(offset + done, into.subspan(done));
    if (!count.ok()) return count.status();
    if (*count == 0) break;
    done += *count;
  }
  return done;
}

}  // namespace taskwal

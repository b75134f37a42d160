// The machine's RingFile: one file, its ring part mapped twice in a row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/file_system.h"
#include "base/posix_file.h"
#include "taskwal/status.h"

namespace taskwal {

inline constexpr std::uint64_t kRingHeaderBytes = 4096;

enum class RingAccess : std::uint8_t { kRead, kReadWrite };
// Maps `fd`, which must hold kRingHeaderBytes + ring_bytes for as long as the mapping lives.
Result<std::unique_ptr<RingFile>> MapRing(UniqueFd fd, const std::string& path,
                                          std::uint64_t ring_bytes, RingAccess access);

Result<std::unique_ptr<RingFile>> CreatePosixRing(const std::string& path,
                                                  std::uint64_t ring_bytes);
// To be read: a store into it would fault. Changes nothing.
Result<std::unique_ptr<RingFile>> OpenPosixRing(const std::string& path);

}  // namespace taskwal

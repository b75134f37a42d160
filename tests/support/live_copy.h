// A copy of a log directory whose process is alive, as `cp -r` takes it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace taskwal {

// What goes away between the listing and the copy, as a temporary file does, is left out; what the
// copy has already stays.
inline void CopyAlive(const std::string& from, const std::string& to) {
  namespace fs = std::filesystem;
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const fs::path target = fs::path(to) / entry.path().filename();
    std::error_code failed;
    fs::copy(entry.path(), target, fs::copy_options::recursive | fs::copy_options::skip_existing,
             failed);
    EXPECT_TRUE(!failed || failed == std::errc::no_such_file_or_directory)
        << entry.path() << ": " << failed.message();
  }
}

}  // namespace taskwal

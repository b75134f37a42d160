// Sleeping on a word of memory (Linux futex; Franke, Russell and Kirkwood, OLS 2002): whoever wakes
// needs no mutex, so that many sleepers woken at once do not queue up behind one another.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace taskwal {

// Sleeps while `word` is `expected`, at most until `until`; it may wake for no reason.
void FutexWait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
               std::chrono::steady_clock::time_point until);
// Wakes all that sleep on `word`.
void FutexWakeAll(const std::atomic<std::uint32_t>& word);

}  // namespace taskwal

// A time as text without making a string: for rows written by the million. FormatTime
// (taskwal/task.h) is the same as a string.
#pragma once

#include <array>

#include "taskwal/task.h"

namespace taskwal {

// "2026-11-21T06:00:00.123456Z" and a NUL. What four digits of a year cannot say is the nearest
// time that they can.
using TimeText = std::array<char, 28>;
void PutTime(Time time, TimeText* text);

}  // namespace taskwal

// "Did you mean": for messages about a name that is not known.
#pragma once

#include <span>
#include <string_view>

namespace taskwal {

// The known name that takes the fewest insertions, removals and changes of a character; the first
// of several, and empty where none is known.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> known);

}  // namespace taskwal

// "Did you mean": for messages about a name that is not known.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace taskwal {

// The known name that takes the fewest insertions, removals and changes of a character, and swaps
// of two neighbours; the first of several, and empty where none is known.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> known);

// "; did you mean "x"?", the name behind `prefix`; or nothing where none is near: where more than
// one slip and more than a third of `name` lie between them, it would mislead.
std::string DidYouMean(std::string_view name, std::span<const std::string_view> known,
                       std::string_view prefix = {});

}  // namespace taskwal

// YAML as text, before it is parsed, or where it cannot be.
#pragma once

#include <string>
#include <string_view>

namespace taskwal {

// Whether something stands behind the first document. yaml-cpp's LoadAll would collect documents
// without end from a stray comma.
bool HasSecondYamlDocument(std::string_view text);

// For an error met in that line, counted from 0: what to do where an unquoted value in it is none
// to YAML, as `memory:` and `@file` are. Empty where there is none; else it begins with "; ".
std::string QuotingAdvice(std::string_view text, int line);

}  // namespace taskwal

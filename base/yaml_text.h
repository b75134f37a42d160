// YAML as text, before it is parsed.
#pragma once

#include <string_view>

namespace taskwal {

// Whether something stands behind the first document. yaml-cpp's LoadAll would collect documents
// without end from a stray comma.
bool HasSecondYamlDocument(std::string_view text);

}  // namespace taskwal

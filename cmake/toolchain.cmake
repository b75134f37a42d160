set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
find_program(TASKWAL_CCACHE ccache)
if(TASKWAL_CCACHE)
  # Precompiled headers are only cached when time stamps and unused macros do not count.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${TASKWAL_CCACHE})
endif()
find_program(TASKWAL_MOLD mold)
if(TASKWAL_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # std::stable_sort of libstdc++ 12 calls what libstdc++ 12 itself deprecates.
  add_compile_options(-Wthread-safety -Wno-deprecated-declarations)
else()
  # g++ 12 sees uninitialised, overlapping and short memory in inlined optionals and strings
  # (GCC PR 105562, 105651): wrong each time, and only with optimisation.
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict -Wno-array-bounds
    -Wno-stringop-overflow)
endif()

if(TASKWAL_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(TASKWAL_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(NOT TASKWAL_SANITIZE STREQUAL "")
  message(FATAL_ERROR "TASKWAL_SANITIZE must be address, thread or empty")
endif()
if(TASKWAL_FUZZ OR NOT TASKWAL_SANITIZE STREQUAL "")
  # What the sanitizers add to inline functions of headers takes most of the time: once for six
  # sources. The other builds show that each source includes what it needs.
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 6)
endif()
if(TASKWAL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "The fuzzers need clang++-19: use the preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
endif()

# How every target of the tree is built, and what a layer may see.
#
# A layer is a folder of src/. Its folder is its include path, so that a layer
# sees the headers of the layers that it names in USES (and of those that these
# show in their own headers) and no others; a third-party header is only on the
# path of the layer that owns it (NEEDS). File names are unique in the tree.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)

add_library(gradecho_flags INTERFACE)
target_compile_definitions(gradecho_flags INTERFACE _GNU_SOURCE)
target_compile_options(gradecho_flags INTERFACE
  -Wall -Wextra -Wpedantic
  # Not for who builds the library alone, by a compiler that we have not seen.
  $<$<BOOL:${GRADECHO_PROGRAM}>:-Werror>
  -Wconversion -Wshadow -Wundef -Wvla -Wformat=2 -Wcast-qual -Wcast-align
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
  -Wdouble-promotion -Wnull-dereference -Wwrite-strings
  # A sum's value must not depend on the compiler's mood.
  -ffp-contract=off
  -fvisibility=hidden)
if(GRADECHO_SANITIZE)
  target_compile_options(gradecho_flags INTERFACE
    -fsanitize=${GRADECHO_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(gradecho_flags INTERFACE -fsanitize=${GRADECHO_SANITIZE})
endif()
if(GRADECHO_FUZZ) # coverage for the fuzzer; its own main comes with the targets
  target_compile_options(gradecho_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# gradecho_layer(NAME SOURCES ... [USES layers] [NEEDS third-party targets])
function(gradecho_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES;NEEDS")
  add_library(ge_${name} STATIC ${arg_SOURCES})
  set_target_properties(ge_${name} PROPERTIES
    POSITION_INDEPENDENT_CODE ON)
  target_include_directories(ge_${name} PUBLIC
    ${CMAKE_CURRENT_SOURCE_DIR}/${name} ${PROJECT_SOURCE_DIR}/include)
  list(TRANSFORM arg_USES PREPEND ge_)
  target_link_libraries(ge_${name}
    PUBLIC ${arg_USES} PRIVATE gradecho_flags ${arg_NEEDS} m)
endfunction()

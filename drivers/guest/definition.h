// Guest files: what a user writes to describe a guest, in TOML. Pure but for reading the file; any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "drivers/guest/guest.h"

namespace sluice::guest {

// True for a name that can be a directory, a socket and a file name: [a-z0-9][a-z0-9-]{0,62}.
[[nodiscard]] bool is_valid_guest_name(std::string_view name);

// The definition in `text`. Errors read "SOURCE:LINE:COLUMN: what is wrong and what is expected"; a
// key that is not known is refused by name, so that a typing mistake never becomes a silent
// default.
[[nodiscard]] Expected<Definition> parse_definition(std::string_view text,
                                                    const std::string& source);

// The same from a file; kNotFound if it cannot be read.
[[nodiscard]] Expected<Definition> load_definition(const std::string& path);

// A guest file that parse_definition() reads as this very definition.
[[nodiscard]] std::string to_toml(const Definition& definition);

}  // namespace sluice::guest

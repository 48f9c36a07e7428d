// Patch plans as the controller reads them. See docs/patching.md.
#pragma once

#include <string>

#include "dataplane/base/expected.h"

namespace sluice::cli {

// The plan behind `sluice drain HOST`. Pure.
[[nodiscard]] std::string drain_plan(const std::string& host);

// The text of a plan file in which canary.guest_file, a path beside the plan, is replaced by that
// file's text as canary.definition, since the controller cannot see the file. Lines keep their
// numbers. kNotFound and kInvalid name the file.
[[nodiscard]] Expected<std::string> read_plan(const std::string& path);

}  // namespace sluice::cli

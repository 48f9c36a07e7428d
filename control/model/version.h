// Which Sluice this is.
#pragma once

namespace sluice::model {

// "0.1.0".
[[nodiscard]] const char* version();
// The git revision it was built from, "3f2a…" with "-dirty" if files were changed; "unknown"
// outside of a checkout.
[[nodiscard]] const char* revision();

}  // namespace sluice::model

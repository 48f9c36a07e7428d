// Set-up code returns Expected; the hot path drops and counts instead (see engine/probe.h).
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace sluice {

// What kind of failure it is, so that a caller can choose an exit status or a retry without reading
// text.
enum class ErrorKind : std::uint8_t {
  kInvalid = 1,     // bad input: a flag, a file, a name that does not parse
  kNotFound,        // a named thing does not exist
  kBusy,            // it exists but is in use (a guest that already moves)
  kUnsupported,     // this kernel, QEMU or device cannot do it
  kNoCapacity,      // memory, disk or another bounded resource is lacking
  kPermission,      // the process may not do it
  kUnreachable,     // a peer or a socket does not answer
  kFailed,          // it was tried and failed; nothing changed
  kUnknownOutcome,  // it was tried and the result cannot be known yet
};

// An error a person can act on: `message` names the thing and the remedy, in one line, no trailing
// stop.
struct Error {
  ErrorKind kind = ErrorKind::kFailed;
  std::string message;
};

template <typename T>
using Expected = tl::expected<T, Error>;

// Shorthand for returning an error from a function that returns Expected.
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorKind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}

}  // namespace sluice

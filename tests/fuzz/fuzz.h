// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput(); libFuzzer calls
// it with inputs that it makes up (scripts/fuzz), replay.cc with those kept in corpus/ and
// regressions/.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "dataplane/base/expected.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace sluice::fuzz {

// What must hold whatever the input. Ends the process otherwise, which is a finding.
inline void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "violated: %s\n", what);
    std::abort();
  }
}

// Whether a parser took its input. One that does not says what is wrong with it.
template <typename Value>
bool accepted(const Expected<Value>& parsed) {
  if (parsed) {
    return true;
  }
  require(parsed.error().kind == ErrorKind::kInvalid, "what makes no sense is invalid");
  require(!parsed.error().message.empty(), "an error says what is wrong");
  return false;
}

// Reads numbers off the input; 0 where it has ended.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }
  template <typename Integer>
  Integer take() {
    Integer value = 0;
    const std::size_t bytes = std::min(sizeof(value), rest_.size());
    if (bytes > 0) {
      std::memcpy(&value, rest_.data(), bytes);
    }
    rest_ = rest_.subspan(bytes);
    return value;
  }
  // 0..bound-1, from two bytes.
  std::size_t below(std::size_t bound) { return take<std::uint16_t>() % bound; }
  [[nodiscard]] std::span<const std::byte> rest() const { return std::as_bytes(rest_); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace sluice::fuzz

// Secrets of a session, wiped from memory when they are no longer needed, and the keys derived from
// them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "dataplane/base/expected.h"
#include "dataplane/wire/frame.h"

namespace sluice {

// 32 bytes that are wiped when they go out of scope, and where they were moved from.
class Secret {
 public:
  static constexpr std::size_t kBytes = 32;

  Secret() = default;
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  // From the operating system's randomness, through OpenSSL. kFailed if that has none.
  [[nodiscard]] static Expected<Secret> make();
  // kInvalid unless it is kBytes long.
  [[nodiscard]] static Expected<Secret> from_bytes(std::string_view bytes);

  [[nodiscard]] std::span<std::byte, kBytes> bytes() { return bytes_; }
  [[nodiscard]] std::span<const std::byte, kBytes> bytes() const { return bytes_; }

 private:
  std::array<std::byte, kBytes> bytes_{};
};

// Overwrites the characters with zeros, in a way that the compiler does not leave out.
void wipe(std::string& text);

// HKDF with SHA-256 (RFC 5869), extract and expand. kFailed with OpenSSL's reason; `out` has 1 to
// 8160 bytes.
[[nodiscard]] Expected<void> hkdf_sha256(std::span<const std::byte> secret,
                                         std::span<const std::byte> salt,
                                         std::span<const std::byte> info, std::span<std::byte> out);

// The AES-256 key of one type of frames of one flow, from the session's secret. No two of a session
// are equal, so that sequence numbers can serve as nonces.
[[nodiscard]] Expected<Secret> derive_frame_key(const Secret& secret, std::uint64_t session,
                                                std::uint16_t flow, wire::FrameType type);

}  // namespace sluice

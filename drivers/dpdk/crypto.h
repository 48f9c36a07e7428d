// AES-256-GCM for frames, on the calling thread, through DPDK's crypto_aesni_gcm device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/base/expected.h"
#include "dataplane/port/frame_key.h"
#include "drivers/base/secret.h"

namespace sluice::dpdk {

inline constexpr const char* kCipherName = "aes-256-gcm";

// Frames processed in one call at most.
inline constexpr std::size_t kCipherBurstMax = 32;

enum class KeyUse : std::uint8_t { kSeal = 1, kOpen };

// An AES-256 key, expanded, for one purpose and a fixed length of associated data.
class GcmKey final : public port::FrameKey {
 public:
  ~GcmKey() override;

 private:
  friend class Crypto;
  friend void run_cipher(const GcmKey& key, std::span<struct CipherJob> jobs) noexcept;
  struct Device;
  GcmKey(std::shared_ptr<Device> device, void* session)
      : device_(std::move(device)), session_(session) {}

  std::shared_ptr<Device> device_;
  void* session_;
};

class Crypto {
 public:
  // After the EAL has started, once a process. kUnsupported: the CPU has no AES instructions, or
  // DPDK's driver is not installed.
  [[nodiscard]] static Expected<std::unique_ptr<Crypto>> start();

  // Any thread. kNoCapacity: too many sessions at once. `associated_bytes` is the length of a frame
  // header but in tests against published vectors.
  [[nodiscard]] Expected<std::unique_ptr<GcmKey>> make_key(
      const Secret& key, KeyUse use, std::size_t associated_bytes = wire::kFrameHeaderBytes) const;

 private:
  explicit Crypto(std::shared_ptr<GcmKey::Device> device) : device_(std::move(device)) {}
  std::shared_ptr<GcmKey::Device> device_;
};

// One text to be encrypted or decrypted in place.
struct CipherJob {
  std::array<std::byte, wire::kNonceBytes> nonce{};
  std::byte* associated = nullptr;
  std::span<std::byte> text;
  std::byte* tag = nullptr;  // kTagBytes: written when sealing, compared when opening
  bool done = false;         // set: sealed, or opened and authentic
};

// At most kCipherBurstMax jobs with one key. Neither allocates nor blocks, but for the first call
// on a thread.
void run_cipher(const GcmKey& key, std::span<CipherJob> jobs) noexcept;

// Seals or opens whole frames in place, as their keys are for, and sets `authentic`. The nonce is
// the header's sequence number. Keys are GcmKeys; frames that follow each other with the same key
// are processed in one call.
void process_frames(std::span<port::SealedFrame> frames) noexcept;

}  // namespace sluice::dpdk

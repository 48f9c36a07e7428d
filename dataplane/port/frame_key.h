// Keys of a flow's frames as the engine passes them on, and frames to be opened. What a key is,
// only the driver knows that made it.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "dataplane/wire/frame.h"

namespace sluice::port {

// Seals or opens the frames of one type of one flow. Used by one worker at a time; wiped when
// destroyed.
class FrameKey {
 public:
  FrameKey() = default;
  virtual ~FrameKey() = default;
  FrameKey(const FrameKey&) = delete;
  FrameKey& operator=(const FrameKey&) = delete;
};

// One end's keys of one flow: those of the types it sends seal, the others open.
class FlowKeys {
 public:
  void set(wire::FrameType type, std::unique_ptr<const FrameKey> key) {
    keys_.at(static_cast<std::size_t>(type)) = std::move(key);
  }
  [[nodiscard]] const FrameKey* of(wire::FrameType type) const {
    return keys_[static_cast<std::size_t>(type)].get();
  }

 private:
  std::array<std::unique_ptr<const FrameKey>,
             static_cast<std::size_t>(wire::kFrameTypes.back()) + 1>
      keys_;
};

// A frame that arrived sealed, in one piece: header, body, tag, and nothing behind it.
struct SealedFrame {
  std::span<std::byte> bytes;
  const FrameKey* key = nullptr;
  bool authentic = false;  // set by open(): the body is what the peer sealed, and is decrypted
};

}  // namespace sluice::port

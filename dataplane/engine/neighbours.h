// A worker's part in finding addresses on its link: it answers who asks for its port's address, and
// hears the answers to what its host asked. Pure: time is passed in.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "dataplane/base/units.h"
#include "dataplane/port/port.h"
#include "dataplane/wire/neighbour.h"

namespace sluice::engine {

class Neighbours {
 public:
  // Answers one worker gives: a burst at once, later one each kAnswerEveryNs. Whoever asks in vain
  // asks again.
  static constexpr std::uint32_t kAnswersAtOnce = 32;
  static constexpr TimeNs kAnswerEveryNs = 10 * kMillisecondNs;
  // Requests of this host that wait for an answer at a time; a new one takes the oldest's place.
  static constexpr std::size_t kRequestsMax = 4;

  explicit Neighbours(const wire::Endpoint& local) : local_(local) {}

  enum class Verdict : std::uint8_t {
    kNothing = 1,  // the packet is neither a request nor an answer for us
    kAnswer,       // `out` is to be sent
    kTooMany,      // a request too many: it stays without answer
    kFound,        // found() says what
  };
  // Looks at a packet that is not a frame for this worker.
  [[nodiscard]] Verdict look_at(std::span<const std::byte> packet, TimeNs now,
                                port::OutgoingPacket& out) {
    if (const std::size_t bytes = wire::answer_neighbour_request(packet, local_, out.head)) {
      out.head_bytes = static_cast<std::uint16_t>(bytes);
      out.slices = 0;
      out.key = nullptr;
      return take_permission(now) ? Verdict::kAnswer : Verdict::kTooMany;
    }
    const auto answer = wire::parse_neighbour_answer(packet, local_);
    if (!answer) {
      return Verdict::kNothing;
    }
    for (Request& request : requests_) {
      if (request.id != 0 && request.address == answer->address) {
        found_ = {request.id, answer->mac};
        request.id = 0;
        return Verdict::kFound;
      }
    }
    return Verdict::kNothing;
  }

  // Waits for an answer about `address`, to be reported once under `id`, which is not 0.
  void expect(std::uint64_t id, const wire::IpAddress& address) {
    for (Request& request : requests_) {
      if (request.id == id) {
        return;
      }
    }
    requests_[next_request_++ % kRequestsMax] = {id, address};
  }
  void ask(const wire::IpAddress& address, port::OutgoingPacket& out) const {
    out.head_bytes =
        static_cast<std::uint16_t>(wire::encode_neighbour_request(local_, address, out.head));
    out.slices = 0;
    out.key = nullptr;
  }

  struct Found {
    std::uint64_t id = 0;
    wire::MacAddress mac{};
  };
  [[nodiscard]] const Found& found() const { return found_; }

 private:
  struct Request {
    std::uint64_t id = 0;  // 0: none
    wire::IpAddress address;
  };

  bool take_permission(TimeNs now) {
    const std::uint64_t earned = (now - refilled_ns_) / kAnswerEveryNs;
    permissions_ =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(permissions_ + earned, kAnswersAtOnce));
    refilled_ns_ += earned * kAnswerEveryNs;
    if (permissions_ == 0) {
      return false;
    }
    --permissions_;
    return true;
  }

  wire::Endpoint local_;
  std::uint32_t permissions_ = kAnswersAtOnce;
  TimeNs refilled_ns_ = 0;
  std::array<Request, kRequestsMax> requests_{};
  std::size_t next_request_ = 0;
  Found found_;
};

}  // namespace sluice::engine

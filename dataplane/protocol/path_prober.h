// Finds the largest frame that really arrives at the peer: packetization layer path MTU discovery
// (RFC 8899) with frames of their own, PROBE and PROBE_REPLY, since data frames do not say of what
// size they were lost. Pure: no I/O, time is passed in.
//
//          begin()                          a reply to the largest, or rounds over
//   idle ------------> searching: rounds ------------------------------------------> idle
//                      of probes                     verdict()
//
// Sizes are those of a table (RFC 8899, 5.3.2), not of a bisection: a path is as wide as one of a
// few kinds of link, and every wrong guess of a bisection would cost a timeout. All sizes of a
// round are under way at once, the largest first, so that a search costs the same few round trips
// whatever it finds. A search never raises the size: sessions are short.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dataplane/base/units.h"
#include "dataplane/wire/frame.h"

namespace sluice::protocol {

// IPv4 packet sizes, largest first. Among them: what carries two pages or one; jumbo frames and
// Ethernet with and without room for VXLAN's 50 bytes; AF_XDP's buffer; PPPoE; IPv6's minimum.
inline constexpr std::array<std::size_t, 16> kPathSizes = {
    65'535, 32'768, 16'384, 9'216, 9'000, 8'950, 8'600, 4'500,
    3'498,  2'304,  1'500,  1'492, 1'450, 1'400, 1'280, 640};

// Rounds of probes in which a smaller size arrived and the larger ones did not, before the larger
// ones are given up: MAX_PROBES of RFC 8899, 5.1.2.
inline constexpr std::uint32_t kProbeRoundsMax = 3;
// A round lasts at least so long, whatever the round-trip time: a receiver whose core is shared may
// be late.
inline constexpr TimeNs kProbeRoundMinNs = 40 * kMillisecondNs;
// When nothing of any size arrives for so long, nothing will. A search before the first page may
// wait: the guest is not touched yet, and a receiver whose core is shared with too many others has
// been seen to answer after more than three seconds. Later the peer's silence ends the wait sooner.
inline constexpr TimeNs kProbeSilentNs = 8 * kSecondNs;
// From the end of a search to the next that a suspicion begins.
inline constexpr TimeNs kSearchPauseNs = 200 * kMillisecondNs;

class PathProber {
 public:
  // `mtu` is what both ends agreed on, wire::kMtuMin and more.
  explicit PathProber(std::size_t mtu, wire::Protection protection = wire::Protection::kChecksum)
      : mtu_(mtu), protection_(protection) {}

  // The largest size not yet known to be too large.
  [[nodiscard]] std::size_t mtu() const { return mtu_; }
  [[nodiscard]] bool searching() const { return searching_; }
  // The search under way has had a reply: the peer is there, and a verdict comes within
  // kProbeRoundsMax rounds.
  [[nodiscard]] bool answered() const { return searching_ && arrived_ < candidates_; }
  // A suspicion may begin a search: none is under way, and the last one is long enough ago.
  [[nodiscard]] bool may_search(TimeNs now) const { return !searching_ && now >= next_search_ns_; }

  enum class Because : std::uint8_t {
    kUnknown = 1,  // the path was never probed: the first round is of mtu() alone
    kSuspicion,    // large frames are lost (RFC 8899, 4.3): all sizes at once
  };
  // Begins a search with rounds of `round_ns`, which should exceed the round-trip time. One that is
  // under way goes on instead.
  void begin(Because because, TimeNs round_ns, TimeNs now);

  // A frame to be sent now.
  struct Probe {
    Sequence sequence = 0;
    std::size_t mtu = 0;  // size of its IPv4 packet
  };
  [[nodiscard]] std::optional<Probe> next_probe(TimeNs now);
  // The port was full: the last one did not leave and is due again, under a new number.
  void undo_last_probe() { --next_; }

  // For so long nobody asked and nobody could hear: that is not the path's silence.
  void excuse_standstill(TimeNs stood_ns) { began_ns_ += stood_ns; }

  // False: the reply answers no probe of the search under way.
  bool on_reply(const wire::ProbeReplyFrame& reply, TimeNs now);

  // The shortest time from a probe to its reply in all searches; 0: none was answered.
  [[nodiscard]] TimeNs round_trip_ns() const { return round_trip_ns_; }

  // The end of a search, told once: the size found, which is mtu() from then on, or 0 if nothing
  // arrived.
  [[nodiscard]] std::optional<std::size_t> verdict(TimeNs now);

 private:
  void begin_round(std::size_t sizes, TimeNs now);
  [[nodiscard]] std::size_t size(std::size_t index) const {
    return index == 0 ? mtu_ : kPathSizes[table_at_ + index - 1];
  }
  [[nodiscard]] std::size_t end_search(std::size_t found, TimeNs now);

  std::size_t mtu_;
  wire::Protection protection_;
  bool searching_ = false;
  TimeNs next_search_ns_ = 0;
  Sequence next_sequence_ = 1;
  TimeNs round_trip_ns_ = 0;
  // The latest probe of each candidate.
  struct Asked {
    Sequence sequence = 0;
    TimeNs sent_ns = 0;
  };
  std::array<Asked, 1 + kPathSizes.size()> asked_{};

  // Of the search under way. Candidate 0 is mtu_, the others are kPathSizes from table_at_ on.
  Sequence first_sequence_ = 0;
  std::size_t table_at_ = 0;
  std::size_t candidates_ = 0;
  std::size_t arrived_ = 0;  // the largest candidate that arrived; candidates_: none
  std::uint32_t rounds_with_replies_ = 0;
  TimeNs began_ns_ = 0;
  TimeNs round_ns_ = 0;
  TimeNs round_ends_ns_ = 0;
  std::size_t next_ = 0;  // candidate to send next in this round
  std::size_t round_end_ = 0;
};

}  // namespace sluice::protocol

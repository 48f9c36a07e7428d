#include "drivers/sim/network.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "dataplane/wire/frame.h"
#include "drivers/sim/clock.h"

namespace sluice::sim {
namespace {

// No session of a simulation sends so many frames.
constexpr Sequence kBeyondAllFrames = 1U << 20U;

bool arrives_later(const Packet& a, const Packet& b) {
  return a.arrival_ns != b.arrival_ns ? a.arrival_ns > b.arrival_ns : a.serial > b.serial;
}

std::span<const std::byte> frame_of(std::span<const std::byte> packet) {
  return packet.subspan(std::min(packet.size(), wire::kPacketPrefixBytes));
}

bool is_ack(std::span<const std::byte> packet) {
  wire::DropReason reason{};
  const auto key = wire::peek(frame_of(packet), reason);
  return key && key->type == wire::FrameType::kAck;
}

TimeNs transmission_ns(std::size_t bytes, std::uint64_t bits_per_second) {
  return bits_per_second == 0 ? 0 : bytes * 8 * kSecondNs / bits_per_second;
}

// A frame in the clear fills its packet.
bool sealed(std::span<const std::byte> frame) {
  wire::DropReason reason{};
  const auto key = wire::peek(frame, reason);
  return key && frame.size() == wire::kFrameHeaderBytes + key->body_bytes + wire::kTagBytes;
}

std::string describe_records(const wire::DataFrame& frame) {
  static constexpr std::array<const char*, 4> kNames = {"?", "raw", "zero", "fragment"};
  std::string text;
  char part[96];
  for (std::size_t i = 0; i < frame.header.records; ++i) {
    const wire::Record& record = frame.records[i];
    std::snprintf(part, sizeof(part), " %s %llu+%u", kNames[static_cast<std::size_t>(record.type)],
                  static_cast<unsigned long long>(record.page), unsigned{record.pages});
    text += part;
    if (record.type == wire::RecordType::kFragment) {
      text += "/" + std::to_string(record.index);
    }
  }
  return text;
}

}  // namespace

const char* to_string(Fate fate) {
  static constexpr std::array<const char*, static_cast<std::size_t>(Fate::kCount)> kNames = {
      "?",          "sent",      "lost",      "partitioned", "too large", "queue full",
      "duplicated", "reordered", "corrupted", "forged",      "received",  "ring full"};
  return kNames[static_cast<std::size_t>(fate)];
}

std::string describe(std::span<const std::byte> packet) {
  const std::span<const std::byte> bytes = frame_of(packet);
  wire::DropReason reason{};
  wire::DataFrame data;
  wire::AckFrame ack;
  char text[160];
  const auto key = wire::peek(bytes, reason);
  if (key && sealed(bytes)) {
    std::snprintf(text, sizeof(text), "sealed type %u session %llu flow %u seq %llu",
                  unsigned{static_cast<std::uint8_t>(key->type)},
                  static_cast<unsigned long long>(key->session), unsigned{key->flow},
                  static_cast<unsigned long long>(key->sequence));
    return text;
  }
  if (wire::decode_data(bytes, data, reason)) {
    std::snprintf(
        text, sizeof(text), "data session %llu flow %u seq %llu floor %llu",
        static_cast<unsigned long long>(data.header.session), unsigned{data.header.flow},
        static_cast<unsigned long long>(data.header.sequence),
        static_cast<unsigned long long>(data.header.sequence - data.header.floor_distance));
    return text + describe_records(data);
  }
  if (wire::decode_ack(bytes, ack, reason)) {
    std::snprintf(text, sizeof(text),
                  "ack session %llu flow %u number %llu cumulative %llu largest %llu",
                  static_cast<unsigned long long>(ack.header.session), unsigned{ack.header.flow},
                  static_cast<unsigned long long>(ack.header.sequence),
                  static_cast<unsigned long long>(ack.ack.cumulative),
                  static_cast<unsigned long long>(ack.ack.largest));
    return text;
  }
  wire::FrameHeader probe;
  if (wire::decode_probe(bytes, probe, reason)) {
    std::snprintf(text, sizeof(text), "probe session %llu flow %u seq %llu bytes %zu",
                  static_cast<unsigned long long>(probe.session), unsigned{probe.flow},
                  static_cast<unsigned long long>(probe.sequence), packet.size());
    return text;
  }
  wire::ProbeReplyFrame reply;
  if (wire::decode_probe_reply(bytes, reply, reason)) {
    std::snprintf(
        text, sizeof(text), "probe reply session %llu flow %u number %llu to %llu body %u",
        static_cast<unsigned long long>(reply.header.session), unsigned{reply.header.flow},
        static_cast<unsigned long long>(reply.header.sequence),
        static_cast<unsigned long long>(reply.probe), unsigned{reply.probe_body_bytes});
    return text;
  }
  return std::string("not a frame: ") + wire::to_string(reason);
}

std::optional<TimeNs> Bottleneck::pass(std::size_t bytes, TimeNs now) {
  const TimeNs wait_ns = std::max(now, free_ns_) - now;
  if (wait_ns > transmission_ns(queue_bytes_, bits_per_second_)) {
    return std::nullopt;
  }
  if (on_wait) {
    on_wait(wait_ns);
  }
  free_ns_ = now + wait_ns + transmission_ns(bytes, bits_per_second_);
  return free_ns_;
}

// ---- Path ----

Path::Path(PathOptions options, std::uint64_t seed, Listener listener)
    : options_(std::move(options)), random_(seed), listener_(std::move(listener)) {
  if (options_.bits_per_second != 0) {
    bottleneck_ = std::make_shared<Bottleneck>(options_.bits_per_second, options_.queue_bytes);
  }
}

void Path::note(TimeNs now, Fate fate, const Packet& packet) {
  ++counters_[static_cast<std::size_t>(fate)];
  if (listener_) {
    listener_(now, fate, packet);
  }
}

void Path::send(std::vector<std::byte> bytes, TimeNs now) {
  Packet packet{std::move(bytes), 0, 0, false};
  note(now, Fate::kSent, packet);
  const bool faults = now < options_.heals_at_ns;
  const bool ack = is_ack(packet.bytes);
  if (faults && ack && random_.chance(options_.forged_acks)) {
    forge_ack(packet.bytes, now);
  }
  if (vanishes(packet, now)) {
    return;
  }
  if (faults && lost_at_random(ack)) {
    note(now, Fate::kLost, packet);
    return;
  }
  if (faults && random_.chance(options_.duplication)) {
    note(now, Fate::kDuplicated, packet);
    carry(packet, now, faults);
  }
  if (faults && random_.chance(options_.corruption)) {
    corrupt(packet, now);
  }
  carry(std::move(packet), now, faults);
}

bool Path::vanishes(const Packet& packet, TimeNs now) {
  const auto cut = [now](const Interval& interval) { return interval.contains(now); };
  if (std::any_of(options_.partitions.begin(), options_.partitions.end(), cut)) {
    note(now, Fate::kPartitioned, packet);
    return true;
  }
  if (now >= options_.mtu_shrinks_at_ns &&
      packet.bytes.size() > options_.mtu_shrunk + wire::kEthernetBytes) {
    note(now, Fate::kTooLarge, packet);
    return true;
  }
  return false;
}

bool Path::lost_at_random(bool ack) {
  in_burst_ =
      in_burst_ ? !random_.chance(options_.burst_end) : random_.chance(options_.burst_begin);
  const bool lost = random_.chance(options_.loss);
  return in_burst_ || lost || (ack && random_.chance(options_.ack_loss));
}

void Path::corrupt(Packet& packet, TimeNs now) {
  for (std::uint64_t flips = 1 + random_.below(3); flips > 0; --flips) {
    const std::uint64_t bit = random_.below(packet.bytes.size() * 8);
    packet.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  packet.corrupted = true;
  note(now, Fate::kCorrupted, packet);
}

// What a peer gone wrong might say; decoding cannot tell.
void Path::forge_ack(const std::vector<std::byte>& genuine, TimeNs now) {
  wire::AckFrame frame;
  wire::DropReason reason{};
  if (!wire::decode_ack(frame_of(genuine), frame, reason)) {
    return;
  }
  frame.ack.largest += kBeyondAllFrames;
  frame.ack.cumulative = frame.ack.largest + 1;
  frame.ack.bitmap_words = 0;
  ++frame.header.sequence;
  std::array<std::byte, wire::kAckBytesMax> encoded{};
  const std::size_t bytes = wire::encode_ack(frame.header, frame.ack, encoded);
  // Without a bitmap it is no longer than the genuine one; what remains of that is padding.
  Packet packet{genuine, 0, 0, false};
  std::copy_n(encoded.begin(), bytes, packet.bytes.begin() + wire::kPacketPrefixBytes);
  note(now, Fate::kForged, packet);
  carry(std::move(packet), now, true);
}

void Path::carry(Packet packet, TimeNs now, bool faults) {
  TimeNs leaves_ns = now;
  if (bottleneck_ != nullptr) {
    const auto passed_ns = bottleneck_->pass(packet.bytes.size(), now);
    if (!passed_ns) {
      note(now, Fate::kQueueFull, packet);
      return;
    }
    leaves_ns = *passed_ns;
  }
  packet.arrival_ns = leaves_ns + options_.delay_ns;
  if (faults && options_.jitter_ns > 0) {
    packet.arrival_ns += random_.below(options_.jitter_ns);
  }
  if (faults && random_.chance(options_.reordering)) {
    note(now, Fate::kReordered, packet);
    packet.arrival_ns += random_.below(options_.reorder_ns);
  }
  packet.serial = next_serial_++;
  under_way_.push_back(std::move(packet));
  std::push_heap(under_way_.begin(), under_way_.end(), arrives_later);
}

TimeNs Path::next_arrival_ns() const {
  return under_way_.empty() ? kNeverNs : under_way_.front().arrival_ns;
}

std::optional<Packet> Path::take(TimeNs now) {
  if (next_arrival_ns() > now) {
    return std::nullopt;
  }
  std::pop_heap(under_way_.begin(), under_way_.end(), arrives_later);
  Packet packet = std::move(under_way_.back());
  under_way_.pop_back();
  return packet;
}

// ---- Port ----

Port::Port(const PortOptions& options, Path& in, Path& out, std::uint64_t seed,
           std::function<void()> before_read)
    : options_(options), in_(in), out_(out), random_(seed), before_read_(std::move(before_read)) {}

std::size_t Port::receive(std::span<port::ReceivedPacket> out) noexcept {
  const TimeNs now = read_virtual_clock();
  while (auto packet = in_.take(now)) {
    if (receive_ring_.size() == options_.receive_ring) {
      in_.note(now, Fate::kReceiveRingFull, *packet);
    } else {
      receive_ring_.push_back(std::move(*packet));
    }
  }
  std::size_t count = 0;
  for (; count < out.size() && !receive_ring_.empty(); ++count) {
    held_.push_back(std::move(receive_ring_.front()));
    receive_ring_.pop_front();
    in_.note(now, Fate::kReceived, held_.back());
    out[count] = {held_.back().bytes, nullptr};
  }
  return count;
}

void Port::release(std::span<port::ReceivedPacket> packets) noexcept {
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(packets.size()));
}

std::size_t Port::transmit(std::span<const port::OutgoingPacket> packets) noexcept {
  const TimeNs now = read_virtual_clock();
  std::size_t sent = 0;
  for (; sent < packets.size(); ++sent) {
    if (refuses(now)) {
      break;
    }
    const port::OutgoingPacket& packet = packets[sent];
    if (packet.key != nullptr) {
      if (packet.slices > 0 && before_read_) {
        before_read_();
      }
    } else {
      references_ += packet.slices;
    }
    line_free_ns_ =
        std::max(line_free_ns_, now) + transmission_ns(packet.bytes(), options_.bits_per_second);
    std::vector<std::byte> sealed;
    if (packet.key != nullptr) {
      sealed = assemble(packet);
      nonce_reused_ |= !sealed_once_.note(*packet.key, sealed);
    }
    transmit_ring_.push_back({packet, std::move(sealed), line_free_ns_});
  }
  return sent;
}

bool Port::refuses(TimeNs now) {
  return transmit_ring_.size() == options_.transmit_ring ||
         (now < options_.refuses_until_ns && random_.chance(options_.refusal));
}

TimeNs Port::next_departure_ns() const {
  return transmit_ring_.empty() ? kNeverNs : transmit_ring_.front().departure_ns;
}

void Port::advance(TimeNs now) {
  while (next_departure_ns() <= now) {
    std::vector<std::byte> bytes = std::move(transmit_ring_.front().sealed);
    if (bytes.empty()) {
      const port::OutgoingPacket& packet = transmit_ring_.front().packet;
      if (packet.slices > 0 && before_read_) {
        before_read_();
      }
      bytes = assemble(packet);
      references_ -= packet.slices;
    }
    const TimeNs departure_ns = transmit_ring_.front().departure_ns;
    transmit_ring_.pop_front();
    out_.send(std::move(bytes), departure_ns);
  }
}

}  // namespace sluice::sim

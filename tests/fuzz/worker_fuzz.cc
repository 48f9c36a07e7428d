// Two workers with a sealed session and one in the clear between them, on a link that is somebody
// else's: the input drops, repeats, alters and makes up packets of every kind. What is sealed stays
// whole and arrives all the same; nothing outside of a session's memory is written.
#include <algorithm>
#include <array>
#include <deque>
#include <list>
#include <memory>
#include <vector>

#include "dataplane/engine/event_loop.h"
#include "dataplane/wire/codec.h"
#include "drivers/sim/cipher.h"
#include "tests/fuzz/fuzz.h"

namespace sluice::engine {
namespace {

using fuzz::Input;
using fuzz::require;

constexpr std::uint64_t kRamPages = 12;
constexpr std::size_t kMtu = 9000;
constexpr std::size_t kStepsMax = 200;  // of one input
// Packets that an eavesdropper keeps, and those on the way: more are lost.
constexpr std::size_t kPacketsKept = 32;
constexpr std::byte kGuard{0xA5};
constexpr std::uint64_t kSealed = 0x5EA1ED;
constexpr std::uint64_t kClear = 0xC1EA4;

TimeNs now = 0;
TimeNs read_clock() noexcept { return now; }

using Packet = std::vector<std::byte>;

wire::Endpoint endpoint(std::uint8_t host) {
  return {{2, 0, 0, 0, 0, host}, wire::IpAddress(0x0A4D0100U + host), 7401};
}

// One direction of the link.
struct Wire {
  void put(Packet packet) {
    if (packets.size() < kPacketsKept) {
      packets.push_back(std::move(packet));
    }
  }

  std::deque<Packet> packets;
  std::deque<Packet> overheard;
};

class Queue {
 public:
  Queue(Wire& in, Wire& out, const wire::Endpoint& local) : in_(in), out_(out), local_(local) {}

  std::size_t receive(std::span<port::ReceivedPacket> out) noexcept {
    std::size_t count = 0;
    for (; count < out.size() && !in_.packets.empty(); in_.packets.pop_front()) {
      // Of its own size, so that a read beyond its end is seen.
      held_.push_back(std::move(in_.packets.front()));
      held_.back().shrink_to_fit();
      out[count++] = {held_.back(), nullptr};
    }
    received += count;
    return count;
  }
  void release(std::span<port::ReceivedPacket> packets) noexcept {
    require(packets.size() == held_.size(), "a burst is given back as a whole");
    held_.clear();
  }
  std::size_t transmit(std::span<const port::OutgoingPacket> packets) noexcept {
    for (const port::OutgoingPacket& packet : packets) {
      Packet bytes = sim::assemble(packet);
      require(bytes.size() == packet.bytes(), "a packet is as long as it says");
      require(bytes.size() <= kMtu + wire::kEthernetBytes, "a packet is no longer than the MTU");
      require(bytes.size() >= wire::kEthernetBytes &&
                  std::equal(local_.mac.begin(), local_.mac.end(),
                             reinterpret_cast<const std::uint8_t*>(bytes.data()) + 6),
              "a packet comes from this port's address");
      out_.overheard.push_back(bytes);
      if (out_.overheard.size() > kPacketsKept) {
        out_.overheard.pop_front();
      }
      out_.put(std::move(bytes));
    }
    return packets.size();
  }
  void open(std::span<port::SealedFrame> frames) noexcept { sim::open(frames); }
  std::size_t references_outstanding() noexcept { return 0; }

  std::uint64_t received = 0;

 private:
  Wire& in_;
  Wire& out_;
  wire::Endpoint local_;
  std::list<Packet> held_;
};

static_assert(port::Queue<Queue&>);

struct Host {
  Host(Wire& in, Wire& out, std::uint8_t number)
      : queue(in, out, endpoint(number)),
        worker(std::make_unique<Worker<Queue&>>(queue, endpoint(number), cap, commands, events,
                                                probe, read_clock)) {}

  void submit(CommandKind kind, std::uint64_t session) {
    Command command;
    command.kind = kind;
    command.session = session;
    submit(command);
  }
  void submit(const Command& command) { (void)commands.push(command); }

  LinkCap cap{0};
  CommandRing commands;
  EventRing events;
  WorkerProbe probe;
  Queue queue;
  std::unique_ptr<Worker<Queue&>> worker;
};

// A guest's RAM between two pages that belong to nobody.
class Memory {
 public:
  Memory() : bytes_((kRamPages + 2) * kPageBytes, std::byte{0}) {
    std::fill_n(bytes_.begin(), kPageBytes, kGuard);
    std::fill_n(bytes_.end() - kPageBytes, kPageBytes, kGuard);
  }
  std::byte* base() { return bytes_.data() + kPageBytes; }
  [[nodiscard]] std::span<const std::byte> ram() const {
    return std::span(bytes_).subspan(kPageBytes, kRamPages * kPageBytes);
  }
  [[nodiscard]] bool guarded() const {
    const auto guard = [](std::byte byte) { return byte == kGuard; };
    return std::all_of(bytes_.begin(), bytes_.begin() + kPageBytes, guard) &&
           std::all_of(bytes_.end() - kPageBytes, bytes_.end(), guard);
  }

 private:
  std::vector<std::byte> bytes_;
};

struct Session {
  explicit Session(std::uint64_t id)
      : layout({kRamPages}),
        shards(layout.extents(), 1, 0),
        map_here(layout, {here.base()}),
        map_there(layout, {there.base()}),
        send({id, 0, kMtu, {}, {}, protocol::AuditMode::kOff, 0}, layout, shards, map_here,
             wire::PacketTemplate(endpoint(1), endpoint(2), 0), keys(id)),
        receive({id, 0}, layout, shards, map_there,
                wire::PacketTemplate(endpoint(2), endpoint(1), 0), keys(id)) {
    for (std::uint64_t page = 0; page < kRamPages; page += page % 4 == 2 ? 2 : 1) {
      std::fill_n(here.base() + page * kPageBytes, kPageBytes, static_cast<std::byte>(page + 1));
    }
  }
  static std::unique_ptr<port::FlowKeys> keys(std::uint64_t id) {
    return id == kSealed ? sim::make_flow_keys(id, 0) : nullptr;
  }

  void start(Host& left, Host& right) {
    Command command;
    command.session = send.id_session;
    command.kind = CommandKind::kStartSending;
    command.send = &send;
    left.submit(command);
    command.kind = CommandKind::kStartReceiving;
    command.receive = &receive;
    right.submit(command);
  }
  [[nodiscard]] bool arrived() const {
    return std::equal(here.ram().begin(), here.ram().end(), there.ram().begin());
  }

  Memory here;
  Memory there;
  page::Layout layout;
  page::ShardMap shards;
  page::MemoryMap map_here;
  page::MemoryMap map_there;
  SendFlow send;
  ReceiveFlow receive;
};

class Attack {
 public:
  explicit Attack(Input input) : input_(input) {
    now = kSecondNs;
    for (Session* session : {&sealed_, &clear_}) {
      session->start(left_, right_);
    }
    step(0);
    for (const std::uint64_t id : {kSealed, kClear}) {
      send_all(id);
    }
  }

  void run() {
    for (std::size_t i = 0; i < kStepsMax && !input_.empty(); ++i) {
      act();
      check();
    }
    require(left_.queue.received == left_.probe.packets_received.load() &&
                right_.queue.received == right_.probe.packets_received.load(),
            "every packet is counted");
    settle();
    for (const Session* session : {&sealed_, &clear_}) {
      require(session->there.guarded() && session->here.guarded(),
              "nothing outside of the memory is written");
    }
    require(sealed_.arrived(), "what is sealed arrives, whatever else did");
    require(sealed_.send.sender.invariants_hold() && clear_.send.sender.invariants_hold(),
            "the senders' invariants hold");
  }

 private:
  void send_all(std::uint64_t session) {
    Command command;
    command.kind = CommandKind::kSendPages;
    command.session = session;
    command.pages = kRamPages;
    left_.submit(command);
  }

  // The link is nobody's any more: the sealed session must get through.
  void settle() {
    send_all(kSealed);
    for (const TimeNs end = now + 2 * kPeerSilentNs;
         now < end && !(sealed_.send.phase == SendFlow::Phase::kIdle && sealed_.arrived());) {
      step(left_idle_ && right_idle_ ? kMillisecondNs : kMicrosecondNs);
    }
    require(!sealed_.send.failed, "nobody without the keys ends a sealed session");
  }

  void step(TimeNs later) {
    now += later;
    left_idle_ = left_.worker->step(now) == Activity::kIdle;
    right_idle_ = right_.worker->step(now) == Activity::kIdle;
    Event event;
    while (left_.events.pop(event) || right_.events.pop(event)) {
      require(event.kind != EventKind::kUnseenWrite && event.kind != EventKind::kTrackerFailed,
              "nothing is tracked here");
    }
  }

  // Contents of a sealed page are the source's or none.
  void check() {
    const auto source = sealed_.here.ram();
    const auto copy = sealed_.there.ram();
    for (std::size_t i = 0; i < copy.size(); i += 64) {
      require(copy[i] == source[i] || copy[i] == std::byte{0}, "sealed contents are the source's");
    }
  }

  void act() {
    Wire& wire = input_.below(2) == 0 ? to_left_ : to_right_;
    switch (input_.below(12)) {
      case 0:
        if (!wire.packets.empty()) {
          wire.packets.pop_front();
        }
        break;
      case 1:
        if (!wire.packets.empty()) {
          alter(wire.packets.front());
        }
        break;
      case 2:
      case 3:
        repeat(wire);
        break;
      case 4:
        wire.put(make_up());
        break;
      case 5:
        wire.put(ask_or_answer());
        break;
      case 6:
        if (wire.packets.size() > 1) {
          std::swap(wire.packets.front(), wire.packets.back());
        }
        break;
      case 7:
        command();
        break;
      default:
        step(input_.take<std::uint8_t>() * 10 * kMicrosecondNs);
        break;
    }
  }

  // Flips bits, or takes bytes off or adds some.
  void alter(Packet& packet) {
    if (input_.below(4) == 0) {
      packet.resize(input_.below(packet.size() + 80));
      return;
    }
    for (std::size_t i = 0; i <= input_.below(4) && !packet.empty(); ++i) {
      packet[input_.below(std::min<std::size_t>(packet.size(), 160))] ^=
          static_cast<std::byte>(input_.take<std::uint8_t>());
    }
  }

  void repeat(Wire& wire) {
    if (wire.overheard.empty()) {
      return;
    }
    Packet packet = wire.overheard[input_.below(wire.overheard.size())];
    if (input_.below(2) == 0) {
      alter(packet);
    }
    wire.put(std::move(packet));
  }

  // A packet to either end, mostly with right headers, and whatever follows.
  Packet make_up() {
    const std::size_t bytes = input_.below(300);
    Packet packet;
    if (input_.below(4) != 0) {
      packet.resize(wire::kPacketPrefixBytes);
      const bool to_left = input_.below(2) == 0;
      wire::PacketTemplate(endpoint(to_left ? 2 : 1), endpoint(to_left ? 1 : 2), 0)
          .fill(packet, bytes);
    }
    const std::size_t begin = packet.size();
    for (std::size_t i = 0; i < bytes; ++i) {
      packet.push_back(static_cast<std::byte>(input_.take<std::uint8_t>()));
    }
    if (input_.below(2) == 0 && bytes >= wire::kFrameHeaderBytes) {
      packet[begin] = std::byte{wire::kVersion};
      packet[begin + 1] = static_cast<std::byte>(1 + input_.below(4));
      wire::store_le<std::uint16_t>(packet.data() + begin + 2, 0);
      wire::store_le(packet.data() + begin + 8, input_.below(2) == 0 ? kSealed : kClear);
    }
    return packet;
  }

  Packet ask_or_answer() {
    const bool from_left = input_.below(2) == 0;
    const wire::Endpoint asker = endpoint(from_left ? 1 : 2);
    Packet packet(wire::kNeighbourPacketBytesMax);
    packet.resize(
        wire::encode_neighbour_request(asker, endpoint(from_left ? 2 : 1).address, packet));
    if (input_.below(2) == 0) {
      Packet answer(wire::kNeighbourPacketBytesMax);
      answer.resize(wire::answer_neighbour_request(packet, endpoint(from_left ? 2 : 1), answer));
      packet = std::move(answer);
    }
    if (input_.below(2) == 0) {
      alter(packet);
    }
    return packet;
  }

  // Nothing that would end the sealed session by right.
  void command() {
    Command command;
    command.session = input_.below(2) == 0 ? kSealed : kClear;
    command.address = endpoint(static_cast<std::uint8_t>(input_.below(4))).address;
    constexpr std::array kKinds = {CommandKind::kAskNeighbour, CommandKind::kAwaitNeighbour,
                                   CommandKind::kProbePath, CommandKind::kRunIteration,
                                   CommandKind::kFold};
    command.kind = kKinds[input_.below(kKinds.size())];
    (input_.below(4) == 0 ? right_ : left_).submit(command);
  }

  Input input_;
  Wire to_left_;
  Wire to_right_;
  Host left_{to_left_, to_right_, 1};
  Host right_{to_right_, to_left_, 2};
  Session sealed_{kSealed};
  Session clear_{kClear};
  bool left_idle_ = false;
  bool right_idle_ = false;
};

}  // namespace
}  // namespace sluice::engine

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::make_unique<sluice::engine::Attack>(sluice::fuzz::Input(data, size))->run();
  return 0;
}

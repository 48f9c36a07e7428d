// Two workers on a link in memory and one session between them.
#pragma once

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <vector>

#include "dataplane/engine/event_loop.h"
#include "drivers/sim/cipher.h"
#include "drivers/sim/dirty_source.h"
#include "tests/unit/engine/memory_link.h"

namespace sluice::engine {

inline constexpr TimeNs kStepNs = 2 * kMicrosecondNs;
// After a step in which neither worker found anything to do: they rest (idle.h).
inline constexpr TimeNs kRestNs = 20 * kMicrosecondNs;
inline constexpr std::uint64_t kSession = 0xA11CE;

inline TimeNs fake_now = 0;
inline TimeNs read_fake_clock() noexcept { return fake_now; }

inline wire::Endpoint endpoint(std::uint8_t host) {
  return {{2, 0, 0, 0, 0, host}, wire::IpAddress(0x0A4D0100U + host), 7401};
}

// A worker with its rings.
struct Host {
  Host(Wire& in, Wire& out, std::uint8_t number, std::uint64_t seed)
      : queue(in, out, seed),
        worker(std::make_unique<Worker<MemoryQueue>>(queue, endpoint(number), cap, commands, events,
                                                     probe, read_fake_clock)) {}

  void submit(CommandKind kind, std::uint64_t session = kSession) { submit(make(kind, session)); }
  void submit(const Command& command) { ASSERT_TRUE(commands.push(command)); }
  static Command make(CommandKind kind, std::uint64_t session = kSession) {
    Command command;
    command.kind = kind;
    command.session = session;
    command.flow = 1;
    return command;
  }
  std::optional<Event> next_event() {
    Event event;
    return events.pop(event) ? std::optional(event) : std::nullopt;
  }
  std::uint64_t drops(wire::DropReason reason) const {
    return probe.drops[static_cast<std::size_t>(reason)].load();
  }

  LinkCap cap{0};
  CommandRing commands;
  EventRing events;
  WorkerProbe probe;
  MemoryQueue queue;
  std::unique_ptr<Worker<MemoryQueue>> worker;
};

struct Link {
  explicit Link(std::uint64_t seed = 1)
      : left(to_left, to_right, 1, seed), right(to_right, to_left, 2, seed + 1) {}

  void step() {
    fake_now += idle ? kRestNs : kStepNs;
    const Activity here = left.worker->step(fake_now);
    const Activity there = right.worker->step(fake_now);
    idle = here == Activity::kIdle && there == Activity::kIdle;
  }
  void run(std::uint64_t steps) {
    for (std::uint64_t i = 0; i < steps; ++i) {
      step();
    }
  }
  // The next event of `host`, or nothing after `limit_ns`.
  std::optional<Event> await(Host& host, TimeNs limit_ns = 2 * kSecondNs) {
    for (const TimeNs end = fake_now + limit_ns; fake_now < end;) {
      if (auto event = host.next_event()) {
        return event;
      }
      step();
    }
    return std::nullopt;
  }
  void expect(Host& host, EventKind kind) {
    const auto event = await(host);
    ASSERT_TRUE(event.has_value()) << "no event, waited for kind " << static_cast<int>(kind);
    EXPECT_EQ(event->kind, kind);
  }

  Wire to_left;
  Wire to_right;
  Host left;
  Host right;
  bool idle = false;
};

class Memory {
 public:
  explicit Memory(std::uint64_t pages) : bytes_((pages + 1) * kPageBytes) {}
  std::byte* base() {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return bytes_.data() + (kPageBytes - address % kPageBytes) % kPageBytes;
  }
  std::byte* page(std::uint64_t number) { return base() + number * kPageBytes; }

 private:
  std::vector<std::byte> bytes_;
};

inline void scribble(std::byte* page, Random& random) {
  const std::uint64_t words[] = {random.next(), random.next()};
  std::memcpy(page + random.below(250) * 16, words, sizeof(words));
}

inline constexpr std::uint64_t kRamPages = 3 * kExtentPages + 100;
inline constexpr std::uint64_t kStatePages = 40;

// Whether the frames of a session have keys.
enum class Frames : std::uint8_t { kClear = 1, kSealed };

// One session of two regions, sent from `from` to `to`.
struct Session {
  static std::unique_ptr<port::FlowKeys> make_keys(Frames frames, std::uint64_t secret) {
    return frames == Frames::kSealed ? sim::make_flow_keys(secret, 1) : nullptr;
  }

  Session(Host& from, Host& to, const wire::Endpoint& source, const wire::Endpoint& destination,
          std::uint64_t id = kSession, Frames frames = Frames::kClear)
      : sender(from),
        receiver(to),
        id_session(id),
        layout({kRamPages, kStatePages}),
        shards(layout.extents(), 1, 0),
        ram_here(kRamPages),
        ram_there(kRamPages),
        state_here(kStatePages),
        state_there(kStatePages),
        map_here(layout, {ram_here.base(), state_here.base()}),
        map_there(layout, {ram_there.base(), state_there.base()}),
        tracker(kRamPages),
        send({id, 1, 9000, {}, {}, protocol::AuditMode::kJudge, kRamPages}, layout, shards,
             map_here, wire::PacketTemplate(source, destination, 0), make_keys(frames, id)),
        receive({id, 1}, layout, shards, map_there, wire::PacketTemplate(destination, source, 0),
                make_keys(frames, id)) {
    tracker.runs_max = 7;  // scans take several calls
    send.tracker = &tracker;
    send.tracked_pages = kRamPages;
  }

  void start() {
    Command command = Host::make(CommandKind::kStartReceiving, id_session);
    command.receive = &receive;
    receiver.submit(command);
    command = Host::make(CommandKind::kStartSending, id_session);
    command.send = &send;
    sender.submit(command);
  }
  void write(std::uint64_t page, Random& random) {
    scribble(ram_here.page(page), random);
    tracker.write(page);
  }
  void run_iteration(bool harvest) {
    Command command = Host::make(CommandKind::kRunIteration, id_session);
    command.harvest = harvest;
    sender.submit(command);
  }
  void send_pages(PageNumber page, std::uint64_t pages) {
    Command command = Host::make(CommandKind::kSendPages, id_session);
    command.page = page;
    command.pages = pages;
    sender.submit(command);
  }
  bool same_memory() {
    return std::memcmp(ram_here.base(), ram_there.base(), kRamPages * kPageBytes) == 0 &&
           std::memcmp(state_here.base(), state_there.base(), kStatePages * kPageBytes) == 0;
  }

  Host& sender;
  Host& receiver;
  std::uint64_t id_session;
  page::Layout layout;
  page::ShardMap shards;
  Memory ram_here, ram_there, state_here, state_there;
  page::MemoryMap map_here, map_there;
  sim::DirtySource tracker;
  SendFlow send;
  ReceiveFlow receive;
};

struct OneSession : Link {
  explicit OneSession(std::uint64_t seed = 1, Frames frames = Frames::kClear)
      : Link(seed), session(left, right, endpoint(1), endpoint(2), kSession, frames), random(seed) {
    fake_now = kSecondNs;
  }

  void write_some(int count) {
    for (int i = 0; i < count; ++i) {
      session.write(random.below(kRamPages), random);
    }
  }
  void send_all_pages_first() {
    for (std::uint64_t page = 0; page < kRamPages; page += 2) {
      scribble(session.ram_here.page(page), random);
    }
    session.send.sender.mark_dirty(0, kRamPages);
  }
  // A whole migration's traffic with writes to memory all the while; ends with both ends folded.
  void run_whole_session() {
    send_all_pages_first();
    session.start();
    session.run_iteration(false);
    expect(left, EventKind::kIterationDone);
    for (int i = 0; i < 3; ++i) {
      write_some(200);
      session.run_iteration(true);
      run(5);
      write_some(20);
      expect(left, EventKind::kIterationDone);
    }
    write_some(50);
    std::memset(session.ram_here.page(0), 0, kPageBytes);
    session.tracker.write(0);
    left.submit(CommandKind::kFinalPass);
    expect(left, EventKind::kFinalScanned);
    expect(left, EventKind::kSettled);
    for (std::uint64_t page = 0; page < kStatePages; ++page) {
      scribble(session.state_here.page(page), random);
    }
    session.send_pages(session.layout.region(1).first, kStatePages);
    expect(left, EventKind::kSettled);
    left.submit(CommandKind::kFold);
    right.submit(CommandKind::kFold);
    expect(left, EventKind::kFolded);
    expect(right, EventKind::kFolded);
  }

  Session session;
  Random random;
};

}  // namespace sluice::engine

#include "tests/sim/simulation.h"

#include <algorithm>
#include <cstdio>

#include "dataplane/engine/event_loop.h"
#include "drivers/sim/clock.h"

namespace sluice::sim {
namespace {

// The longest that a worker which finds nothing to do waits; packets wake it earlier.
constexpr TimeNs kIdleMaxNs = kMillisecondNs;
// Whatever the faults, a session has reached one of its ends by then.
constexpr TimeNs kPatienceNs = 120 * kSecondNs;

// Counts indexed by an enumeration whose 0 is not valid.
template <typename Enum, typename Counts>
void print_counts(std::ostream& out, const Counts& counts) {
  for (std::size_t i = 1; i < counts.size(); ++i) {
    out << ' ' << to_string(static_cast<Enum>(i)) << ' ' << counts[i] << ';';
  }
}

}  // namespace

Simulation::Host::Host(const HostOptions& host_options, Path& in, Path& out, std::size_t number,
                       std::uint64_t seed, std::function<void()> before_read)
    : options(host_options),
      cap(host_options.cap_bits_per_second),
      port(host_options.port, in, out, seed, std::move(before_read)),
      worker(std::make_unique<engine::Worker<Port&>>(port, endpoint(number), cap, commands, events,
                                                     probe, read_virtual_clock)) {}

Simulation::Simulation(std::uint64_t seed, const Options& options, Memories& memories,
                       std::ostream* trace, std::uint64_t steps_per_check)
    : options_(options),
      random_(seed),
      trace_(trace),
      steps_per_check_(steps_per_check),
      paths_{Path(options.paths[0], random_.next(),
                  [this](TimeNs now, Fate fate, const Packet& packet) {
                    packet_seen(0, now, fate, packet);
                  }),
             Path(options.paths[1], random_.next(),
                  [this](TimeNs now, Fate fate, const Packet& packet) {
                    packet_seen(1, now, fate, packet);
                  })} {
  for (std::size_t i = 0; i < 2; ++i) {
    hosts_[i] = std::make_unique<Host>(options.hosts[i], paths_[1 - i], paths_[i], i,
                                       random_.next(), [this, i] { write_inconveniently(i); });
  }
  for (std::size_t i = 0; i < options.sessions.size(); ++i) {
    auto& [source, destination] = memories.session[i];
    sessions_.push_back(
        std::make_unique<Session>(i + 1, options.sessions[i], source, destination, random_.next(),
                                  std::array{&hosts_[0]->commands, &hosts_[1]->commands}));
  }
}

std::string Simulation::run() {
  virtual_now_ns = 1;  // 0 means "not set"
  for (auto& session : sessions_) {
    session->begin();
  }
  while (!done() && violation_.empty()) {
    const TimeNs now = next_time();
    if (now > kPatienceNs) {
      violation_ = "a session does not end";
      break;
    }
    advance(now);
  }
  return violation_.empty() ? judge_end() : violation_;
}

// A worker sleeps until its time has come or a packet arrives, unless it is stalled.
TimeNs Simulation::wakes_at(std::size_t host) const {
  const Host& it = *hosts_[host];
  const TimeNs arrival_ns = paths_[1 - host].next_arrival_ns();
  TimeNs at = std::max(virtual_now_ns + 1, std::min(it.next_step_ns, arrival_ns));
  if (it.idle_ns == 0) {
    at = std::max(virtual_now_ns + 1, it.next_step_ns);
  }
  for (const Interval& stall : it.options.stalls) {
    if (stall.contains(at)) {
      at = stall.until_ns;
    }
  }
  return at;
}

TimeNs Simulation::next_time() const {
  const TimeNs departure_ns =
      std::min(hosts_[0]->port.next_departure_ns(), hosts_[1]->port.next_departure_ns());
  return std::max(virtual_now_ns, std::min({wakes_at(0), wakes_at(1), departure_ns}));
}

void Simulation::advance(TimeNs now) {
  const std::array<TimeNs, 2> wakes_ns = {wakes_at(0), wakes_at(1)};
  virtual_now_ns = now;
  for (auto& session : sessions_) {
    session->on_time(now);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    hosts_[i]->port.advance(now);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    if (wakes_ns[i] <= now) {
      step(i, now);
    }
  }
}

void Simulation::step(std::size_t host, TimeNs now) {
  Host& it = *hosts_[host];
  const bool busy = it.worker->step(now) == engine::Activity::kBusy;
  it.idle_ns = busy ? 0 : std::min(2 * it.idle_ns + kMicrosecondNs / 2, kIdleMaxNs);
  it.next_step_ns = now + (busy ? 1 + random_.below(2 * it.options.step_ns) : it.idle_ns);
  handle_events(host);
  check(++steps_ % steps_per_check_ == 0);
}

void Simulation::handle_events(std::size_t host) {
  engine::Event event;
  while (hosts_[host]->events.pop(event)) {
    for (auto& session : sessions_) {
      if (session->id() == event.session) {
        const std::string before = session->phase();
        session->on_event(host, event);
        if (before != session->phase()) {
          trace_line(virtual_now_ns, "session " + std::to_string(session->id()) + ": " + before +
                                         " -> " + session->phase());
          check(true);
        }
      }
    }
  }
}

void Simulation::check(bool thoroughly) {
  if (hosts_[0]->port.nonce_reused() || hosts_[1]->port.nonce_reused()) {
    violation_ = "a key has sealed two contents under one number";
  }
  for (auto& session : sessions_) {
    if (!session->guest.copy_went_forward()) {
      violation_ = "a page went back to an older version";
    } else if (!session->violation().empty()) {
      violation_ = session->violation();
    } else if (thoroughly && !session->invariants_hold()) {
      violation_ = "an invariant of the sender is broken";
    }
  }
}

void Simulation::packet_seen(std::size_t path, TimeNs now, Fate fate, const Packet& packet) {
  if (trace_ != nullptr) {
    trace_line(now, std::string(path == 0 ? "1->2 " : "2->1 ") + to_string(fate) + ": " +
                        describe(packet.bytes));
  }
  if (fate != Fate::kReceived || packet.bytes.size() < wire::kPacketPrefixBytes) {
    return;
  }
  const auto bytes = std::span(packet.bytes).subspan(wire::kPacketPrefixBytes);
  wire::DropReason reason{};
  const auto key = wire::peek(bytes, reason);
  for (auto& session : sessions_) {
    if (key && session->id() == key->session && session->source_host() == path) {
      frame_arrives(*session, bytes, *key, packet.corrupted);
    }
  }
}

void Simulation::frame_arrives(Session& session, std::span<const std::byte> bytes,
                               const wire::FlowKey& key, bool corrupted) {
  if (key.flow >= session.receivers().size()) {
    return;
  }
  const auto& keys = session.receivers()[key.flow]->keys;
  wire::DataFrame frame;
  wire::DropReason reason{};
  if (keys == nullptr) {
    if (wire::decode_data(bytes, frame, reason)) {
      session.guest.frame_arrives(frame, corrupted);
    }
    return;
  }
  const auto clear = opened(bytes, *keys);
  if (clear && wire::decode_data(*clear, frame, reason, wire::Protection::kSealed)) {
    session.guest.frame_arrives(frame, false);  // altered ones do not open, but for their padding
  }
}

void Simulation::write_inconveniently(std::size_t host) {
  for (auto& session : sessions_) {
    if (session->source_host() == host) {
      session->guest.maybe_write();
    }
  }
}

bool Simulation::done() const {
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [](const auto& session) { return session->done(); });
}

std::string Simulation::judge_end() const {
  for (const auto& session : sessions_) {
    if (!session->guest.source_untouched()) {
      return "the source's memory was changed";
    }
    if (session->outcome() == Outcome::kCommitted && !session->guest.copy_equal()) {
      return "committed, but memory differs";
    }
    // A mismatch without corruption was found where the digests were compared.
    if (options_.mild() && session->outcome() != Outcome::kCommitted &&
        session->outcome() != Outcome::kMismatch) {
      return std::string("faults are mild, but the session ended with: ") +
             to_string(session->outcome());
    }
  }
  return {};
}

void Simulation::trace_line(TimeNs now, const std::string& text) const {
  if (trace_ != nullptr) {
    char time[40];
    std::snprintf(time, sizeof(time), "%14.3f us  ", static_cast<double>(now) / 1e3);
    *trace_ << time << text << '\n';
  }
}

// ---- totals ----

void Simulation::add_to(Totals& totals) const {
  ++totals.runs;
  totals.mild_runs += options_.mild() ? 1 : 0;
  totals.steps += steps_;
  totals.virtual_ns += virtual_now_ns;
  for (const auto& session : sessions_) {
    ++totals.sessions;
    ++totals.outcomes[static_cast<std::size_t>(session->outcome())];
    totals.guest_writes += session->guest.writes();
    totals.corrupted_frames_believed += session->guest.corrupted_frames();
    if (session->guest.corrupted_frames() > 0) {
      ++totals.corrupted_outcomes[static_cast<std::size_t>(session->outcome())];
    }
    for (const auto& flow : session->senders()) {
      const protocol::SenderCounters& counters = flow->sender.counters();
      totals.sender.frames_sent += counters.frames_sent;
      totals.sender.raw_pages_sent += counters.raw_pages_sent;
      totals.sender.zero_pages_sent += counters.zero_pages_sent;
      totals.sender.pages_resent_after_loss += counters.pages_resent_after_loss;
      totals.sender.audited_pages += counters.audited_pages;
      totals.sender.frames_lost += counters.frames_lost;
      totals.sender.spurious_losses += counters.spurious_losses;
      totals.sender.probe_timeouts += counters.probe_timeouts;
      totals.sender.acks_received += counters.acks_received;
      totals.sender.acks_rejected += counters.acks_rejected;
      totals.smaller_frames += flow->sender.mtu() < session->mtu_agreed() ? 1 : 0;
    }
    for (const auto& flow : session->receivers()) {
      totals.stale_pages += flow->receiver.counters().stale_pages;
    }
  }
  for (const Path& path : paths_) {
    for (std::size_t i = 0; i < totals.fates.size(); ++i) {
      totals.fates[i] += path.counters()[i];
    }
  }
  for (const auto& host : hosts_) {
    for (std::size_t i = 0; i < totals.drops.size(); ++i) {
      totals.drops[i] += host->probe.drops[i].load();
    }
  }
}

void Totals::print(std::ostream& out) const {
  out << "runs " << runs << " (mild " << mild_runs << "), sessions " << sessions << ", steps "
      << steps << ", virtual seconds " << virtual_ns / kSecondNs << ", guest writes "
      << guest_writes << "\noutcomes:";
  print_counts<Outcome>(out, outcomes);
  out << "\noutcomes where corrupted frames were believed:";
  print_counts<Outcome>(out, corrupted_outcomes);
  out << "\nsenders: frames " << sender.frames_sent << ", raw pages " << sender.raw_pages_sent
      << ", zero pages " << sender.zero_pages_sent << ", audited pages " << sender.audited_pages
      << ", frames lost " << sender.frames_lost << ", pages sent again "
      << sender.pages_resent_after_loss << ", spurious losses " << sender.spurious_losses
      << ", probe timeouts " << sender.probe_timeouts << ", acks " << sender.acks_received
      << ", acks rejected " << sender.acks_rejected << ", flows that fell back to smaller frames "
      << smaller_frames << "\nreceivers: stale pages " << stale_pages
      << ", corrupted frames believed " << corrupted_frames_believed << "\nnetwork:";
  print_counts<Fate>(out, fates);
  out << "\ndrops:";
  print_counts<wire::DropReason>(out, drops);
  out << '\n';
}

}  // namespace sluice::sim

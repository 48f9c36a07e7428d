#include "tests/sim/session.h"

#include <algorithm>

#include "drivers/sim/cipher.h"

namespace sluice::sim {

using engine::Command;
using engine::CommandKind;
using engine::Event;
using engine::EventKind;

const char* to_string(Outcome outcome) {
  static constexpr std::array<const char*, static_cast<std::size_t>(Outcome::kCount)> kNames = {
      "?",           "running",        "committed",    "digests differ", "no path",
      "peer silent", "tracker failed", "unseen write", "operator"};
  return kNames[static_cast<std::size_t>(outcome)];
}

wire::Endpoint endpoint(std::size_t host) {
  const auto number = static_cast<std::uint8_t>(host + 1);
  return {{2, 0, 0, 0, 0, number}, wire::IpAddress(0x0A4D0100U + number), 7401};
}

Session::Session(std::uint64_t id, const SessionOptions& options, protocol::Arena& source,
                 protocol::Arena& destination, std::uint64_t seed,
                 std::array<engine::CommandRing*, 2> rings)
    : guest(options, source, destination, seed), id_(id), options_(options), rings_(rings) {
  const wire::PacketTemplate data(endpoint(source_host()), endpoint(1 - source_host()), 0);
  const wire::PacketTemplate acks(endpoint(1 - source_host()), endpoint(source_host()), 0);
  for (std::uint32_t shard = 0; shard < options.shards; ++shard) {
    const page::ShardMap shards(guest.layout.extents(), options.shards, shard);
    const auto flow = static_cast<std::uint16_t>(shard);
    const protocol::SenderConfig sending{id,
                                         flow,
                                         options.mtu,
                                         {.window_max_frames = options.window_max_frames},
                                         wire::Protection::kChecksum,
                                         protocol::AuditMode::kJudge,
                                         guest.layout.region(0).pages};
    senders_.push_back(std::make_unique<engine::SendFlow>(sending, guest.layout, shards,
                                                          guest.source, data, make_keys(flow)));
    senders_.back()->tracker = &guest.tracker;
    senders_.back()->tracked_pages = guest.layout.region(0).pages;
    const protocol::ReceiverConfig receiving{.session = id, .flow = flow};
    receivers_.push_back(std::make_unique<engine::ReceiveFlow>(
        receiving, guest.layout, shards, guest.destination, acks, make_keys(flow)));
  }
}

std::unique_ptr<port::FlowKeys> Session::make_keys(std::uint16_t flow) const {
  return options_.sealed ? make_flow_keys(id_, flow) : nullptr;
}

void Session::begin() {
  for (std::size_t i = 0; i < senders_.size(); ++i) {
    guest.for_each_populated(
        [&](PageNumber page, std::uint64_t count) { senders_[i]->sender.mark_dirty(page, count); });
    Command command;
    command.kind = CommandKind::kStartReceiving;
    command.receive = receivers_[i].get();
    submit(1 - source_host(), command, receivers_[i]->id_flow);
    command.kind = CommandKind::kStartSending;
    command.send = senders_[i].get();
    submit(source_host(), command, senders_[i]->id_flow);
  }
  Command command;
  command.kind = CommandKind::kProbePath;
  submit_to_senders(command);
  enter(Phase::kProbing, senders_.size());
}

void Session::submit(std::size_t host, Command command, std::uint16_t flow) {
  command.session = id_;
  command.flow = flow;
  if (!rings_[host]->push(command)) {
    violation_ = "a command ring is full";
  }
}

void Session::submit_to_senders(Command command) {
  for (const auto& flow : senders_) {
    submit(source_host(), command, flow->id_flow);
  }
}

void Session::submit_to_all(CommandKind kind) {
  Command command;
  command.kind = kind;
  submit_to_senders(command);
  for (const auto& flow : receivers_) {
    submit(1 - source_host(), command, flow->id_flow);
  }
}

void Session::enter(Phase phase, std::size_t events) {
  phase_ = phase;
  events_awaited_ = events;
}

// The first one sends what is populated, the others what was written meanwhile.
void Session::run_iteration() {
  enter(Phase::kIterating, senders_.size());
  Command command;
  command.kind = CommandKind::kRunIteration;
  command.harvest = iterations_done_ > 0;
  submit_to_senders(command);
}

void Session::on_event(std::size_t host, const Event& event) {
  if (host == source_host() && phase_ != Phase::kStopping) {
    if (event.kind == EventKind::kPeerSilent) {
      return end(Outcome::kPeerSilent);
    }
    if (event.kind == EventKind::kTrackerFailed) {
      return end(Outcome::kTrackerFailed);
    }
    if (event.kind == EventKind::kUnseenWrite) {
      // The simulated tracker sees every write.
      violation_ = "the audit accuses the tracker of having missed a write";
      return end(Outcome::kUnseenWrite);
    }
  }
  if (!expected(event.kind)) {
    if (phase_ != Phase::kStopping) {
      violation_ = "event " + std::to_string(static_cast<int>(event.kind)) + " while " + phase();
    }
    return;
  }
  if (event.kind == EventKind::kPathProbed && event.value == 0) {
    return end(Outcome::kNoPath);
  }
  if (--events_awaited_ == 0) {
    next_phase();
  }
}

bool Session::expected(EventKind kind) const {
  switch (phase_) {
    case Phase::kProbing:
      return kind == EventKind::kPathProbed;
    case Phase::kIterating:
      return kind == EventKind::kIterationDone;
    case Phase::kFinalPass:
      return kind == EventKind::kFinalScanned || kind == EventKind::kSettled;
    case Phase::kState:
      return kind == EventKind::kSettled;
    case Phase::kFolding:
      return kind == EventKind::kFolded;
    case Phase::kStopping:
      return kind == EventKind::kStopped;
    case Phase::kCreated:
    case Phase::kDone:
      break;
  }
  return false;
}

void Session::next_phase() {
  Command command;
  switch (phase_) {
    case Phase::kProbing:
      return run_iteration();
    case Phase::kIterating:
      if (iterations_done_++ < options_.iterations) {
        return run_iteration();
      }
      guest.stop();
      command.kind = CommandKind::kFinalPass;
      submit_to_senders(command);
      return enter(Phase::kFinalPass, 2 * senders_.size());
    case Phase::kFinalPass:
      guest.write_state();
      command.kind = CommandKind::kSendPages;
      command.page = guest.layout.region(1).first;
      command.pages = guest.layout.region(1).pages;
      submit_to_senders(command);
      return enter(Phase::kState, senders_.size());
    case Phase::kState:
      submit_to_all(CommandKind::kFold);
      return enter(Phase::kFolding, 2 * senders_.size());
    case Phase::kFolding:
      return compare_digests();
    case Phase::kStopping:
      return enter(Phase::kDone, 0);
    case Phase::kCreated:
    case Phase::kDone:
      break;
  }
}

void Session::compare_digests() {
  bool same = true;
  for (std::size_t i = 0; i < senders_.size(); ++i) {
    same &= senders_[i]->digests == receivers_[i]->digests;
  }
  const bool equal = guest.copy_equal();
  if (same && !equal) {
    violation_ = "memory differs, but the digests agree";
  } else if (!same && guest.corrupted_frames() == 0) {
    violation_ = equal ? "memory is equal, but the digests differ"
                       : "memory differs, and nothing was corrupted on the way";
  }
  end(same ? Outcome::kCommitted : Outcome::kMismatch);
}

void Session::end(Outcome outcome) {
  outcome_ = outcome;
  guest.stop();
  submit_to_all(CommandKind::kStop);
  enter(Phase::kStopping, 2 * senders_.size());
}

void Session::on_time(TimeNs now) {
  if (now >= options_.tracker_fails_at_ns) {
    guest.tracker.status = port::HarvestStatus::kFailed;
  }
  if (now >= options_.operator_cancels_at_ns && phase_ < Phase::kFolding) {
    end(Outcome::kOperator);
  }
  guest.run_until(now);
}

const char* Session::phase() const {
  static constexpr std::array<const char*, 9> kNames = {
      "?", "created", "probing", "iterating", "final pass", "state", "folding", "stopping", "done"};
  return kNames[static_cast<std::size_t>(phase_)];
}

bool Session::invariants_hold() const {
  return std::all_of(senders_.begin(), senders_.end(), [](const auto& flow) {
    const protocol::SenderCounters& counters = flow->sender.counters();
    return flow->sender.invariants_hold() &&
           counters.frames_sent ==
               counters.frames_acked + counters.frames_lost + flow->sender.in_flight_frames();
  });
}

}  // namespace sluice::sim

#include "control/controller/inventory.h"

#include <algorithm>
#include <chrono>

#include "control/controller/obedience.h"
#include "drivers/guest/definition.h"

namespace sluice::controller {
namespace {

constexpr std::chrono::milliseconds kInterval{500};
constexpr std::uint32_t kCpuLevelMax = 4;  // x86-64-v4
// What a link is taken for whose agent names no rate: 10GbE.
constexpr std::uint64_t kLinkBitsPerSecond = 10'000'000'000;

constexpr const char* kIncoming = "incoming";
constexpr const char* kGone = "gone";

bool is_elsewhere(const std::string& state) {
  return state == kIncoming || state == "handed-over" || state == kGone;
}

// Which of several copies is the guest: one that runs before one that may.
enum class Standing : std::uint8_t { kRuns = 1, kForgotten, kSilent };

Standing standing_of(const std::string& state) {
  if (state == "forgotten") return Standing::kForgotten;
  return state == "silent" ? Standing::kSilent : Standing::kRuns;
}

// Said by agents: what makes no sense must not mislead a plan.
void add_figures(const v1::GuestFigures& figures, planner::Guest& guest) {
  guest.populated_bytes = std::min<std::uint64_t>(
      std::max<std::uint64_t>(figures.populated_bytes(), 1), guest.memory_bytes);
  guest.dirty_bytes_per_second = figures.dirty_bytes_per_second();
  guest.working_set_bytes = std::min(figures.working_set_bytes(), guest.populated_bytes);
  guest.working_set_ms = figures.working_set_ms();
}

}  // namespace

Inventory::Inventory(const Config& config, const security::Credentials& credentials,
                     const model::ControllerIdentity& self)
    : self_(self) {
  for (const auto& host : config.hosts) {
    Entry& entry = entries_[host.name];
    entry.agent = std::make_unique<client::AgentClient>(host, credentials, self);
    entry.view.heard = clock_.now();
  }
}

void Inventory::watch() {
  for (auto& [name, entry] : entries_) {
    pollers_.emplace_back(
        [this, &asked = entry](const std::stop_token& stop) { poll(stop, asked); });
  }
}

Inventory::~Inventory() {
  for (auto& poller : pollers_) poller.request_stop();
}

void Inventory::poll(const std::stop_token& stop, Entry& entry) {
  while (!stop.stop_requested()) {
    ask(entry);
    std::unique_lock lock(mutex_);
    stopping_.wait_for(lock, stop, kInterval, [] { return false; });
  }
}

void Inventory::ask(Entry& entry) {
  std::uint64_t question = 0;
  std::string out_of_service;
  {
    const std::lock_guard lock(mutex_);
    question = ++questions_;
    out_of_service = entry.out_of_service;
  }
  auto info = entry.agent->get_host_and_tell(out_of_service);
  auto guests = info ? entry.agent->list_guests() : tl::unexpected<Error>(info.error());
  const std::lock_guard lock(mutex_);
  if (question < entry.asked) return;
  entry.asked = question;
  const bool answered = info && guests;
  entry.view.reachable = answered && !is_stranger(*info, self_);
  if (!answered) return;
  if (entry.view.reachable) entry.view.heard = clock_.now();
  entry.view.told_out_of_service = !out_of_service.empty();
  entry.view.info = std::move(*info);
  entry.view.guests.assign(guests->guests().begin(), guests->guests().end());
  auto definitions = std::make_shared<std::map<std::string, std::string>>();
  for (auto& guest : entry.view.guests)
    (*definitions)[guest.name()] = std::move(*guest.mutable_definition_toml());
  for (auto& guest : entry.view.guests) guest.clear_definition_toml();
  entry.view.definitions = std::move(definitions);
}

void Inventory::refresh(const std::vector<std::string>& hosts) {
  std::vector<std::jthread> questions;
  questions.reserve(hosts.size());
  for (const auto& host : hosts) {
    const auto found = entries_.find(host);
    if (found == entries_.end()) continue;
    questions.emplace_back([this, &asked = found->second] { ask(asked); });
  }
}

void Inventory::set_out_of_service(const std::string& host, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(host); found != entries_.end())
    found->second.out_of_service = why;
}

RunningClock::Duration Inventory::silent_for(const std::string& host) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(host);
  return found == entries_.end() ? RunningClock::Duration::max()
                                 : clock_.now() - found->second.view.heard;
}

Hosts Inventory::hosts() const {
  const std::lock_guard lock(mutex_);
  Hosts hosts;
  for (const auto& [name, entry] : entries_) hosts[name] = entry.view;
  return hosts;
}

bool may_decide_on(const Hosts& hosts, std::chrono::milliseconds since) {
  return since >= kFirstWordMax || std::none_of(hosts.begin(), hosts.end(), [](const auto& host) {
           return host.second.info.name().empty();
         });
}

std::map<std::string, v1::GuestInfo> place_guests(const Hosts& hosts) {
  std::map<std::string, v1::GuestInfo> placed;
  const auto place = [&](bool reachable, Standing standing) {
    for (const auto& [name, host] : hosts) {
      if (host.reachable != reachable) continue;
      for (const auto& guest : host.guests) {
        if (is_elsewhere(guest.state()) || standing_of(guest.state()) != standing) continue;
        auto [at, added] = placed.emplace(guest.name(), guest);
        if (added) at->second.set_host(name);
      }
    }
  };
  for (const auto standing : {Standing::kRuns, Standing::kForgotten, Standing::kSilent}) {
    for (const bool reachable : {true, false}) place(reachable, standing);
  }
  return placed;
}

std::map<std::string, std::string> copies_on(const Hosts& hosts, const std::string& host,
                                             const std::map<std::string, v1::GuestInfo>& placed) {
  std::map<std::string, std::string> copies;
  for (const auto& guest : hosts.at(host).guests) {
    if (guest.state() == kIncoming || guest.state() == kGone) continue;
    const auto at = placed.find(guest.name());
    if (at == placed.end() || at->second.host() != host) copies[guest.name()] = guest.state();
  }
  return copies;
}

std::vector<std::string> peers_to_check(const Hosts& hosts, const std::string& host) {
  constexpr std::size_t kPeersMax = 8;
  std::vector<std::string> peers;
  const auto self = hosts.find(host);
  if (self == hosts.end()) return peers;
  const auto& known = self->second.info.peers();
  auto at = self;
  for (std::size_t i = 1; i < hosts.size() && peers.size() < kPeersMax; ++i) {
    if (++at == hosts.end()) at = hosts.begin();
    if (at->second.reachable && std::find(known.begin(), known.end(), at->first) != known.end())
      peers.push_back(at->first);
  }
  return peers;
}

planner::Cluster make_cluster(const Hosts& hosts, const Config& config,
                              const std::vector<patch::DownGuest>& down) {
  planner::Cluster cluster;
  std::map<std::string, planner::HostId> host_of;
  for (const auto& [name, host] : hosts) {
    planner::Host out;
    out.name = name;
    out.memory_bytes = host.info.memory_bytes();
    out.reserve_bytes = std::min(config.reserve_bytes, out.memory_bytes);
    // Nobody knows what one that was never heard has.
    out.maintenance = host.info.name().empty();
    out.guest_overhead_bytes = config.guest_overhead_bytes;
    // Where it is not known nothing is refused for it: the agent that takes a guest in looks again.
    out.cpu_level = host.info.cpu_level() == 0 ? kCpuLevelMax : host.info.cpu_level();
    out.qemu_series = planner::parse_qemu_series(host.info.qemu_version()).value_or(0);
    // Guests' processors are not counted: an agent does not know what QEMU was told.
    out.cores = host.info.cores();
    const std::uint64_t bits = host.info.link_bits_per_second() != 0
                                   ? host.info.link_bits_per_second()
                                   : kLinkBitsPerSecond;
    for (auto* link : {&out.transmit, &out.receive}) {
      *link = static_cast<planner::LinkId>(cluster.links.size());
      cluster.links.push_back({name + (link == &out.transmit ? " out" : " in"), bits / 8});
    }
    const auto domain = config.failure_domains.find(name);
    out.failure_domain =
        static_cast<std::uint32_t>(domain != config.failure_domains.end()
                                       ? domain->second
                                       : config.failure_domains.size() + cluster.hosts.size());
    host_of[name] = static_cast<planner::HostId>(cluster.hosts.size());
    cluster.hosts.push_back(std::move(out));
  }
  for (const auto& group : config.groups) cluster.groups.push_back(group.group);
  auto guests = place_guests(hosts);
  for (const patch::DownGuest& guest : down) {
    const auto definition = guest::parse_definition(guest.definition, "guest " + guest.name);
    // It may run by now.
    if (!definition || host_of.count(guest.host) == 0 || guests.count(guest.name) != 0) continue;
    auto& out = guests[guest.name];
    out.set_host(guest.host);
    out.set_memory_bytes(definition->memory_bytes);
    out.set_cpu_level(guest.cpu_level);
    out.set_cpu_level_from_host(guest.cpu_level_from_host);
  }
  for (const auto& [name, guest] : guests) {
    planner::Guest out;
    out.name = name;
    out.host = host_of.at(guest.host());
    out.memory_bytes = guest.memory_bytes();
    out.populated_bytes = guest.memory_bytes();
    if (guest.has_figures()) add_figures(guest.figures(), out);
    out.cpu_level = guest.cpu_level();
    out.cpu_level_from_host = guest.cpu_level_from_host();
    // Of another binary than hosts speak of, they say nothing.
    if (guest.usual_qemu())
      out.qemu_series = planner::parse_qemu_series(guest.qemu_version()).value_or(0);
    for (std::size_t i = 0; i < config.groups.size(); ++i) {
      const auto& members = config.groups[i].guests;
      if (std::find(members.begin(), members.end(), name) != members.end())
        out.groups.push_back(static_cast<planner::GroupId>(i));
    }
    cluster.guests.push_back(std::move(out));
  }
  return cluster;
}

}  // namespace sluice::controller

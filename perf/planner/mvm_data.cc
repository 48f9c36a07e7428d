#include "perf/planner/mvm_data.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <zlib.h>

namespace sluice::perf {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kMegabyte = 1'000'000;
constexpr std::uint64_t kGigabyte = 1'000'000'000;
constexpr std::uint64_t kMegabit = kMegabyte / 8;

// gzread reads plain files as well.
std::string read_file(const fs::path& path) {
  const gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) throw std::runtime_error(path.string() + " cannot be read");
  std::string text;
  std::array<char, 65536> buffer{};
  int count = 0;
  while ((count = gzread(file, buffer.data(), buffer.size())) > 0)
    text.append(buffer.data(), static_cast<std::size_t>(count));
  gzclose(file);
  if (count < 0) throw std::runtime_error(path.string() + " is damaged");
  return text;
}

std::uint32_t id_of(const std::string& text) {
  return static_cast<std::uint32_t>(std::stoul(text));
}

const Json& view(const Json& model, const std::string& id, const std::string& resource) {
  for (const Json& candidate : model.at("views")) {
    if (candidate.at("id") == id && (resource.empty() || candidate.at("rcId") == resource))
      return candidate;
  }
  throw std::runtime_error("no view " + id + " " + resource);
}

// Of hosts and guests alike: a value by identifier, or the view's default.
std::uint64_t resource(const Json& table, std::uint32_t id, const Json& fallback) {
  const auto found = table.find(std::to_string(id));
  return (found == table.end() ? fallback : *found).get<std::uint64_t>();
}

void add_link(planner::Cluster& cluster, const std::string& name, std::uint64_t megabits) {
  cluster.links.push_back({name, megabits * kMegabit});
}

// A host's two directions; switches come later.
void add_hosts(planner::Cluster& cluster, const Json& model, std::size_t count,
               const std::function<std::uint64_t(std::uint32_t)>& megabits) {
  const Json& memory = view(model, "shareableResource", "mem");
  const Json& cpu = view(model, "shareableResource", "cpu");
  for (std::uint32_t id = 0; id < count; ++id) {
    planner::Host host;
    host.name = fmt::format("h{}", id);
    host.memory_bytes = resource(memory.at("nodes"), id, memory.at("defCapacity")) * kGigabyte;
    host.cores = static_cast<std::uint32_t>(resource(cpu.at("nodes"), id, cpu.at("defCapacity")));
    host.transmit = static_cast<planner::LinkId>(cluster.links.size());
    add_link(cluster, host.name + " transmit", megabits(id));
    host.receive = static_cast<planner::LinkId>(cluster.links.size());
    add_link(cluster, host.name + " receive", megabits(id));
    cluster.hosts.push_back(host);
  }
}

void add_guests(planner::Cluster& cluster, const Json& model) {
  const Json& memory = view(model, "shareableResource", "mem");
  const Json& cpu = view(model, "shareableResource", "cpu");
  const Json& attributes = model.at("attributes").at("vms");
  std::map<std::uint32_t, planner::HostId> host_of;
  for (const auto& [host, guests] : model.at("mapping").at("onlineNodes").items()) {
    for (const Json& guest : guests.at("runningVMs"))
      host_of[guest.get<std::uint32_t>()] = id_of(host);
  }
  for (const auto& [id, host] : host_of) {
    if (id != cluster.guests.size()) throw std::runtime_error("guests are not numbered from 0 on");
    const Json& facts = attributes.at(std::to_string(id));
    const auto megabytes = [&](const char* plan_name, const char* instance_name) {
      const char* const name = facts.contains(plan_name) ? plan_name : instance_name;
      return static_cast<std::uint64_t>(facts.at(name).get<double>() *
                                        static_cast<double>(kMegabyte));
    };
    planner::Guest guest;
    guest.name = fmt::format("vm{}", id);
    guest.host = host;
    guest.populated_bytes = megabytes("memUsed", "memUsed");
    guest.memory_bytes =
        std::max(resource(memory.at("vms"), id, memory.at("defConsumption")) * kGigabyte,
                 guest.populated_bytes);
    guest.dirty_bytes_per_second = megabytes("dirtyRate", "coldDirtyRate");
    guest.working_set_bytes = megabytes("maxDirtySize", "hotDirtySize");
    guest.working_set_ms = megabytes("maxDirtyDuration", "hotDirtyDuration") / 1000;
    guest.cores = static_cast<std::uint32_t>(resource(cpu.at("vms"), id, cpu.at("defConsumption")));
    cluster.guests.push_back(guest);
  }
}

// The central switch does not block, so the hosts' links are all there is.
constexpr std::array<std::uint64_t, 4> kPlanMegabits = {500, 500, 1000, 1000};

void read_actions(PublishedPlan& plan, const Json& actions, PlannedDurations& durations) {
  for (const Json& action : actions) {
    const auto guest = action.at("vm").get<planner::GuestId>();
    const planner::Move move{.guest = guest,
                             .from = action.at("from").get<planner::HostId>(),
                             .to = action.at("to").get<planner::HostId>(),
                             .bytes_per_second = action.at("bw").get<std::uint64_t>() * kMegabit,
                             .start_ms = action.at("start").get<std::uint64_t>() * 1000,
                             .end_ms = action.at("end").get<std::uint64_t>() * 1000};
    plan.moves.push_back(move);
    plan.instance.destinations.push_back({move.guest, move.to});
    const std::uint64_t bytes = plan.instance.cluster.guests.at(guest).populated_bytes;
    const std::uint64_t duration_ms = move.end_ms - move.start_ms;
    const auto [known, fresh] =
        durations.emplace(std::pair(bytes, move.bytes_per_second), duration_ms);
    if (!fresh && known->second != duration_ms)
      throw std::runtime_error("planned durations disagree");
  }
}

// {action=migrate(vm=vm#7, from=node#3, to=node#2, bw=1000)};START;END;RUN
void read_runs(PublishedPlan& plan, const fs::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + " cannot be read");
  std::string line;
  while (std::getline(file, line)) {
    unsigned guest = 0;
    unsigned from = 0;
    unsigned to = 0;
    unsigned long long megabits = 0;
    unsigned long long start_s = 0;
    unsigned long long end_s = 0;
    if (std::sscanf(line.c_str(),
                    "{action=migrate(vm=vm#%u, from=node#%u, to=node#%u, bw=%llu)};%llu;%llu",
                    &guest, &from, &to, &megabits, &start_s, &end_s) != 6)
      continue;
    plan.runs.push_back({guest, megabits * kMegabit, (end_s - start_s) * 1000});
  }
}

// Hosts on leaf switches, leaf switches on a root, capacities of the links in the view.
void read_network(planner::Cluster& cluster, const Json& network) {
  cluster.switches.resize(network.at("switches").size());
  for (std::size_t i = 0; i < cluster.switches.size(); ++i) {
    if (network.at("switches")[i].at("capacity").get<int>() >= 0)
      throw std::runtime_error("a switch that blocks is not in the model");
    cluster.switches[i].name = fmt::format("switch {}", i);
  }
  for (const Json& link : network.at("links")) {
    const Json& element = link.at("physicalElement");
    const auto id = element.at("id").get<std::uint32_t>();
    const auto parent = link.at("switch").get<planner::SwitchId>();
    const auto rate = link.at("capacity").get<std::uint64_t>() * kMegabit;
    if (element.at("type") == "node") {
      planner::Host& host = cluster.hosts.at(id);
      host.attached_to = parent;
      cluster.links[host.transmit].bytes_per_second = rate;
      cluster.links[host.receive].bytes_per_second = rate;
      continue;
    }
    planner::Switch& leaf = cluster.switches.at(id);
    leaf.parent = parent;
    leaf.up = static_cast<planner::LinkId>(cluster.links.size());
    add_link(cluster, leaf.name + " up", rate / kMegabit);
    leaf.down = static_cast<planner::LinkId>(cluster.links.size());
    add_link(cluster, leaf.name + " down", rate / kMegabit);
  }
}

Instance read_instance(const fs::path& path, const fs::path& root) {
  const Json document = Json::parse(read_file(path));
  const Json& model = document.at("model");
  Instance instance;
  instance.name = fs::relative(path, root).string();
  instance.name.resize(instance.name.find(".json"));
  const std::size_t hosts =
      model.at("mapping").at("onlineNodes").size() + model.at("mapping").at("offlineNodes").size();
  add_hosts(instance.cluster, model, hosts, [](std::uint32_t) { return 1; });
  read_network(instance.cluster, view(model, "net", ""));
  add_guests(instance.cluster, model);
  for (const Json& constraint : document.at("constraints")) {
    if (constraint.at("id") != "fence") continue;
    const planner::Destination destination{constraint.at("vm").get<planner::GuestId>(),
                                           constraint.at("nodes").at(0).get<planner::HostId>()};
    if (instance.cluster.guests.at(destination.guest).host != destination.to)
      instance.destinations.push_back(destination);
  }
  return instance;
}

}  // namespace

std::vector<PublishedPlan> read_plans(const std::string& directory, PlannedDurations& durations) {
  constexpr int kPlans = 50;
  constexpr int kRepetitions = 4;
  std::vector<PublishedPlan> plans;
  for (int number = 1; number <= kPlans; ++number) {
    const fs::path path = fs::path(directory) / "plans" / fmt::format("random.{}.json", number);
    try {
      const Json document = Json::parse(read_file(path));
      PublishedPlan& plan = plans.emplace_back();
      plan.instance.name = fmt::format("random.{}", number);
      add_hosts(plan.instance.cluster, document.at("origin"), kPlanMegabits.size(),
                [](std::uint32_t host) { return kPlanMegabits[host]; });
      add_guests(plan.instance.cluster, document.at("origin"));
      read_actions(plan, document.at("actions"), durations);
      for (int run = 1; run <= kRepetitions; ++run) {
        read_runs(plan, fs::path(directory) / "runs" / std::to_string(run) /
                            fmt::format("micro_random.{}.csv", number));
      }
    } catch (const std::exception& error) {
      throw std::runtime_error(path.string() + ": " + error.what());
    }
  }
  return plans;
}

std::vector<Instance> read_instances(const std::string& directory) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(directory) / "large")) {
    if (entry.path().extension() == ".gz") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Instance> instances;
  for (const fs::path& path : paths) {
    try {
      instances.push_back(read_instance(path, fs::path(directory) / "large"));
    } catch (const std::exception& error) {
      throw std::runtime_error(path.string() + ": " + error.what());
    }
  }
  return instances;
}

}  // namespace sluice::perf

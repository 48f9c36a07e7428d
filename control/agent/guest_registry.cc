#include "control/agent/guest_registry.h"

#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <limits>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "drivers/guest/definition.h"
#include "drivers/guest/qemu/cpu_level.h"

namespace sluice::agent {
namespace {

// For all guests of a host together: whoever lists them waits for it.
constexpr std::chrono::seconds kLookTime{1};

constexpr const char* kSilent = "silent";

const char* name_of(guest::Phase phase) {
  switch (phase) {
    case guest::Phase::kRunning:
      return "running";
    case guest::Phase::kPaused:
      return "paused";
    case guest::Phase::kIncoming:
      return "incoming";
    case guest::Phase::kHandedOver:
      return "handed-over";
    case guest::Phase::kGone:
      return "gone";
  }
  return "?";
}

// Of a guest that nobody else may call.
GuestView view_of(guest::Guest& guest) {
  const auto& description = guest.description();
  GuestView view;
  view.name = description.definition.name;
  view.driver = description.definition.driver;
  view.state = name_of(guest.phase());
  view.memory_bytes = description.definition.memory_bytes;
  view.pid = guest.pid();
  view.machine_type = description.machine_type;
  view.definition_toml = guest::to_toml(description.definition);
  view.cpu_level = description.cpu_level;
  // An emulated CPU needs no level.
  view.cpu_level_from_host = description.cpu_level != 0 &&
                             guest::qemu::takes_cpu_of_host(description.definition.qemu_args);
  view.qemu_version = description.qemu_version;
  view.qemu_binary = description.definition.qemu_binary;
  return view;
}

std::string in_mebibytes(std::uint64_t bytes) { return fmt::format("{} MiB", bytes >> 20); }

std::uint64_t meminfo_bytes(const std::string& wanted) {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  std::uint64_t kibibytes = 0;
  while (meminfo >> key >> kibibytes) {
    if (key == wanted) return kibibytes << 10;
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

}  // namespace

std::uint64_t available_memory_bytes() { return meminfo_bytes("MemAvailable:"); }
std::uint64_t total_memory_bytes() { return meminfo_bytes("MemTotal:"); }

// ---- claims ----

GuestClaim& GuestClaim::operator=(GuestClaim&& other) noexcept {
  if (this != &other) {
    release();
    registry_ = std::exchange(other.registry_, nullptr);
    name_ = std::move(other.name_);
    guest_ = std::exchange(other.guest_, nullptr);
  }
  return *this;
}

void GuestClaim::on_exit(std::function<void()> callback) {
  const std::lock_guard lock(registry_->mutex_);
  auto& entry = registry_->guests_.at(name_);
  if (entry.exited) {
    callback();
  } else {
    entry.on_exit = std::move(callback);
  }
}

void GuestClaim::set_purpose(ClaimPurpose purpose, const std::string& peer) {
  const std::lock_guard lock(registry_->mutex_);
  auto& entry = registry_->guests_.at(name_);
  entry.purpose = purpose;
  if (!peer.empty()) entry.peer = peer;
}

Expected<void> GuestClaim::destroy() {
  auto guest = registry_->take(name_);
  if (auto destroyed = guest->destroy(); !destroyed) {
    registry_->put_back(name_, std::move(guest));
    return destroyed;
  }
  guest.reset();
  registry_->forget(name_);
  registry_ = nullptr;
  guest_ = nullptr;
  return {};
}

void GuestClaim::release() {
  if (registry_ == nullptr) return;
  std::exchange(registry_, nullptr)->release(name_);
  guest_ = nullptr;
}

// ---- registry ----

GuestRegistry::GuestRegistry(std::string host, std::uint64_t capacity_bytes)
    : host_(std::move(host)),
      capacity_bytes_(capacity_bytes),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      watcher_([this](const std::stop_token& stop) { watch(stop); }) {}

GuestRegistry::~GuestRegistry() {
  watcher_.request_stop();
  wake_watcher();
  watcher_.join();
  close(wake_fd_);
}

std::string GuestRegistry::busy_text(const Entry& entry) const {
  const auto& name = entry.view.name;
  if (!entry.claimed) return fmt::format("guest {} exists already", name);
  switch (entry.purpose) {
    case ClaimPurpose::kMove:
      return fmt::format("guest {} is already moving to {}", name, entry.peer);
    case ClaimPurpose::kIncoming:
      return fmt::format("guest {} is arriving from {}", name, entry.peer);
    case ClaimPurpose::kStop:
      return fmt::format("guest {} is being started or stopped", name);
    case ClaimPurpose::kInspect:
      return fmt::format("guest {} is being checked", name);
    case ClaimPurpose::kLook:
      return fmt::format("guest {} exists already", name);
    case ClaimPurpose::kForgotten:
      return fmt::format(
          "guest {0} waits for an operator, since host {1} has lost its records of it; see sluice "
          "guest resume and sluice guest stop",
          name, entry.peer);
    case ClaimPurpose::kSilent:
      return fmt::format(
          "guest {} may run, but its QEMU{} does not answer; {}'s agent asks it again and again, "
          "and its log says why",
          name, entry.view.pid == 0 ? "" : fmt::format(" (process {})", entry.view.pid), host_);
  }
  return fmt::format("guest {} is in use", name);
}

std::uint64_t GuestRegistry::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_locked();
}

std::uint64_t GuestRegistry::used_bytes_locked() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, entry] : guests_) bytes += entry.view.memory_bytes;
  return bytes;
}

Expected<void> GuestRegistry::reserve(const std::string& name, std::uint64_t bytes,
                                      const std::string& incoming_from) {
  const std::uint64_t available = available_memory_bytes();
  const std::lock_guard lock(mutex_);
  if (auto accepts = check_accepts(name); !accepts) return accepts;
  const std::uint64_t used = used_bytes_locked();
  if (const auto found = guests_.find(name); found != guests_.end())
    return fail(ErrorKind::kBusy, fmt::format("{} on {}", busy_text(found->second), host_));
  if (used > capacity_bytes_ || bytes > capacity_bytes_ - used) {
    return fail(ErrorKind::kNoCapacity,
                fmt::format("guest {} needs {} of memory, {} has {} left of the {} it offers", name,
                            in_mebibytes(bytes), host_,
                            in_mebibytes(capacity_bytes_ > used ? capacity_bytes_ - used : 0),
                            in_mebibytes(capacity_bytes_)));
  }
  if (bytes > available) {
    return fail(ErrorKind::kNoCapacity,
                fmt::format("guest {} needs {} of memory, {} has {} free just now", name,
                            in_mebibytes(bytes), host_, in_mebibytes(available)));
  }
  Entry entry;
  entry.view.name = name;
  entry.view.state = incoming_from.empty() ? "starting" : "incoming";
  entry.view.memory_bytes = bytes;
  entry.claimed = true;
  entry.purpose = incoming_from.empty() ? ClaimPurpose::kStop : ClaimPurpose::kIncoming;
  entry.peer = incoming_from;
  guests_.emplace(name, std::move(entry));
  return {};
}

Expected<void> GuestRegistry::check_accepts(const std::string& name) const {
  if (refusal_.empty()) return {};
  return fail(ErrorKind::kBusy, fmt::format("{}: it takes no guest {}", refusal_, name));
}

Expected<void> GuestRegistry::refuse_more(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!guests_.empty()) {
    return fail(ErrorKind::kBusy,
                fmt::format("{} has {} guests that must be moved first", host_, guests_.size()));
  }
  refusal_ = why;
  return {};
}

void GuestRegistry::accept_again() {
  const std::lock_guard lock(mutex_);
  refusal_.clear();
}

Expected<GuestClaim> GuestRegistry::create(const std::string& name, std::uint64_t bytes,
                                           const std::string& incoming_from, const Maker& make) {
  if (auto reserved = reserve(name, bytes, incoming_from); !reserved)
    return tl::unexpected<Error>(reserved.error());
  auto made = make();
  if (!made) {
    forget(name);
    return tl::unexpected<Error>(made.error());
  }
  guest::Guest* guest = made->get();
  auto view = view_of(*guest);
  {
    const std::lock_guard lock(mutex_);
    auto& entry = guests_.at(name);
    entry.guest = std::move(*made);
    entry.view = std::move(view);
  }
  wake_watcher();
  return GuestClaim(this, name, guest);
}

Expected<void> GuestRegistry::add(std::unique_ptr<guest::Guest> guest) {
  const std::string name = guest->description().definition.name;
  Entry entry;
  entry.view = view_of(*guest);
  entry.guest = std::move(guest);
  {
    const std::lock_guard lock(mutex_);
    if (auto accepts = check_accepts(name); !accepts) return accepts;
    if (const auto found = guests_.find(name); found != guests_.end())
      return fail(ErrorKind::kBusy, fmt::format("{} on {}", busy_text(found->second), host_));
    guests_.emplace(name, std::move(entry));
  }
  wake_watcher();
  return {};
}

Expected<void> GuestRegistry::add_silent(const guest::SilentGuest& silent) {
  Entry entry;
  entry.view.name = silent.name;
  entry.view.state = kSilent;
  entry.view.memory_bytes = silent.memory_bytes;
  entry.view.pid = silent.pid;
  entry.claimed = true;
  entry.purpose = ClaimPurpose::kSilent;
  const std::lock_guard lock(mutex_);
  if (const auto found = guests_.find(silent.name); found != guests_.end())
    return fail(ErrorKind::kBusy, fmt::format("{} on {}", busy_text(found->second), host_));
  guests_.emplace(silent.name, std::move(entry));
  return {};
}

GuestClaim GuestRegistry::end_silence(std::unique_ptr<guest::Guest> guest) {
  guest::Guest* const answering = guest.get();
  auto view = view_of(*guest);
  const std::string name = view.name;
  {
    const std::lock_guard lock(mutex_);
    auto& entry = guests_.at(name);
    entry.guest = std::move(guest);
    entry.view = std::move(view);
    entry.purpose = ClaimPurpose::kInspect;
  }
  wake_watcher();
  return {this, name, answering};
}

Expected<GuestClaim> GuestRegistry::claim(const std::string& name, ClaimPurpose purpose,
                                          const std::string& peer) {
  std::unique_lock lock(mutex_);
  auto found = guests_.end();
  looked_.wait(lock, [&] {
    found = guests_.find(name);
    return found == guests_.end() || !is_looked_at(found->second);
  });
  if (found == guests_.end() || found->second.exited)
    return fail(ErrorKind::kNotFound, fmt::format("no guest {} on {}", name, host_));
  Entry& entry = found->second;
  if (entry.claimed) return fail(ErrorKind::kBusy, busy_text(entry));
  entry.claimed = true;
  entry.purpose = purpose;
  entry.peer = peer;
  return GuestClaim(this, name, entry.guest.get());
}

GuestClaim GuestRegistry::claim_to_look(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = guests_.find(name);
  if (found == guests_.end() || found->second.claimed || found->second.exited) return {};
  found->second.claimed = true;
  found->second.purpose = ClaimPurpose::kLook;
  return {this, name, found->second.guest.get()};
}

void GuestRegistry::look_at_unclaimed(Clock::time_point deadline) {
  std::vector<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : guests_) names.push_back(name);
  }
  for (const auto& name : names) {
    if (Clock::now() >= deadline) return;
    // Giving a claim back is what asks.
    claim_to_look(name).release();
  }
}

bool GuestRegistry::has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return guests_.count(name) != 0;
}

std::size_t GuestRegistry::count() const {
  const std::lock_guard lock(mutex_);
  return guests_.size();
}

std::vector<GuestView> GuestRegistry::list() {
  const auto deadline = Clock::now() + kLookTime;
  look_at_unclaimed(deadline);
  std::unique_lock lock(mutex_);
  // Another thread may be asking.
  looked_.wait_until(lock, deadline, [&] {
    return std::none_of(guests_.begin(), guests_.end(),
                        [](const auto& named) { return is_looked_at(named.second); });
  });
  std::vector<GuestView> views;
  for (const auto& [name, entry] : guests_) {
    GuestView view = entry.view;
    view.figures = entry.figures;
    if (entry.claimed && entry.purpose == ClaimPurpose::kForgotten) view.state = "forgotten";
    if (entry.claimed && entry.purpose == ClaimPurpose::kMove) {
      view.state = "moving";
      view.moving_to = entry.peer;
    }
    views.push_back(std::move(view));
  }
  return views;
}

std::vector<GuestView> GuestRegistry::at_rest() const {
  const std::lock_guard lock(mutex_);
  std::vector<GuestView> views;
  for (const auto& [name, entry] : guests_) {
    if (entry.exited || (entry.claimed && !is_looked_at(entry))) continue;
    if (entry.view.state != name_of(guest::Phase::kRunning)) continue;
    views.push_back(entry.view);
    views.back().figures = entry.figures;
  }
  return views;
}

bool GuestRegistry::anybody_moves() const {
  const std::lock_guard lock(mutex_);
  return std::any_of(guests_.begin(), guests_.end(), [](const auto& named) {
    const auto purpose = named.second.purpose;
    return named.second.claimed &&
           (purpose == ClaimPurpose::kMove || purpose == ClaimPurpose::kIncoming);
  });
}

std::optional<LentMemory> GuestRegistry::lend_memory(const std::string& name) {
  const auto looked_at = claim(name, ClaimPurpose::kLook);
  if (!looked_at) return std::nullopt;
  LentMemory lent;
  lent.memory = looked_at->guest().memory();
  if (lent.memory.memory_fd < 0) return std::nullopt;
  lent.file = FileDescriptor(fcntl(lent.memory.memory_fd, F_DUPFD_CLOEXEC, 0));
  if (!lent.file.valid()) return std::nullopt;
  lent.memory.memory_fd = lent.file.get();
  return lent;
}

void GuestRegistry::note_figures(const std::string& name, const GuestFigures& figures) {
  const std::lock_guard lock(mutex_);
  if (const auto found = guests_.find(name); found != guests_.end())
    found->second.figures = figures;
}

std::optional<GuestFigures> GuestRegistry::figures_of(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = guests_.find(name);
  return found == guests_.end() ? std::nullopt : found->second.figures;
}

void GuestRegistry::release(const std::string& name) {
  guest::Guest* guest = nullptr;
  bool exited = false;
  {
    const std::lock_guard lock(mutex_);
    auto& entry = guests_.at(name);
    entry.on_exit = nullptr;
    entry.purpose = ClaimPurpose::kLook;
    guest = entry.guest.get();
    exited = entry.exited;
  }
  if (!exited) {
    auto view = view_of(*guest);
    const std::lock_guard lock(mutex_);
    auto& entry = guests_.at(name);
    exited = entry.exited;
    if (!exited) {
      entry.view = std::move(view);
      entry.claimed = false;
    }
  }
  if (exited) {
    // Nobody else can claim a guest that has exited, so it is still ours.
    if (auto ours = take(name)) (void)ours->destroy();
    forget(name);
  }
  looked_.notify_all();
}

std::unique_ptr<guest::Guest> GuestRegistry::take(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return std::move(guests_.at(name).guest);
}

void GuestRegistry::put_back(const std::string& name, std::unique_ptr<guest::Guest> guest) {
  {
    const std::lock_guard lock(mutex_);
    guests_.at(name).guest = std::move(guest);
  }
  wake_watcher();
}

void GuestRegistry::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  guests_.erase(name);
}

// ---- watching for exits ----

void GuestRegistry::wake_watcher() const { eventfd_write(wake_fd_, 1); }

void GuestRegistry::watch(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    std::vector<pollfd> fds = {{wake_fd_, POLLIN, 0}};
    std::vector<std::string> names = {""};
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [name, entry] : guests_) {
        if (!entry.guest || entry.exited || entry.guest->death_fd() < 0) continue;
        fds.push_back({entry.guest->death_fd(), POLLIN, 0});
        names.push_back(name);
      }
    }
    // The time-out bounds what a descriptor that was closed and used again meanwhile could hide.
    poll(fds.data(), fds.size(), 1000);
    eventfd_t ignored = 0;
    if (fds[0].revents != 0) eventfd_read(wake_fd_, &ignored);
    for (std::size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) note_exit(names[i]);
    }
  }
}

void GuestRegistry::note_exit(const std::string& name) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = guests_.find(name);
    if (found == guests_.end() || !found->second.guest || found->second.guest->alive()) return;
    Entry& entry = found->second;
    entry.exited = true;
    spdlog::warn("guest {} has exited", name);
    if (entry.claimed) {
      if (entry.on_exit) std::exchange(entry.on_exit, nullptr)();
      return;
    }
    entry.claimed = true;
  }
  release(name);
}

}  // namespace sluice::agent

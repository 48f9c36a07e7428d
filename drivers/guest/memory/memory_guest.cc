#include "drivers/guest/memory/memory_guest.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/mman.h>
#include <type_traits>
#include <unistd.h>
#include <utility>

namespace sluice::guest {

// The guest's RAM: a memfd and this process's mapping of it, which is the one that is tracked.
struct MemoryGuest::Mapping {
  int fd = -1;
  std::span<std::byte> bytes;

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (!bytes.empty()) munmap(bytes.data(), bytes.size());
    if (fd >= 0) close(fd);
  }

  [[nodiscard]] static Expected<std::unique_ptr<Mapping>> make(const Definition& definition);
  // Makes the kernel allocate [offset, offset + size) now, so that no later access waits for it.
  [[nodiscard]] Expected<void> populate(const Definition& definition, std::size_t offset,
                                        std::size_t size);
};

namespace {

// What is allocated at once before it is filled: small enough to be still in the cache.
constexpr std::size_t kPopulateBytes = 4 * kExtentBytes;

struct SavedState {
  std::uint64_t magic = 0;
  std::uint64_t memory_bytes = 0;
  memory::Ledger ledger;
};
static_assert(sizeof(SavedState) == 48);
static_assert(std::is_trivially_copyable_v<SavedState>);
constexpr std::uint64_t kStateMagic = 0x31303054534D4C53;  // "SLMST001"

Error system_error(const Definition& definition, const char* call) {
  const int code = errno;
  const bool lacking = code == ENOMEM || code == ENOSPC || code == EFAULT || code == EMFILE;
  return Error{lacking ? ErrorKind::kNoCapacity : ErrorKind::kFailed,
               "guest " + definition.name + ": " + call + " of " +
                   std::to_string(definition.memory_bytes >> 20) + " MiB: " + std::strerror(code) +
                   (lacking ? "; free memory on this host or make the guest smaller" : "")};
}

Expected<memory::Pattern> parse_pattern(const Definition& definition) {
  if (definition.pattern == "uniform") return memory::Pattern::kUniform;
  if (definition.pattern == "hotset") return memory::Pattern::kHotset;
  return fail(ErrorKind::kInvalid, "guest " + definition.name + ": pattern \"" +
                                       definition.pattern +
                                       "\" is not known; use \"uniform\" or \"hotset\"");
}

}  // namespace

Expected<std::unique_ptr<MemoryGuest::Mapping>> MemoryGuest::Mapping::make(
    const Definition& definition) {
  auto mapping = std::make_unique<Mapping>();
  mapping->fd = memfd_create(("sluice-" + definition.name).c_str(), MFD_CLOEXEC);
  if (mapping->fd < 0) return tl::unexpected(system_error(definition, "memfd_create"));
  if (ftruncate(mapping->fd, static_cast<off_t>(definition.memory_bytes)) != 0)
    return tl::unexpected(system_error(definition, "ftruncate"));
  void* const address =
      mmap(nullptr, definition.memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mapping->fd, 0);
  if (address == MAP_FAILED) return tl::unexpected(system_error(definition, "mmap"));
  mapping->bytes = {static_cast<std::byte*>(address), definition.memory_bytes};
  return mapping;
}

MemoryGuest::MemoryGuest(Description description, std::unique_ptr<Mapping> mapping,
                         memory::Pattern pattern)
    : description_(std::move(description)),
      mapping_(std::move(mapping)),
      contents_(mapping_->bytes, pattern),
      writer_(contents_, description_.definition.dirty_bytes_per_second) {}

MemoryGuest::~MemoryGuest() { writer_.stop(); }

Expected<void> MemoryGuest::Mapping::populate(const Definition& definition, std::size_t offset,
                                              std::size_t size) {
  if (madvise(bytes.data() + offset, size, MADV_POPULATE_WRITE) != 0)
    return tl::unexpected(system_error(definition, "populating"));
  return {};
}

Expected<std::unique_ptr<MemoryGuest>> MemoryGuest::make(const Description& description) {
  const Definition& definition = description.definition;
  if (definition.memory_bytes == 0 || definition.memory_bytes % kExtentBytes != 0) {
    return fail(ErrorKind::kInvalid, "guest " + definition.name + ": memory of " +
                                         std::to_string(definition.memory_bytes) +
                                         " bytes is not a multiple of 2 MiB");
  }
  const auto pattern = parse_pattern(definition);
  if (!pattern) return tl::unexpected(pattern.error());
  auto mapping = Mapping::make(definition);
  if (!mapping) return tl::unexpected(mapping.error());
  return std::unique_ptr<MemoryGuest>(new MemoryGuest(description, std::move(*mapping), *pattern));
}

Expected<std::unique_ptr<MemoryGuest>> MemoryGuest::start(const Definition& definition,
                                                          std::uint64_t seed) {
  Description description;
  description.definition = definition;
  auto made = make(description);
  if (!made) return made;
  MemoryGuest& guest = **made;
  guest.contents_.begin(seed);
  const std::size_t bytes = guest.mapping_->bytes.size();
  for (std::size_t offset = 0; offset < bytes; offset += kPopulateBytes) {
    const std::size_t part = std::min(kPopulateBytes, bytes - offset);
    const auto populated = guest.mapping_->populate(definition, offset, part);
    if (!populated) return tl::unexpected(populated.error());
    guest.contents_.fill(offset / kPageBytes, part / kPageBytes);
  }
  guest.phase_ = Phase::kRunning;
  guest.writer_.run();
  return made;
}

Expected<std::unique_ptr<MemoryGuest>> MemoryGuest::prepare_incoming(
    const Description& description) {
  auto made = make(description);
  if (!made) return made;
  Mapping& mapping = *(*made)->mapping_;
  const auto populated = mapping.populate(description.definition, 0, mapping.bytes.size());
  if (!populated) return tl::unexpected(populated.error());
  return made;
}

Memory MemoryGuest::memory() const {
  return Memory{.memory_fd = mapping_->fd,
                .offset = 0,
                .bytes = mapping_->bytes.size(),
                .pid = getpid(),
                .guest_address = reinterpret_cast<std::uint64_t>(mapping_->bytes.data())};
}

pid_t MemoryGuest::pid() const { return getpid(); }

Expected<void> MemoryGuest::require(Phase phase, const char* action) {
  if (phase_ == phase) return {};
  return fail(ErrorKind::kFailed, "guest " + description_.definition.name + " cannot " + action +
                                      " in its present phase (" +
                                      std::to_string(static_cast<int>(phase_.load())) + ")");
}

Expected<void> MemoryGuest::check_movable() { return require(Phase::kRunning, "move"); }

Expected<TimeNs> MemoryGuest::pause_for_switchover() {
  if (auto ready = require(Phase::kRunning, "be paused"); !ready)
    return tl::unexpected(ready.error());
  const TimeNs stopped_at_ns = writer_.pause();
  phase_ = Phase::kPaused;
  return stopped_at_ns;
}

Expected<std::size_t> MemoryGuest::save_state(std::span<std::byte> out) {
  if (auto ready = require(Phase::kPaused, "save its state"); !ready)
    return tl::unexpected(ready.error());
  const SavedState state{kStateMagic, mapping_->bytes.size(), contents_.ledger()};
  if (out.size() < sizeof state) {
    return fail(ErrorKind::kNoCapacity, "guest " + description_.definition.name +
                                            ": its state does not fit " +
                                            std::to_string(out.size()) + " bytes");
  }
  std::memcpy(out.data(), &state, sizeof state);
  phase_ = Phase::kHandedOver;
  return sizeof state;
}

Expected<void> MemoryGuest::cancel_handover() {
  if (phase_ != Phase::kHandedOver) {
    if (auto ready = require(Phase::kPaused, "take its handover back"); !ready) return ready;
  }
  phase_ = Phase::kRunning;
  writer_.run();
  return {};
}

Expected<void> MemoryGuest::destroy() {
  writer_.stop();
  phase_ = Phase::kGone;
  // Gives the memory back at once; the mapping and the descriptor stay valid for whoever still
  // looks.
  if (fallocate(mapping_->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                static_cast<off_t>(mapping_->bytes.size())) != 0)
    return tl::unexpected(system_error(description_.definition, "freeing"));
  return {};
}

Expected<void> MemoryGuest::load_state(std::span<const std::byte> bytes) {
  if (auto ready = require(Phase::kIncoming, "load state"); !ready) return ready;
  SavedState state;
  if (bytes.size() == sizeof state) std::memcpy(&state, bytes.data(), sizeof state);
  if (state.magic != kStateMagic || state.memory_bytes != mapping_->bytes.size()) {
    return fail(ErrorKind::kInvalid, "guest " + description_.definition.name +
                                         ": the state is not that of a memory guest of this size");
  }
  contents_.adopt(state.ledger);
  state_loaded_ = true;
  return {};
}

Expected<void> MemoryGuest::resume() {
  if (phase_ == Phase::kRunning && state_loaded_) return {};
  if (auto ready = require(Phase::kIncoming, "resume"); !ready) return ready;
  if (!state_loaded_) {
    return fail(ErrorKind::kFailed,
                "guest " + description_.definition.name + " cannot resume without its state");
  }
  phase_ = Phase::kRunning;
  writer_.run();
  return {};
}

Expected<memory::VerifyResult> MemoryGuest::verify() {
  if (phase_ == Phase::kGone || (phase_ == Phase::kIncoming && !state_loaded_)) {
    return fail(ErrorKind::kFailed,
                "guest " + description_.definition.name + " has no contents to verify");
  }
  writer_.pause();
  const memory::VerifyResult result = contents_.verify();
  if (phase_ == Phase::kRunning) writer_.run();
  return result;
}

Expected<memory::VerifyResult> verify_guest(Guest& guest) {
  if (auto* const memory_guest = dynamic_cast<MemoryGuest*>(&guest)) return memory_guest->verify();
  return fail(ErrorKind::kUnsupported,
              "guest " + guest.description().definition.name +
                  " cannot be verified: only memory guests know their contents");
}

namespace {

class MemoryDriver final : public Driver {
 public:
  Expected<std::unique_ptr<Guest>> start(const Definition& definition) override {
    std::random_device entropy;
    return MemoryGuest::start(definition, std::uint64_t{entropy()} << 32 | entropy());
  }
  Expected<std::unique_ptr<Guest>> prepare_incoming(const Description& description) override {
    return MemoryGuest::prepare_incoming(description);
  }
  Expected<std::unique_ptr<Guest>> adopt(const std::string& qmp_socket) override {
    return fail(ErrorKind::kUnsupported,
                "memory guests cannot be adopted: " + qmp_socket + " needs driver \"qemu\"");
  }
  SurvivingGuests rediscover() override { return {}; }
  Expected<std::unique_ptr<Guest>> find_again(const std::string& name) override {
    return fail(ErrorKind::kNotFound, "guest " + name + " has gone with its agent");
  }
};

}  // namespace

std::unique_ptr<Driver> make_memory_driver(const HostContext& /*context*/) {
  return std::make_unique<MemoryDriver>();
}

}  // namespace sluice::guest

#include "drivers/dpdk/kernel_rings.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <utility>

#include "drivers/base/file_descriptor.h"

namespace sluice::dpdk {
namespace {

// Above any interface's MTU, and still positive as the kernel's int.
constexpr std::uint32_t kImpossibleBytes = 0x7fff'ffff;
// How often a ring is cleared of its largest frames and tried again at once: more often than a
// search for the largest frame that arrives has sizes.
constexpr int kTriesMax = 32;

bool is_packet_socket_of(int descriptor, int interface) {
  int domain = 0;
  socklen_t bytes = sizeof(domain);
  if (getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 || domain != AF_PACKET) {
    return false;
  }
  sockaddr_ll address{};
  bytes = sizeof(address);
  return getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
         address.sll_ifindex == interface;
}

// The driver opens them one after the other, so the lowest number is that of queue 0.
std::vector<int> packet_sockets_of(int interface) {
  std::vector<int> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const std::string name = entry.path().filename();
    int descriptor = -1;
    std::from_chars(name.data(), name.data() + name.size(), descriptor);
    if (is_packet_socket_of(descriptor, interface)) {
      found.push_back(descriptor);
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

class KernelRings::Ring {
 public:
  // A second mapping of the socket's rings, the receive ring first (Documentation/networking/
  // packet_mmap.rst).
  Ring(int socket, std::size_t frame_bytes, std::size_t frames)
      : socket_(fcntl(socket, F_DUPFD_CLOEXEC, 0)),
        frame_bytes_(frame_bytes),
        frames_(frames),
        map_(mmap(nullptr, 2 * ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, socket, 0)) {}
  ~Ring() {
    if (valid()) {
      munmap(map_, 2 * ring_bytes());
    }
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  [[nodiscard]] bool valid() const { return map_ != MAP_FAILED; }

  void supervise(std::uint64_t accepted) {
    if (waiting_ == 0 && accepted == accepted_) {
      return;
    }
    const std::size_t before = waiting_;
    waiting_ = count_waiting();
    // What came while it was counted makes frames that left seem fewer, never more.
    const auto left_before = static_cast<std::int64_t>(accepted_ - before);
    const auto left = static_cast<std::int64_t>(accepted - waiting_);
    accepted_ = accepted;
    if (before > 0 && waiting_ > 0 && left <= left_before) {
      clear();
    }
  }

 private:
  [[nodiscard]] std::size_t ring_bytes() const { return frame_bytes_ * frames_; }
  [[nodiscard]] tpacket2_hdr& frame(std::size_t index) const {
    return *reinterpret_cast<tpacket2_hdr*>(static_cast<std::byte*>(map_) + ring_bytes() +
                                            index * frame_bytes_);
  }
  [[nodiscard]] bool waits(std::size_t index) const {
    return std::atomic_ref(frame(index).tp_status).load(std::memory_order_acquire) ==
           TP_STATUS_SEND_REQUEST;
  }
  [[nodiscard]] std::atomic_ref<std::uint32_t> length(std::size_t index) const {
    return std::atomic_ref(frame(index).tp_len);
  }
  [[nodiscard]] std::size_t count_waiting() const {
    std::size_t count = 0;
    for (std::size_t i = 0; i < frames_; ++i) {
      count += waits(i) ? 1 : 0;
    }
    return count;
  }

  void clear() {
    for (int i = 0; i < kTriesMax && waiting_ > 0; ++i) {
      // As the driver does: "send what waits".
      ::send(socket_.get(), nullptr, 0, MSG_DONTWAIT);
      const std::size_t still = count_waiting();
      if (still >= waiting_) {
        give_up_largest();
      }
      waiting_ = still;
    }
  }

  void give_up_largest() {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < frames_; ++i) {
      const std::uint32_t bytes = length(i).load(std::memory_order_relaxed);
      if (waits(i) && bytes != kImpossibleBytes) {
        largest = std::max(largest, bytes);
      }
    }
    for (std::size_t i = 0; i < frames_; ++i) {
      if (waits(i) && length(i).load(std::memory_order_relaxed) == largest) {
        length(i).store(kImpossibleBytes, std::memory_order_relaxed);
      }
    }
  }

  FileDescriptor socket_;
  std::size_t frame_bytes_;
  std::size_t frames_;
  void* map_;
  std::uint64_t accepted_ = 0;
  std::size_t waiting_ = 0;
};

KernelRings::KernelRings(std::vector<std::unique_ptr<Ring>> rings) : rings_(std::move(rings)) {}
KernelRings::~KernelRings() = default;

Expected<std::unique_ptr<KernelRings>> KernelRings::open(const std::string& interface,
                                                         std::size_t queues,
                                                         std::size_t frame_bytes,
                                                         std::size_t frames) {
  const auto sockets = packet_sockets_of(static_cast<int>(if_nametoindex(interface.c_str())));
  std::vector<std::unique_ptr<Ring>> rings;
  rings.reserve(sockets.size());
  for (const int socket : sockets) {
    rings.push_back(std::make_unique<Ring>(socket, frame_bytes, frames));
  }
  if (rings.size() != queues ||
      !std::all_of(rings.begin(), rings.end(), [](const auto& ring) { return ring->valid(); })) {
    return fail(ErrorKind::kFailed, "the rings of " + std::to_string(queues) +
                                        " packet sockets are not where DPDK 22.11 has them; use "
                                        "the DPDK of Debian 12");
  }
  return std::unique_ptr<KernelRings>(new KernelRings(std::move(rings)));
}

void KernelRings::supervise(std::span<const std::uint64_t> accepted) {
  for (std::size_t i = 0; i < rings_.size(); ++i) {
    rings_[i]->supervise(accepted[i]);
  }
}

}  // namespace sluice::dpdk

// The data plane over real ports, without hugepages and without a control plane. The EAL starts
// once in a process, so every data plane here runs in a process of its own.
#include "drivers/dpdk/data_plane.h"

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <gtest/gtest.h>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "dataplane/base/random.h"

namespace sluice::dpdk {
namespace {

using engine::Command;
using engine::CommandKind;
using engine::Event;
using engine::EventKind;

constexpr std::uint64_t kPages = 2048;
constexpr std::chrono::seconds kPatience{30};

const char* prefix_of(bool over_ipv6, bool sends) {
  if (over_ipv6) {
    return sends ? "fd00:9::1/64" : "fd00:9::2/64";
  }
  return sends ? "10.9.0.1/24" : "10.9.0.2/24";
}

wire::Endpoint endpoint(bool over_ipv6, bool sends) {
  return {{2, 0, 0, 0, 0, static_cast<std::uint8_t>(sends ? 1 : 2)},
          wire::parse_prefix(prefix_of(over_ipv6, sends))->address,
          7401};
}

wire::PacketTemplate packets(bool over_ipv6, bool sends) {
  return {endpoint(over_ipv6, sends), endpoint(over_ipv6, !sends), 0};
}

DataPlaneConfig memif_config(const std::string& directory, bool server, bool sends,
                             bool over_ipv6 = false) {
  DataPlaneConfig config;
  config.port = "memif:" + directory + "/memif.sock";
  config.memif_server = server;
  config.address = *wire::parse_prefix(prefix_of(over_ipv6, sends));
  config.hugepages = Hugepages::kNo;
  config.memory_bytes = 64UL << 20;
  return config;
}

// ---- errors, none of which needs the EAL ----

std::string error_of(const DataPlaneConfig& config) {
  const auto plane = DataPlane::start(config, [](const Event&) {});
  return plane ? "" : plane.error().message;
}

struct BadInput {
  const char* port;
  std::size_t mtu;
  const char* expected;
};

class DataPlaneBadInput : public testing::TestWithParam<BadInput> {};

TEST_P(DataPlaneBadInput, IsNamed) {
  DataPlaneConfig config;
  config.port = GetParam().port;
  config.mtu = GetParam().mtu;
  EXPECT_NE(error_of(config).find(GetParam().expected), std::string::npos) << error_of(config);
}

INSTANTIATE_TEST_SUITE_P(
    All, DataPlaneBadInput,
    testing::Values(BadInput{"eth0", 9000, "port 'eth0': expected pci:ADDRESS"},
                    BadInput{"kernel:", 9000, "expected pci:ADDRESS"},
                    BadInput{"kernel:no-such-if", 9000, "kernel:no-such-if: no such interface"},
                    BadInput{"kernel:a-name-that-is-too-long", 9000, "not an interface's name"},
                    BadInput{"memif:relative.sock", 9000, "expected an absolute path"},
                    BadInput{"memif:/no/such/directory/m.sock", 9000, "/no/such/directory"},
                    BadInput{"pci:0000:ff:1f.7", 9000, "0000:ff:1f.7: no such device"},
                    BadInput{"memif:/tmp/m.sock", wire::kMtuMin - 1, "expected 640 to 65379"},
                    BadInput{"memif:/no-such/m.sock", wire::kMtuMin, "/no-such"},
                    BadInput{"memif:/no-such/m.sock", kPortMtuMax, "/no-such"},
                    BadInput{"memif:/tmp/m.sock", kPortMtuMax + 1, "expected 640 to 65379"}));

TEST(DataPlaneCores, MustExistAndBeOnePerQueue) {
  DataPlaneConfig config = memif_config("/tmp", false, true);
  config.cores = {4095};
  EXPECT_NE(error_of(config).find("core 4095"), std::string::npos);
  config.cores = {0, 1};
  EXPECT_NE(error_of(config).find("one core for each of the 1 queues"), std::string::npos);
}

// ---- two processes ----

// A data plane with one flow over memory of its own, at either end.
class End {
 public:
  End(const DataPlaneConfig& config, bool sends)
      : memory_(static_cast<std::byte*>(mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))),
        layout_({kPages}),
        shards_(layout_.extents(), 1, 0),
        map_(layout_, {memory_}),
        over_ipv6_(config.address.address.is_v6()) {
    auto plane = DataPlane::start(config, [this](const Event& event) { on_event(event); });
    if (!plane) {
      std::fprintf(stderr, "%s\n", plane.error().message.c_str());
      std::_Exit(10);
    }
    plane_ = std::move(*plane);
    if (sends) {
      Random random(7);
      for (std::uint64_t i = 0; i < kPages * kPageBytes / 8; ++i) {
        reinterpret_cast<std::uint64_t*>(memory_)[i] = random.next();
      }
    }
  }

  void start_sending(std::uint64_t session) {
    protocol::SenderConfig config;
    config.session = session;
    config.mtu = wire::ipv4_mtu(config.mtu, endpoint(over_ipv6_, true).address);
    send_ = std::make_unique<engine::SendFlow>(config, layout_, shards_, map_,
                                               packets(over_ipv6_, true), make_keys(session, true));
    Command command = make(CommandKind::kStartSending, session);
    command.send = send_.get();
    submit(command);
    submit(make(CommandKind::kFinalPass, session));
    await(EventKind::kSettled);
  }
  void start_receiving(std::uint64_t session) {
    protocol::ReceiverConfig config;
    config.session = session;
    receive_ = std::make_unique<engine::ReceiveFlow>(
        config, layout_, shards_, map_, packets(over_ipv6_, false), make_keys(session, false));
    Command command = make(CommandKind::kStartReceiving, session);
    command.receive = receive_.get();
    submit(command);
  }
  void send_all(std::uint64_t session) {
    Command command = make(CommandKind::kSendPages, session);
    command.pages = kPages;
    submit(command);
  }
  std::vector<page::ExtentDigest> fold(std::uint64_t session) {
    submit(make(CommandKind::kFold, session));
    await(EventKind::kFolded);
    return send_ ? send_->digests : receive_->digests;
  }
  void stop(std::uint64_t session) {
    submit(make(CommandKind::kStop, session));
    await(EventKind::kStopped);
  }
  // True when `kind` came before `other` and in time.
  bool await(EventKind kind, std::optional<EventKind> other = {}) {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (!changed_.wait_for(lock, kPatience, [this] { return !events_.empty(); })) {
        std::fprintf(stderr, "no event of kind %d\n", static_cast<int>(kind));
        std::_Exit(11);
      }
      const Event event = events_.front();
      events_.pop_front();
      if (event.kind == kind || event.kind == other) {
        return event.kind == kind;
      }
    }
  }

 private:
  // Odd sessions go in the clear, even ones are encrypted.
  std::unique_ptr<port::FlowKeys> make_keys(std::uint64_t session, bool source) {
    if (session % 2 == 1) {
      return nullptr;
    }
    auto keys = plane_->make_flow_keys(Secret(), session, 0, source);
    if (!keys) {
      std::fprintf(stderr, "%s\n", keys.error().message.c_str());
      std::_Exit(13);
    }
    return std::move(*keys);
  }
  static Command make(CommandKind kind, std::uint64_t session) {
    Command command;
    command.kind = kind;
    command.session = session;
    return command;
  }
  void submit(const Command& command) {
    if (!plane_->submit(0, command)) {
      std::_Exit(12);
    }
  }
  void on_event(const Event& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_one();
  }

  std::byte* memory_;
  page::Layout layout_;
  page::ShardMap shards_;
  page::MemoryMap map_;
  bool over_ipv6_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  std::unique_ptr<engine::SendFlow> send_;
  std::unique_ptr<engine::ReceiveFlow> receive_;
  std::unique_ptr<DataPlane> plane_;
};

struct Pipe {
  Pipe() {
    if (pipe(ends) != 0) {
      std::abort();
    }
  }
  void say() const { EXPECT_EQ(write(ends[1], "x", 1), 1); }
  void wait() const {
    char byte = 0;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
  }
  int ends[2] = {-1, -1};
};

template <typename Function>
pid_t in_child(Function function) {
  const pid_t pid = fork();
  if (pid == 0) {
    // Nothing is left behind by a test that fails.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::_Exit(function());
  }
  return pid;
}

int exit_status(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

struct Ends {
  bool sender_is_server = false;
  bool over_ipv6 = false;
};

class DataPlaneOverMemif : public testing::TestWithParam<Ends> {
 protected:
  void SetUp() override {
    char path[] = "/tmp/data-plane-test-XXXXXX";
    ASSERT_NE(mkdtemp(path), nullptr);
    directory = path;
  }
  void TearDown() override {
    unlink((directory + "/memif.sock").c_str());
    rmdir(directory.c_str());
  }
  std::string directory;
};

// What one receiving process and the sender tell each other.
struct Talk {
  Pipe start;
  Pipe ready;
  Pipe digests;
};

int receive_one_session(const DataPlaneConfig& config, std::uint64_t session, const Talk& talk) {
  talk.start.wait();
  End end(config, false);
  end.start_receiving(session);
  talk.ready.say();
  std::vector<page::ExtentDigest> expected(kPages / kExtentPages);
  const auto bytes = expected.size() * sizeof(expected[0]);
  if (read(talk.digests.ends[0], expected.data(), bytes) != static_cast<ssize_t>(bytes)) {
    return 3;
  }
  return end.fold(session) == expected ? 0 : 1;
}

// Sends again and again, and kills the receiver while packets are on their way. Returns when the
// sender has noticed.
void send_until_peer_dies(End& end, std::uint64_t session, pid_t receiver) {
  for (int round = 1; end.await(EventKind::kSettled, EventKind::kPeerSilent); ++round) {
    end.send_all(session);
    if (round == 10) {
      kill(receiver, SIGKILL);
    }
  }
}

// The sender starts first, when no peer is there; its peer is killed in the middle of a transfer;
// the next one is served.
int send_two_sessions(const std::string& directory, const Ends& ends) {
  const Talk talks[2];
  pid_t receivers[2];
  for (std::uint64_t i = 0; i < 2; ++i) {
    receivers[i] = in_child([&] {
      return receive_one_session(
          memif_config(directory, !ends.sender_is_server, false, ends.over_ipv6), i + 1, talks[i]);
    });
  }
  End end(memif_config(directory, ends.sender_is_server, true, ends.over_ipv6), true);
  for (std::uint64_t session = 1; session <= 2; ++session) {
    const Talk& talk = talks[session - 1];
    talk.start.say();
    talk.ready.wait();
    end.start_sending(session);
    end.send_all(session);
    if (session == 1) {
      send_until_peer_dies(end, session, receivers[0]);
    } else {
      end.await(EventKind::kSettled);
      const auto digests = end.fold(session);
      const auto bytes = digests.size() * sizeof(digests[0]);
      if (write(talk.digests.ends[1], digests.data(), bytes) != static_cast<ssize_t>(bytes)) {
        return 4;
      }
    }
    const int status = exit_status(receivers[session - 1]);
    if (status != (session == 1 ? 1000 + SIGKILL : 0)) {
      return status;
    }
    end.stop(session);
  }
  return 0;
}

TEST_P(DataPlaneOverMemif, OutlivesItsPeerAndServesTheNextOne) {
  const pid_t sender = in_child([this] { return send_two_sessions(directory, GetParam()); });
  EXPECT_EQ(exit_status(sender), 0)
      << "1: digests differ; 10 to 12: no start, event or submit; 1000 + n: killed by signal n";
}

INSTANTIATE_TEST_SUITE_P(All, DataPlaneOverMemif,
                         testing::Values(Ends{true, false}, Ends{false, false}, Ends{true, true}));

}  // namespace
}  // namespace sluice::dpdk

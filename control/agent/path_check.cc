#include "control/agent/path_check.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fmt/format.h>
#include <grpcpp/client_context.h>
#include <memory>
#include <random>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "control/agent/flows.h"
#include "control/agent/peer_endpoint.h"
#include "control/agent/session_memory.h"
#include "control/model/channel.h"
#include "control/model/status.h"
#include "control/proto/sluice.grpc.pb.h"
#include "drivers/base/file_descriptor.h"

namespace sluice::agent {
namespace {

constexpr int kRoundTripsMore = 8;

// Flows come with memory, of which none is read or written here.
class NoGuest {
 public:
  [[nodiscard]] static Expected<std::unique_ptr<NoGuest>> make(dpdk::DataPlane& data_plane,
                                                               bool sending) {
    auto made = std::unique_ptr<NoGuest>(new NoGuest);
    made->file_ = FileDescriptor(memfd_create("sluice-probes", MFD_CLOEXEC));
    if (!made->file_.valid() || ftruncate(made->file_.get(), kExtentBytes) != 0) {
      return fail(ErrorKind::kNoCapacity,
                  fmt::format("no memory to probe a path with: {}", std::strerror(errno)));
    }
    auto memory =
        SessionMemory::map({made->file_.get(), 0, kExtentBytes, getpid(), 0}, data_plane, sending);
    if (!memory) return tl::unexpected<Error>(memory.error());
    made->memory_ = std::move(*memory);
    return made;
  }
  [[nodiscard]] const SessionMemory& memory() const { return *memory_; }

 private:
  NoGuest() = default;
  FileDescriptor file_;
  std::unique_ptr<SessionMemory> memory_;
};

// Ends the flows before their memory; both stay if a worker keeps one.
template <typename FlowsOfEnd>
class ProbeSession {
 public:
  ProbeSession(std::unique_ptr<NoGuest> no_guest, std::unique_ptr<FlowsOfEnd> flows)
      : no_guest_(std::move(no_guest)), flows_(std::move(flows)) {}
  ~ProbeSession() {
    if (flows_->stop()) return;
    (void)flows_.release();
    (void)no_guest_.release();
  }
  ProbeSession(const ProbeSession&) = delete;
  ProbeSession& operator=(const ProbeSession&) = delete;

  [[nodiscard]] FlowsOfEnd& flows() { return *flows_; }
  [[nodiscard]] const SessionMemory& memory() const { return no_guest_->memory(); }

 private:
  std::unique_ptr<NoGuest> no_guest_;
  std::unique_ptr<FlowsOfEnd> flows_;
};

// A session of `config`, encrypted with `secret` unless that is empty.
template <typename FlowsOfEnd>
Expected<std::unique_ptr<ProbeSession<FlowsOfEnd>>> open_session(
    AgentContext& agent, std::shared_ptr<SessionEvents> events, const FlowsConfig& config,
    const std::string& secret, bool source) {
  auto no_guest = NoGuest::make(agent.data_plane, source);
  if (!no_guest) return tl::unexpected<Error>(no_guest.error());
  auto flows = std::make_unique<FlowsOfEnd>(agent.data_plane, std::move(events), config);
  if (!secret.empty()) {
    auto keys = Secret::from_bytes(secret).and_then(
        [&](const Secret& from) { return flows->make_keys(from, source); });
    if (!keys) return tl::unexpected<Error>(keys.error());
  }
  return std::make_unique<ProbeSession<FlowsOfEnd>>(std::move(*no_guest), std::move(flows));
}

std::string session_text(std::uint64_t session) {
  return fmt::format("(probes of session {:016x})", session);
}

// The source's end of the control stream, closed with it.
struct Call {
  model::Connection connection;
  std::unique_ptr<v1::Peer::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ProbesAnnounced, v1::ProbesExpected>> stream;

  Call(const std::string& to, const std::string& address, const security::Credentials& credentials)
      : connection(model::open_channel(to, address, credentials)),
        stub(v1::Peer::NewStub(connection.channel)) {
    context.set_deadline(std::chrono::system_clock::now() + kCheckTimeMax);
  }
  [[nodiscard]] Expected<v1::ProbesExpected> announce(const v1::ProbesAnnounced& announced) {
    if (auto connected = connection.connect(model::kConnectTimeout); !connected)
      return tl::unexpected<Error>(connected.error());
    stream = stub->AnswerProbes(&context);
    v1::ProbesExpected expected;
    if (stream->Write(announced) && stream->Read(&expected)) return expected;
    Error error = model::to_error(stream->Finish());
    error.message = fmt::format("{}: {}", connection.host, error.message);
    return tl::unexpected<Error>(std::move(error));
  }
  void end() {
    stream->WritesDone();
    (void)stream->Finish();
  }
};

Expected<v1::PathReport> probe(AgentContext& agent, const std::string& to,
                               std::shared_ptr<SessionEvents> events, const std::string& secret,
                               std::uint64_t session, const v1::ProbesExpected& expected) {
  auto config = plan_session(agent.data_plane, expected.destination(), expected.mtu(), to);
  if (!config) return tl::unexpected<Error>(config.error());
  config->session = session;
  config->dscp = agent.config.dscp;
  auto opened = open_session<SendFlows>(agent, std::move(events), *config, secret, /*source=*/true);
  if (!opened) return tl::unexpected<Error>(opened.error());
  SendFlows& flows = (*opened)->flows();
  auto probed = flows.start_all((*opened)->memory(), protocol::AuditMode::kOff).and_then([&] {
    return flows.probe_path();
  });
  if (!probed) return tl::unexpected<Error>(probed.error());
  // The first one has met workers that slept.
  for (int more = 0; more < kRoundTripsMore && flows.probe_path(); ++more) {
  }
  v1::PathReport report;
  report.set_mtu(static_cast<std::uint32_t>(flows.path_mtu()));
  report.set_configured_mtu(static_cast<std::uint32_t>(config->mtu));
  report.set_remark(flows.path_remark(to).value_or(""));
  report.set_round_trip_us(static_cast<std::uint32_t>(
      (flows.probe_round_trip_ns() + kMicrosecondNs - 1) / kMicrosecondNs));
  return report;
}

}  // namespace

Expected<v1::PathReport> check_path(AgentContext& agent, const std::string& to) {
  const auto peer = agent.config.peers.find(to);
  if (peer == agent.config.peers.end()) {
    return fail(ErrorKind::kNotFound,
                fmt::format("{} knows no host {}; name it under [peers] in its agent.toml",
                            agent.config.host, to));
  }
  const auto turn = agent.probes_sent.take(to);
  if (!turn) return tl::unexpected<Error>(turn.error());
  std::random_device device;
  std::uint64_t session = 0;
  std::shared_ptr<SessionEvents> events;
  while (!events) {
    session = std::uint64_t{device()} << 32 | device();
    if (session != 0) events = agent.router.open(session, session_text(session));
  }
  const auto secret = Secret::make();
  if (!secret) return tl::unexpected<Error>(secret.error());
  v1::ProbesAnnounced announced;
  announced.set_session(session);
  announced.set_from(agent.config.host);
  announced.set_to(to);
  *announced.mutable_source() = describe_endpoint(agent.data_plane.info());
  announced.set_mtu(static_cast<std::uint32_t>(agent.data_plane.info().mtu));
  announced.set_secret(secret->bytes().data(), secret->bytes().size());
  Call call(to, peer->second, agent.credentials);
  const auto expected = call.announce(announced);
  if (!expected) return tl::unexpected<Error>(expected.error());
  auto report = probe(agent, to, events, announced.secret(), session, *expected);
  call.end();
  wipe(*announced.mutable_secret());
  spdlog::info(
      "path to {}: {}", to,
      !report ? report.error().message
              : fmt::format("frames of {} of {} arrive", report->mtu(), report->configured_mtu()));
  return report;
}

Expected<void> answer_probes(AgentContext& agent, const v1::ProbesAnnounced& request,
                             ProbeLink& source) {
  if (request.to() != agent.config.host)
    return tl::unexpected<Error>(wrong_host(request.to(), agent.config.host));
  if (auto speaks = source.speaks_for(request.from()); !speaks) return speaks;
  if (request.session() == 0) return fail(ErrorKind::kInvalid, "session 0 is not valid");
  if (request.secret().empty()) return tl::unexpected<Error>(plaintext_refused(agent.config.host));
  const auto turn = agent.probes_answered.take(request.from());
  if (!turn) return tl::unexpected<Error>(turn.error());
  auto events = agent.router.open(request.session(), session_text(request.session()));
  if (!events) {
    return fail(ErrorKind::kBusy, fmt::format("session {:016x} is under way on {}",
                                              request.session(), agent.config.host));
  }
  auto config = plan_session(agent.data_plane, request.source(), request.mtu(), request.from());
  if (!config) return tl::unexpected<Error>(config.error());
  config->session = request.session();
  config->dscp = agent.config.dscp;
  auto opened = open_session<ReceiveFlows>(agent, std::move(events), *config, request.secret(),
                                           /*source=*/false);
  if (!opened) return tl::unexpected<Error>(opened.error());
  if (auto started = (*opened)->flows().start_all((*opened)->memory()); !started) return started;
  v1::ProbesExpected expected;
  *expected.mutable_destination() = describe_endpoint(agent.data_plane.info());
  expected.set_flows(config->plan.flows);
  expected.set_mtu(static_cast<std::uint32_t>(config->mtu));
  source.expect(expected);
  return {};
}

}  // namespace sluice::agent

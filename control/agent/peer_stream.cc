#include "control/agent/peer_stream.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <fmt/format.h>
#include <grpcpp/client_context.h>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "control/model/channel.h"
#include "control/model/status.h"
#include "control/proto/sluice.grpc.pb.h"
#include "drivers/base/clock.h"

namespace sluice::agent {
namespace {

constexpr auto kOutcomeTimeout = std::chrono::seconds(3);
// A destination says one thing for each that it is told.
constexpr std::size_t kRepliesWaitingMax = 2;

}  // namespace

struct PeerStream::Impl {
  std::string host;
  std::function<void(const Error&)> on_broken;
  model::Connection connection;
  std::unique_ptr<v1::Peer::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SourceMessage, v1::DestinationMessage>> stream;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Reply> replies;
  std::optional<Error> broken;
  bool ended = false;
  std::thread reader;

  void read();
  [[nodiscard]] bool keep(v1::DestinationMessage message);
  void break_off(const Error& error, bool report);
  [[nodiscard]] Error end_of_stream();
};

void PeerStream::Impl::read() {
  v1::DestinationMessage message;
  while (stream->Read(&message)) {
    if (message.has_failed()) {
      const auto& failed = message.failed();
      break_off({model::kind_of(failed.error_kind()), failed.message()}, true);
      continue;
    }
    if (!keep(std::move(message))) {
      break_off({ErrorKind::kFailed, fmt::format("host {} says what it was not asked for", host)},
                true);
      context.TryCancel();
    }
  }
  const Error end = end_of_stream();
  {
    const std::lock_guard lock(mutex);
    ended = true;
  }
  changed.notify_all();
  break_off(end, true);
}

// False if too many wait already.
bool PeerStream::Impl::keep(v1::DestinationMessage message) {
  {
    const std::lock_guard lock(mutex);
    if (replies.size() == kRepliesWaitingMax) return false;
    replies.push_back({std::move(message), monotonic_now_ns()});
  }
  changed.notify_all();
  return true;
}

Error PeerStream::Impl::end_of_stream() {
  const grpc::Status status = stream->Finish();
  if (status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
      status.error_code() == grpc::StatusCode::CANCELLED)
    return {ErrorKind::kUnreachable, fmt::format("the connection to host {} broke off", host)};
  Error error = model::to_error(status);
  error.message = fmt::format("{}: {}", host, error.message);
  return error;
}

void PeerStream::Impl::break_off(const Error& error, bool report) {
  {
    const std::lock_guard lock(mutex);
    if (broken) return;
    broken = error;
  }
  changed.notify_all();
  if (report && on_broken) on_broken(error);
}

Expected<std::unique_ptr<PeerStream>> PeerStream::open(
    const std::string& host, const std::string& address, const security::Credentials& credentials,
    std::function<void(const Error&)> on_broken) {
  auto impl = std::make_unique<Impl>();
  impl->host = host;
  impl->on_broken = std::move(on_broken);
  impl->connection = model::open_channel(host, address, credentials);
  if (auto connected = impl->connection.connect(model::kConnectTimeout); !connected)
    return tl::unexpected<Error>(connected.error());
  impl->stub = v1::Peer::NewStub(impl->connection.channel);
  impl->stream = impl->stub->Receive(&impl->context);
  impl->reader = std::thread([raw = impl.get()] { raw->read(); });
  return std::unique_ptr<PeerStream>(new PeerStream(std::move(impl)));
}

PeerStream::PeerStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

PeerStream::~PeerStream() {
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->broken) impl_->broken = Error{ErrorKind::kFailed, "the stream was closed"};
  }
  impl_->context.TryCancel();
  impl_->reader.join();
}

Expected<void> PeerStream::send(const v1::SourceMessage& message) {
  if (impl_->stream->Write(message)) return {};
  // The reader learns why.
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait_for(lock, std::chrono::seconds(1), [&] { return impl_->broken.has_value(); });
  return tl::unexpected<Error>(impl_->broken.value_or(Error{
      ErrorKind::kUnreachable, fmt::format("the connection to host {} broke off", impl_->host)}));
}

Expected<PeerStream::Reply> PeerStream::await(v1::DestinationMessage::MessageCase kind,
                                              TimeNs deadline_ns) {
  std::unique_lock lock(impl_->mutex);
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  if (!impl_->changed.wait_until(lock, deadline,
                                 [&] { return impl_->broken || !impl_->replies.empty(); })) {
    return fail(ErrorKind::kUnreachable,
                fmt::format("host {} did not answer in time", impl_->host));
  }
  // What arrived before the stream broke still counts.
  if (impl_->replies.empty()) return tl::unexpected<Error>(*impl_->broken);
  Reply reply = std::move(impl_->replies.front());
  impl_->replies.pop_front();
  if (reply.message.message_case() != kind) {
    return fail(
        ErrorKind::kFailed,
        fmt::format("host {} answered out of turn (message {}, expected {})", impl_->host,
                    static_cast<int>(reply.message.message_case()), static_cast<int>(kind)));
  }
  return reply;
}

std::optional<Error> PeerStream::failure() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->broken;
}

void PeerStream::await_end(TimeNs deadline_ns) {
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::unique_lock lock(impl_->mutex);
  impl_->changed.wait_until(lock, deadline, [&] { return impl_->ended; });
}

void PeerStream::interrupt(const Error& error) { impl_->break_off(error, false); }

Expected<OutcomeAnswer> ask_outcome(const HandoverRecord& record,
                                    const security::Credentials& credentials) {
  const auto connection = model::open_channel(record.to, record.address, credentials);
  auto stub = v1::Peer::NewStub(connection.channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kOutcomeTimeout);
  v1::OutcomeRequest request;
  request.set_session(record.session);
  request.set_guest(record.guest);
  request.set_to(record.to);
  v1::Outcome outcome;
  const grpc::Status status = stub->GetOutcome(&context, request, &outcome);
  if (!status.ok()) {
    if (auto reason = connection.distrust(status.error_message()))
      return fail(ErrorKind::kPermission, *reason);
    return tl::unexpected<Error>(model::to_error(status));
  }
  switch (outcome.kind()) {
    case v1::Outcome::OWNED:
      return OutcomeAnswer::kOwned;
    case v1::Outcome::NEVER_OWNED:
      // No store has the number 0: "cannot say" there, and "from before there were numbers" here.
      return outcome.records_id() != 0 && outcome.records_id() == record.records_id
                 ? OutcomeAnswer::kNeverOwned
                 : OutcomeAnswer::kForgotten;
    default:
      return OutcomeAnswer::kUndecided;
  }
}

}  // namespace sluice::agent

// The controller, as the command line talks to it. Calls block; any thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "control/client/interrupts.h"
#include "control/model/channel.h"
#include "control/proto/sluice.grpc.pb.h"
#include "dataplane/base/expected.h"

namespace sluice::client {

class ControllerClient {
 public:
  // `name` is the one in its certificate; `credentials` outlive it.
  ControllerClient(std::string name, std::string address, const security::Credentials& credentials);

  [[nodiscard]] const std::string& name() const { return name_; }

  // A controller that does not answer is kUnreachable; where it may have done what it was asked to,
  // the outcome is kUnknownOutcome.
  [[nodiscard]] Expected<v1::ClusterInfo> get_cluster();
  [[nodiscard]] Expected<v1::ClusterInfo> cordon(const std::string& host);
  [[nodiscard]] Expected<v1::ClusterInfo> uncordon(const std::string& host);
  [[nodiscard]] Expected<v1::Preview> get_preview(const std::string& plan_toml,
                                                  const std::string& file_name);
  [[nodiscard]] Expected<v1::RunStatus> start_run(const std::string& plan_toml,
                                                  const std::string& file_name);
  // An empty `run` is the latest.
  [[nodiscard]] Expected<v1::RunList> list_runs();
  [[nodiscard]] Expected<v1::RunStatus> get_run(const std::string& run);
  [[nodiscard]] Expected<v1::RunStatus> command_run(const std::string& run,
                                                    v1::CommandRunRequest::Command command);
  [[nodiscard]] Expected<v1::Report> get_report(const std::string& run);

  // All called from the calling thread.
  struct Watcher {
    std::function<void(const v1::RunStatus&)> on_status;
    std::function<void(const std::string& why)> on_silence;  // it is asked again until it is back
  };
  // Follows a run until it ends or pauses and returns its last status; nothing when `interrupts` is
  // raised before. Runs outlive their controller: one that falls silent is asked again for a
  // minute. After that, and when it does not let itself be asked, the outcome is kUnknownOutcome.
  [[nodiscard]] Expected<std::optional<v1::RunStatus>> watch_run(const std::string& run,
                                                                 const Watcher& watcher,
                                                                 Interrupts& interrupts);

 private:
  [[nodiscard]] Error error_of(const grpc::Status& status) const;
  // Of a call that was to change something: kUnknownOutcome if it may have, with the command that
  // tells.
  [[nodiscard]] Error error_of_change(const grpc::Status& status, const std::string& what,
                                      const std::string& question) const;

  std::string name_;
  std::string address_;
  model::Connection connection_;
  std::unique_ptr<v1::Controller::Stub> stub_;
};

}  // namespace sluice::client

// How a packet comes to the queue of the worker that it is for. Packets for queue i have the UDP
// destination port `udp_port_first` + i. Tried in this order, and what the port lacks is passed
// over: rules of the port (rte_flow), one for each queue; its RSS, for which the sender chooses
// UDP source ports (rss.h); software (Queue::steer_among), which also catches what the others let
// through.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drivers/dpdk/rss.h"

struct rte_eth_conf;
struct rte_eth_dev_info;
struct rte_flow;

namespace sluice::dpdk {

enum class SteeringMethod : std::uint8_t { kRules = 1, kSourcePorts, kSoftware };

// The method's name, one line.
[[nodiscard]] std::string describe(SteeringMethod method);

struct SteeredPort {
  std::uint16_t port_id = 0;
  std::uint32_t queues = 0;
  std::uint16_t udp_port_first = 0;
  bool over_ipv6 = false;
};

// Asks a port that has RSS for it, before rte_eth_dev_configure().
void ask_for_rss(const rte_eth_dev_info& info, rte_eth_conf& config);

// Its rules live as long as it does, while the port is open.
class Steering {
 public:
  // Of a port that has been started. Whatever the port refuses, there is a method left.
  explicit Steering(const SteeredPort& port);
  ~Steering();
  Steering(const Steering&) = delete;
  Steering& operator=(const Steering&) = delete;

  [[nodiscard]] SteeringMethod method() const { return method_; }
  // With kSourcePorts: what senders need to know.
  [[nodiscard]] const std::optional<RssFunction>& rss() const { return rss_; }
  // Why methods were passed over; one line each.
  [[nodiscard]] const std::vector<std::string>& remarks() const { return remarks_; }

 private:
  [[nodiscard]] bool make_rules();
  void remove_rules();
  [[nodiscard]] bool read_rss();
  void pass_over(const std::string& method, const std::string& why);

  SteeredPort port_;
  SteeringMethod method_ = SteeringMethod::kSoftware;
  std::vector<rte_flow*> rules_;
  std::optional<RssFunction> rss_;
  std::vector<std::string> remarks_;
};

}  // namespace sluice::dpdk

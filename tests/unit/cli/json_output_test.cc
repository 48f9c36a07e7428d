#include "control/cli/json_output.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/samples.h"

namespace sluice::cli {
namespace {

// The document of docs: names, order and units. A change here breaks other tools.
TEST(Json, SummaryIsExactlyTheContract) {
  EXPECT_EQ(
      to_json(sample_summary()).dump(),
      R"({"guest":"db-3","from":"h1","to":"h2","status":"completed","iterations":3,)"
      R"("pages_sent":1100000,"zero_pages":12345,"bytes_guest":4294967296,"bytes_wire":4600000000,)"
      R"("goodput_gbps":9.41,"seconds":4.21,"downtime_ms":12.4,)"
      R"("downtime":{"stop":0.1,"final_scan":0.5,"final_copy":6.2,"proof":1.1,"state":3.5,"resume":1.0},)"
      R"("proof":{"extents":2048,"algorithm":"xxh3-64","match":true,"audited_pages":70003},)"
      R"("mtu":9000,"encryption":"aes-256-gcm","frames_dropped":{"bad_tag":1,"replay":2},)"
      R"("frames_sent":550012,"frames_lost":7,"retransmitted_pages":14,"remarks":[],"busy_core_seconds":{"from":3.91,"to":4.02}})");
}

TEST(Json, FailedSummarySaysWhy) {
  auto summary = sample_summary();
  summary.set_status("failed");
  summary.set_error("h2 has no memory left");
  EXPECT_EQ(to_json(summary)["error"], "h2 has no memory left");
  EXPECT_FALSE(to_json(sample_summary()).contains("error"));
}

TEST(Json, ProgressAndPlan) {
  EXPECT_EQ(
      to_json(sample_progress()).dump(),
      R"({"event":"progress","phase":"streaming","iteration":2,"remaining_bytes":1073741824,)"
      R"("sent_bytes":3221225472,"rate_gbps":9.4,"dirty_bytes_per_second":209715200,)"
      R"("predicted_downtime_ms":12.3,"mtu":1500,"remarks":["check the switch ports"],"seconds":2.5})");
  EXPECT_EQ(
      to_json(sample_plan()).dump(),
      R"({"event":"plan","guest":"db-3","from":"h1","to":"h2","memory_bytes":4294967296,)"
      R"("populated_bytes":1610612736,"flows":1,"mtu":9000,"pages_per_frame":2,"port_driver":"memif",)"
      R"("downtime_limit_ms":50.0,"max_iterations":10,"mode":"live","proof":"sent",)"
      R"("encryption":"aes-256-gcm"})");
}

TEST(Json, GuestAndHost) {
  v1::GuestInfo guest;
  guest.set_name("db-3");
  guest.set_host("h1");
  guest.set_state("running");
  guest.set_memory_bytes(4096);
  EXPECT_FALSE(to_json(guest).contains("moving_to"));
  guest.set_moving_to("h2");
  EXPECT_EQ(to_json(guest)["moving_to"], "h2");

  EXPECT_FALSE(to_json(guest).contains("figures")) << "before anything was measured";
  guest.set_cpu_level(3);
  guest.mutable_figures()->set_dirty_bytes_per_second(1000);
  guest.mutable_figures()->set_working_set_bytes(2000);
  guest.mutable_figures()->set_working_set_ms(250);
  guest.mutable_figures()->set_populated_bytes(3000);
  guest.mutable_figures()->set_source("sampling");
  guest.mutable_figures()->set_age_s(7);
  EXPECT_EQ(to_json(guest)["cpu_level"], 3);
  EXPECT_EQ(to_json(guest)["figures"].dump(),
            R"({"dirty_bytes_per_second":1000,"working_set_bytes":2000,"working_set_ms":250,)"
            R"("populated_bytes":3000,"source":"sampling","age_s":7})");

  v1::HostInfo host;
  host.set_name("h1");
  host.set_kernel("6.1.0");
  host.set_cpu_level(4);
  host.set_package_version("2");
  host.add_worker_cores(2);
  host.add_worker_cores(3);
  host.add_peers("h2");
  EXPECT_EQ(to_json(host)["worker_cores"].dump(), "[2,3]");
  EXPECT_EQ(to_json(host)["peers"].dump(), R"(["h2"])");
  EXPECT_EQ(to_json(host)["remarks"].dump(), "[]");
  EXPECT_EQ(to_json(host)["kernel"], "6.1.0");
  EXPECT_EQ(to_json(host)["cpu_level"], 4);
  EXPECT_EQ(to_json(host)["package_version"], "2");
}

}  // namespace
}  // namespace sluice::cli

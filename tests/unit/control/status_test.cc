#include "control/model/status.h"

#include <gtest/gtest.h>

namespace sluice::model {
namespace {

TEST(Status, EveryKindSurvivesTheJourney) {
  for (std::uint32_t number = 1; number <= 9; ++number) {
    const Error sent{kind_of(number), "guest db1 is not here"};
    const auto status = to_status(sent);
    EXPECT_FALSE(status.ok());
    const Error received = to_error(status);
    EXPECT_EQ(static_cast<std::uint32_t>(received.kind), number);
    EXPECT_EQ(received.message, sent.message);
  }
}

TEST(Status, ForeignCodesBecomeAKindThatFits) {
  EXPECT_EQ(to_error({grpc::StatusCode::DEADLINE_EXCEEDED, "late"}).kind, ErrorKind::kUnreachable);
  EXPECT_EQ(to_error({grpc::StatusCode::CANCELLED, "gone"}).kind, ErrorKind::kUnreachable);
  EXPECT_EQ(to_error({grpc::StatusCode::INTERNAL, "odd"}).kind, ErrorKind::kFailed);
  EXPECT_EQ(kind_of(0), ErrorKind::kFailed);
  EXPECT_EQ(kind_of(10), ErrorKind::kFailed);
}

TEST(Status, ASuccessIsOk) { EXPECT_TRUE(to_status(Expected<int>(3)).ok()); }

}  // namespace
}  // namespace sluice::model

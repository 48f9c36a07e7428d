#include "dataplane/protocol/path_prober.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <optional>
#include <vector>

#include "dataplane/base/random.h"
#include "dataplane/wire/packet.h"

namespace sluice::protocol {
namespace {

constexpr TimeNs kRoundNs = 50 * kMillisecondNs;
constexpr TimeNs kStepNs = kMillisecondNs;
constexpr auto kUnknown = PathProber::Because::kUnknown;
constexpr auto kSuspicion = PathProber::Because::kSuspicion;

wire::ProbeReplyFrame reply_to(const PathProber::Probe& probe) {
  wire::ProbeReplyFrame reply;
  reply.probe = probe.sequence;
  reply.probe_body_bytes = wire::probe_body_bytes(probe.mtu);
  return reply;
}

class PathProberTest : public testing::Test {
 protected:
  void begin(std::size_t mtu, PathProber::Because because) {
    prober_.emplace(mtu);
    prober_->begin(because, kRoundNs, now_);
  }

  std::vector<std::size_t> probes() {
    std::vector<std::size_t> sizes;
    while (const auto probe = prober_->next_probe(now_)) {
      sizes.push_back(probe->mtu);
      last_ = *probe;
    }
    return sizes;
  }

  // What a path does that carries packets up to `path_mtu`, each with a probability, and answers
  // after a while: the verdict, and how long it took.
  std::optional<std::size_t> search(std::size_t path_mtu, double arrives = 1,
                                    TimeNs rtt_ns = 2 * kMillisecondNs) {
    struct Reply {
      PathProber::Probe probe;
      TimeNs at_ns;
    };
    std::vector<Reply> replies;
    const TimeNs began_ns = now_;
    for (; now_ < began_ns + 2 * kProbeSilentNs; now_ += kStepNs) {
      while (const auto probe = prober_->next_probe(now_)) {
        ++probes_sent_;
        if (probe->mtu <= path_mtu && random_.chance(arrives)) {
          replies.push_back({*probe, now_ + rtt_ns});
        }
      }
      for (const Reply& reply : replies) {
        if (reply.at_ns == now_) {
          EXPECT_TRUE(prober_->on_reply(reply_to(reply.probe), now_));
        }
      }
      if (const auto found = prober_->verdict(now_)) {
        took_ns_ = now_ - began_ns;
        return found;
      }
    }
    return std::nullopt;
  }

  TimeNs now_ = kSecondNs;
  TimeNs took_ns_ = 0;
  std::size_t probes_sent_ = 0;
  Random random_{20261122};
  PathProber::Probe last_;
  std::optional<PathProber> prober_;
};

TEST_F(PathProberTest, DoesNothingUnasked) {
  prober_.emplace(9000);
  EXPECT_TRUE(probes().empty());
  EXPECT_FALSE(prober_->verdict(now_));
  EXPECT_TRUE(prober_->may_search(now_));
  EXPECT_FALSE(prober_->on_reply(reply_to({1, 9000}), now_));
}

TEST_F(PathProberTest, APathAsWideAsAgreedTakesOneProbe) {
  begin(9000, kUnknown);
  EXPECT_EQ(search(9000), 9000U);
  EXPECT_EQ(probes_sent_, 1U);
  EXPECT_EQ(took_ns_, 2 * kMillisecondNs);
  EXPECT_EQ(prober_->mtu(), 9000U);
  EXPECT_FALSE(prober_->verdict(now_)) << "told once";
}

TEST_F(PathProberTest, TheAgreedSizeIsTriedFirstAndThenAllSmallerOnes) {
  begin(9000, kUnknown);
  EXPECT_EQ(probes(), std::vector<std::size_t>{9000});
  now_ += kRoundNs - 1;
  EXPECT_TRUE(probes().empty()) << "the first has its time";
  now_ += 1;
  const auto sizes = probes();
  EXPECT_EQ(sizes.front(), 9000U);
  EXPECT_EQ(sizes.back(), wire::kMtuMin);
  EXPECT_TRUE(std::is_sorted(sizes.rbegin(), sizes.rend()));
  EXPECT_EQ(std::adjacent_find(sizes.begin(), sizes.end()), sizes.end());
}

TEST_F(PathProberTest, FindsTheLargestSizeThatArrives) {
  for (const std::size_t path : {8950U, 4500U, 1500U, 1280U, 640U}) {
    begin(9000, kUnknown);
    EXPECT_EQ(search(path), path);
    EXPECT_EQ(prober_->mtu(), path);
    EXPECT_LT(took_ns_, 5 * kRoundNs);
  }
  begin(9000, kUnknown);
  EXPECT_EQ(search(1499), 1492U) << "the next that is in the table";
}

// An agreed size that is not in the table is a candidate all the same.
TEST_F(PathProberTest, AnySizeMayBeTheAgreedOne) {
  for (std::size_t mtu = wire::kMtuMin; mtu <= 65'535; mtu += 97) {
    begin(mtu, kSuspicion);
    const auto sizes = probes();
    EXPECT_EQ(sizes.front(), mtu);
    EXPECT_EQ(std::adjacent_find(sizes.begin(), sizes.end()), sizes.end()) << mtu;
    begin(mtu, kUnknown);
    EXPECT_EQ(search(65'535), mtu);
  }
}

TEST_F(PathProberTest, WhatThePortRefusesIsDueAgain) {
  begin(9000, kSuspicion);
  const auto refused = prober_->next_probe(now_);
  prober_->undo_last_probe();
  const auto again = prober_->next_probe(now_);
  EXPECT_EQ(again->mtu, refused->mtu);
  EXPECT_GT(again->sequence, refused->sequence);
}

TEST_F(PathProberTest, WhatArrivedIsNotAskedAgain) {
  begin(9000, kSuspicion);
  while (const auto probe = prober_->next_probe(now_)) {
    if (probe->mtu == 1500) {
      EXPECT_TRUE(prober_->on_reply(reply_to(*probe), now_));
      break;
    }
  }
  now_ += kRoundNs;
  EXPECT_EQ(probes(), (std::vector<std::size_t>{9000, 8950, 8600, 4500, 3498, 2304}));
}

TEST_F(PathProberTest, ASuspicionSearchesFromAllSizesAtOnce) {
  begin(9000, kSuspicion);
  EXPECT_EQ(search(1500), 1500U);
  EXPECT_LE(took_ns_, kProbeRoundsMax * kRoundNs);
  // And goes on from there when the path narrows once more.
  now_ += kSearchPauseNs;
  prober_->begin(kSuspicion, kRoundNs, now_);
  EXPECT_EQ(search(1280), 1280U);
}

TEST_F(PathProberTest, AnUnjustSuspicionChangesNothing) {
  begin(9000, kSuspicion);
  EXPECT_EQ(search(9000), 9000U);
  EXPECT_EQ(took_ns_, 2 * kMillisecondNs);
  EXPECT_FALSE(prober_->may_search(now_)) << "not again at once";
  EXPECT_TRUE(prober_->may_search(now_ + kSearchPauseNs));
}

// A lost probe is not a size that does not fit: each has several chances.
TEST_F(PathProberTest, SingleLossesDoNotNarrowThePath) {
  int narrowed = 0;
  for (int i = 0; i < 1000; ++i) {
    begin(9000, kUnknown);
    narrowed += search(9000, 0.9) == 9000U ? 0 : 1;
  }
  EXPECT_LT(narrowed, 5) << "four chances at a loss of 10 %";
}

TEST_F(PathProberTest, NothingArrives) {
  begin(9000, kUnknown);
  EXPECT_EQ(search(0), 0U);
  EXPECT_EQ(took_ns_, kProbeSilentNs);
  EXPECT_EQ(prober_->mtu(), 9000U) << "nothing was learned about sizes";
  EXPECT_EQ(search(576), std::nullopt) << "it has ended";
}

// Rounds in which nothing at all arrives say nothing about sizes: a link that comes up late.
TEST_F(PathProberTest, ASilentPathThatComesUpIsNotJudgedByItsSilence) {
  begin(9000, kUnknown);
  for (int round = 0; round < 20; ++round, now_ += kRoundNs) {
    (void)probes();
    EXPECT_FALSE(prober_->verdict(now_));
  }
  EXPECT_EQ(search(9000), 9000U);
}

TEST_F(PathProberTest, RepliesThatAnswerNothingAreRefused) {
  begin(9000, kSuspicion);
  (void)probes();
  auto reply = reply_to(last_);
  reply.probe = last_.sequence + 1;
  EXPECT_FALSE(prober_->on_reply(reply, now_)) << "a probe never sent";
  reply = reply_to(last_);
  reply.probe_body_bytes = wire::probe_body_bytes(9000) + 1;
  EXPECT_FALSE(prober_->on_reply(reply, now_)) << "a size never sent";
  EXPECT_TRUE(prober_->on_reply(reply_to(last_), now_));
  EXPECT_TRUE(prober_->on_reply(reply_to(last_), now_)) << "a duplicate says the same";
  EXPECT_EQ(search(0), wire::kMtuMin);
  // A reply from an earlier search is one about an earlier path.
  const auto late = reply_to(last_);
  now_ += kSearchPauseNs;
  prober_->begin(kSuspicion, kRoundNs, now_);
  EXPECT_FALSE(prober_->on_reply(late, now_));
}

TEST_F(PathProberTest, KnowsTheShortestRoundTripOfItsProbes) {
  begin(9000, kUnknown);
  EXPECT_EQ(prober_->round_trip_ns(), 0U);
  EXPECT_EQ(search(9000, 1, 5 * kMillisecondNs), 9000U);
  EXPECT_EQ(prober_->round_trip_ns(), 5 * kMillisecondNs);
  prober_->begin(kUnknown, kRoundNs, now_);
  EXPECT_EQ(search(9000, 1, 2 * kMillisecondNs), 9000U);
  EXPECT_EQ(prober_->round_trip_ns(), 2 * kMillisecondNs);
  // A reply to a probe of an earlier round says nothing of the one that was sent since.
  prober_->begin(kUnknown, kRoundNs, now_);
  const auto early = prober_->next_probe(now_);
  now_ += kRoundNs;
  (void)prober_->next_probe(now_);
  EXPECT_TRUE(prober_->on_reply(reply_to(*early), now_));
  EXPECT_EQ(prober_->round_trip_ns(), 2 * kMillisecondNs);
}

TEST_F(PathProberTest, SequencesAreNeverUsedTwice) {
  Sequence last = 0;
  begin(9000, kUnknown);
  for (int search = 0; search < 3; ++search, now_ += kSearchPauseNs) {
    prober_->begin(kSuspicion, kRoundNs, now_);
    for (; !prober_->verdict(now_); now_ += kStepNs) {
      while (const auto probe = prober_->next_probe(now_)) {
        EXPECT_EQ(probe->sequence, last + 1);
        last = probe->sequence;
      }
    }
  }
}

}  // namespace
}  // namespace sluice::protocol

#include "control/patch/window.h"

#include <gtest/gtest.h>

namespace sluice::patch {
namespace {

constexpr TimeMs kMinuteMs = 60'000;
constexpr TimeMs kHourMs = 60 * kMinuteMs;
constexpr TimeMs kDayMs = 24 * kHourMs;
constexpr TimeMs kSaturdayMs = 1'795'219'200'000;  // 2026-11-21T00:00:00Z
constexpr const char* kBerlin = "CET-1CEST,M3.5.0,M10.5.0/3";

TimeZone zone(const char* rule) {
  const auto parsed = TimeZone::parse(rule);
  EXPECT_TRUE(parsed) << rule;
  return parsed.value_or(TimeZone{});
}

TEST(Window, OpensOnItsDaysAndHoursAlsoOverMidnight) {
  Window window;
  EXPECT_TRUE(window.open(kSaturdayMs));
  window.weekdays = 1U << 5;  // Saturday's night
  window.from_minute = 22 * 60;
  window.to_minute = 6 * 60;
  EXPECT_FALSE(window.open(kSaturdayMs + 5 * kHourMs)) << "that is Friday's night";
  EXPECT_FALSE(window.open(kSaturdayMs + 21 * kHourMs));
  EXPECT_TRUE(window.open(kSaturdayMs + 22 * kHourMs));
  EXPECT_TRUE(window.open(kSaturdayMs + 29 * kHourMs));
  EXPECT_FALSE(window.open(kSaturdayMs + 30 * kHourMs));
  window.not_after_ms = kSaturdayMs + 23 * kHourMs;
  EXPECT_FALSE(window.open(kSaturdayMs + 24 * kHourMs));
  EXPECT_FALSE(window.opens_ms(kSaturdayMs + 24 * kHourMs));
}

TEST(Window, OpensNextWhenItsDayComes) {
  Window window;
  window.weekdays = 1U << 0;
  window.from_minute = 9 * 60;
  window.to_minute = 17 * 60;
  const TimeMs opens_ms = kSaturdayMs + 2 * kDayMs + 9 * kHourMs;
  EXPECT_EQ(window.opens_ms(kSaturdayMs + 1), opens_ms);
  EXPECT_EQ(window.opens_ms(opens_ms + 1), opens_ms + 1) << "it is open";
  EXPECT_EQ(window.opens_ms(opens_ms + 8 * kHourMs), opens_ms + 7 * kDayMs);
  window.not_before_ms = opens_ms + kHourMs + 1;
  EXPECT_EQ(window.opens_ms(kSaturdayMs), opens_ms + kHourMs + 1);
  window.not_before_ms.reset();
  window.not_after_ms = opens_ms - 1;
  EXPECT_FALSE(window.opens_ms(kSaturdayMs)) << "its end comes before its first day";
}

TEST(Window, BusinessHoursStayWhereTheyAreWhenClocksChange) {
  constexpr TimeMs kFridayMs =
      1'774'569'600'000;  // 2026-03-27T00:00:00Z; summer begins on the 29th
  Window window;
  window.zone = zone(kBerlin);
  window.zone_name = "Europe/Berlin";
  window.weekdays = 0x1f;
  window.from_minute = 9 * 60;
  window.to_minute = 17 * 60;
  EXPECT_EQ(window.opens_ms(kFridayMs), kFridayMs + 8 * kHourMs) << "9:00 is 8:00 UTC in winter";
  const TimeMs monday_ms = kFridayMs + 3 * kDayMs;
  EXPECT_EQ(window.opens_ms(kFridayMs + kDayMs), monday_ms + 7 * kHourMs) << "and 7:00 in summer";
  EXPECT_FALSE(window.open(monday_ms + 15 * kHourMs));
  EXPECT_EQ(time_text(window, monday_ms + 7 * kHourMs), "Mon 2026-03-30 09:00 Europe/Berlin");
}

TEST(Window, ANightBelongsToTheDayOnWhichItBeganThere) {
  Window window;
  window.zone = zone(kBerlin);
  window.weekdays = 1U << 5;
  window.from_minute = 22 * 60;
  window.to_minute = 6 * 60;
  EXPECT_FALSE(window.open(kSaturdayMs + 21 * kHourMs - 1));
  EXPECT_TRUE(window.open(kSaturdayMs + 21 * kHourMs)) << "22:00 there";
  EXPECT_TRUE(window.open(kSaturdayMs + 29 * kHourMs - 1));
  EXPECT_FALSE(window.open(kSaturdayMs + 29 * kHourMs));
}

// Clocks go from 2:00 to 3:00 on 2026-03-29, and from 3:00 to 2:00 on 2026-10-25.
TEST(Window, AnHourThatClocksLeaveOutOrRepeat) {
  constexpr TimeMs kSpringMs = 1'774'742'400'000;  // 2026-03-29T00:00:00Z
  constexpr TimeMs kAutumnMs = 1'792'886'400'000;  // 2026-10-25T00:00:00Z
  Window window;
  window.zone = zone(kBerlin);
  window.from_minute = 2 * 60;
  window.to_minute = 3 * 60;
  EXPECT_EQ(window.opens_ms(kSpringMs + kMinuteMs), kSpringMs + kDayMs) << "there is none that day";
  EXPECT_TRUE(window.open(kAutumnMs)) << "2:00 in summer";
  EXPECT_TRUE(window.open(kAutumnMs + kHourMs)) << "2:00 in winter";
  EXPECT_FALSE(window.open(kAutumnMs + 2 * kHourMs));
}

TEST(TimeZone, ReadsTheRulesOfTheTzDatabase) {
  constexpr TimeMs kJanuaryMs = 1'768'435'200'000;  // 2026-01-15T00:00:00Z
  constexpr TimeMs kJulyMs = 1'784'073'600'000;     // 2026-07-15T00:00:00Z
  struct Case {
    const char* rule;
    TimeMs january_minutes;
    TimeMs july_minutes;
  };
  const Case cases[] = {
      {"UTC0", 0, 0},
      {kBerlin, 60, 120},
      {"EST5EDT,M3.2.0,M11.1.0", -300, -240},
      {"NZST-12NZDT,M9.5.0,M4.1.0/3", 780, 720},
      {"<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45", 825, 765},
      {"IST-1GMT0,M10.5.0,M3.5.0/1", 0, 60},  // winter is what is shifted
      {"<-02>2<-01>,M3.5.0/-1,M10.5.0/0", -120, -60},
      {"EET-2EEST,M3.4.4/50,M10.4.4/50", 120, 180},
      {"<+00>0<+02>-2,M3.5.0/1,M10.5.0/3", 0, 120},
      {"IST-5:30", 330, 330},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(zone(each.rule).offset_ms(kJanuaryMs), each.january_minutes * kMinuteMs) << each.rule;
    EXPECT_EQ(zone(each.rule).offset_ms(kJulyMs), each.july_minutes * kMinuteMs) << each.rule;
  }
}

TEST(TimeZone, ChangesAtItsMoment) {
  constexpr TimeMs kSpringMs = 1'774'746'000'000;  // 2026-03-29T01:00:00Z
  constexpr TimeMs kAutumnMs = 1'792'890'000'000;  // 2026-10-25T01:00:00Z
  const TimeZone berlin = zone(kBerlin);
  EXPECT_EQ(berlin.offset_ms(kSpringMs - 1), kHourMs);
  EXPECT_EQ(berlin.offset_ms(kSpringMs), 2 * kHourMs);
  EXPECT_EQ(berlin.offset_ms(kAutumnMs - 1), 2 * kHourMs);
  EXPECT_EQ(berlin.offset_ms(kAutumnMs), kHourMs);
}

TEST(TimeZone, RefusesWhatIsNoRule) {
  for (const char* rule :
       {"", "C", "CET", "CET-1CEST", "CET-1CEST,", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,J60,J300", "CET-1 ",
        "CET-25", "<+01-1", "CET-1CEST,M3.5.0,M10.5.0/168", "CET-1CEST,M3.5.0,M10.5.0/3x"})
    EXPECT_FALSE(TimeZone::parse(rule)) << rule;
}

}  // namespace
}  // namespace sluice::patch

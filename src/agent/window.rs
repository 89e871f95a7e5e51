//! A part of the day in a time zone, such as `02:00-05:00 Europe/Berlin`, in which the agent may roll a service.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{
    Timestamp,
    tz::{self, TimeZone},
};

use crate::error::did_you_mean;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Both ends are minutes of the day by the clock of the zone; an end that is not after the start is on the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    from: u16,
    to: u16,
    zone: TimeZone,
}

impl Window {
    pub fn is_open(&self, now: Timestamp) -> bool {
        let time = self.zone.to_datetime(now).time();
        let minute = time.hour() as u16 * 60 + time.minute() as u16;
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }

    /// On a day without a change of the clock.
    pub fn length(&self) -> Duration {
        let minutes = (self.to + DAY - self.from) % DAY;
        Duration::from_secs(u64::from(minutes) * 60)
    }
}

impl FromStr for Window {
    type Err = String;

    /// The error is one line.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a window; write 02:00-05:00 Europe/Berlin");
        let (times, zone) = text.trim().split_once(' ').ok_or_else(bad)?;
        let (from, to) = times.split_once('-').ok_or_else(bad)?;
        let (from, to) = (minute(from).ok_or_else(bad)?, minute(to).ok_or_else(bad)?);
        if from == to {
            return Err(format!("the window {times} has no length"));
        }
        let zone = zone.trim();
        let zone = TimeZone::get(zone).map_err(|_| unknown(zone))?;
        Ok(Self { from, to, zone })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let zone = self.zone.iana_name().unwrap_or_default();
        write!(f, "{}-{} {zone}", time(self.from), time(self.to))
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn unknown(zone: &str) -> String {
    let names: Vec<String> = tz::db().available().map(|own| own.to_string()).collect();
    let near = did_you_mean(zone, names.iter().map(String::as_str));
    let hint = near.map_or("write Europe/Berlin or UTC".to_owned(), |near| {
        format!("did you mean {near}?")
    });
    format!("unknown time zone {zone:?}; {hint}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_start_until_before_its_end_also_over_midnight() {
        for (text, time, open) in [
            ("02:00-05:00 UTC", "01:59:59", false),
            ("02:00-05:00 UTC", "02:00:00", true),
            ("02:00-05:00 UTC", "04:59:59", true),
            ("02:00-05:00 UTC", "05:00:00", false),
            ("22:30-01:00 UTC", "22:29:59", false),
            ("22:30-01:00 UTC", "23:59:59", true),
            ("22:30-01:00 UTC", "00:59:59", true),
            ("22:30-01:00 UTC", "01:00:00", false),
        ] {
            let now = format!("2026-11-30T{time}Z").parse().unwrap();
            assert_eq!(window(text).is_open(now), open, "{text} at {time}");
        }
        assert_eq!(window("22:30-01:00 UTC").length().as_secs(), 9_000);
    }

    #[test]
    fn a_window_follows_the_clock_of_its_zone_through_summer_and_winter_time() {
        let berlin = window("02:00-05:00 Europe/Berlin");
        for (now, open) in [
            // Winter: one hour before UTC. Summer: two.
            ("2026-01-15T00:59:59Z", false),
            ("2026-01-15T01:00:00Z", true),
            ("2026-07-15T00:00:00Z", true),
            ("2026-07-15T03:00:00Z", false),
            // 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October.
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T03:00:00Z", false),
            ("2026-10-24T23:59:59Z", false),
            ("2026-10-25T00:00:00Z", true),
            ("2026-10-25T03:59:59Z", true),
            ("2026-10-25T04:00:00Z", false),
        ] {
            assert_eq!(berlin.is_open(now.parse().unwrap()), open, "{now}");
        }
    }

    #[test]
    fn a_window_that_cannot_be_read_is_one_line_that_says_what_to_write() {
        for (text, why) in [
            (
                "02:00-05:00",
                "is not a window; write 02:00-05:00 Europe/Berlin",
            ),
            ("2-5 UTC", "is not a window"),
            ("02:00-24:00 UTC", "is not a window"),
            ("02:60-05:00 UTC", "is not a window"),
            ("02:00-02:00 UTC", "the window 02:00-02:00 has no length"),
            ("02:00-05:00 Europe/Berln", "did you mean Europe/Berlin?"),
            ("02:00-05:00 nowhere\n", "unknown time zone \"nowhere\""),
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_window_and_the_rest_of_the_day_are_never_open_together(
            (from, to) in (0..DAY, 0..DAY).prop_filter("no length", |(from, to)| from != to),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"]),
            second in 0_i64..4_000_000_000,
        ) {
            let text = |from: u16, to: u16| format!("{}:{:02}-{}:{:02} {zone}", from / 60, from % 60, to / 60, to % 60);
            let (own, rest) = (window(&text(from, to)), window(&text(to, from)));
            let now = Timestamp::from_second(second).unwrap();
            prop_assert_ne!(own.is_open(now), rest.is_open(now));
            prop_assert_eq!(own.length() + rest.length(), Duration::from_secs(24 * 60 * 60));
            prop_assert_eq!(window(&own.to_string()), own);
        }

        #[test]
        fn a_window_with_a_fixed_offset_is_open_by_the_seconds_of_the_day(
            from in 0..DAY, length in 1..DAY, second in 0_i64..4_000_000_000,
        ) {
            let to = (from + length) % DAY;
            // The sign of these names is reversed: two hours before UTC.
            let own = window(&format!("{}:{}-{}:{} Etc/GMT-2", from / 60, from % 60, to / 60, to % 60));
            let minute = (second / 60 + 120) % i64::from(DAY);
            let since = (minute - i64::from(from)).rem_euclid(i64::from(DAY));
            let now = Timestamp::from_second(second).unwrap();
            prop_assert_eq!(own.is_open(now), since < i64::from(length));
        }

        #[test]
        fn any_text_is_a_window_or_one_line(text in mutated_text("02:00-05:00 Europe/Berlin")) {
            if let Err(error) = text.parse::<Window>() {
                prop_assert!(!error.contains('\n'), "{}", error);
            }
        }
    }
}

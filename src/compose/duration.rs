//! Durations as Compose writes them: Go's `time.Duration.String`, such as `1m30s` or `1.5s`.

use std::time::Duration;

/// Longer values are cut to this, so that no clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads a duration as Traefik does (paerser's `types.Duration`): a plain number means seconds.
pub fn of_traefik(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds).min(LONGEST)),
        Err(_) => parse(text),
    }
}

/// `None` for a negative or malformed duration.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = tail;
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
        .map(|read| to_nearest_microsecond(read.min(LONGEST)))
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        // Compose adds these to Go's units.
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return None,
    })
}

/// Removes rounding errors of the sum of fractions.
fn to_nearest_microsecond(duration: Duration) -> Duration {
    Duration::from_micros((duration + Duration::from_nanos(500)).as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn what_compose_prints_is_read() {
        for (text, milliseconds) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("1h0m0s", 3_600_000),
            ("250ms", 250),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        assert_eq!(parse("100µs"), Some(Duration::from_micros(100)));
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in ["", "10", "s", "ten seconds", "-1s", "1x", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_hours_minutes_and_seconds_add_up(h in 0u64..1000, m in 0u64..60, s in 0u64..60) {
            prop_assert_eq!(parse(&format!("{h}h{m}m{s}s")), Some(Duration::from_secs(h * 3600 + m * 60 + s)));
        }

        #[test]
        fn any_text_is_a_duration_of_at_most_a_year_or_none(
            text in mutated_text("1h2m3.5s4ms5µs6ns"), seconds in any::<u64>(),
        ) {
            for text in [text, format!("{seconds}h"), seconds.to_string()] {
                prop_assert!(parse(&text) <= Some(LONGEST) && of_traefik(&text) <= Some(LONGEST), "{}", text);
            }
        }
    }
}

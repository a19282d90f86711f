//! Durations as Go writes and reads them (pkg.go.dev/time, `ParseDuration` and `Duration.String`): Consul's clients
//! speak no other.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3_600.0),
];

/// A sum of decimal numbers with their units, as in `1h15m30.5s`; none is negative here.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, seconds) = UNITS.iter().find(|(unit, _)| *unit == &rest[..end])?;
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    Some(total)
}

/// As Go prints it.
pub(super) fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{}ms", nanos as f64 / 1e6),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3_600, duration.as_secs() / 60 % 60);
            let seconds = (duration - Duration::from_secs(hours * 3_600 + minutes * 60)).as_secs_f64();
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A duration of a request: text, or a number of nanoseconds; nothing where it is zero or empty.
pub(super) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Nanos(u64),
        Text(String),
    }
    let duration = match Written::deserialize(from)? {
        Written::Nanos(nanos) => Duration::from_nanos(nanos),
        Written::Text(text) if text.is_empty() => return Ok(None),
        Written::Text(text) => {
            parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no duration such as `10s`")))?
        }
    };
    Ok((!duration.is_zero()).then_some(duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, millis, printed) in [
            ("10s", 10_000, "10s"),
            ("1h15m30.5s", 4_530_500, "1h15m30.5s"),
            ("90s", 90_000, "1m30s"),
            ("120000ms", 120_000, "2m0s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            (".5s", 500, "500ms"),
            ("250000µs", 250, "250ms"),
            ("+3m", 180_000, "3m0s"),
            ("0", 0, "0s"),
        ] {
            let read = parse(text).unwrap_or_else(|| panic!("`{text}` is one"));
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(format(read), printed);
        }
        for text in ["", "10", "s", "-1s", "1 s", "1d", "1s2", "..s", "1.2.3s", "9999999999999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

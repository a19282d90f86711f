//! Durations as people type them: `30s`, `500ms`, `5m`, `1h`, and plain seconds.

use std::time::Duration;

/// The duration that `text` names.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad =
        || format!("`{text}` is not a duration: expected a number and `ms`, `s`, `m` or `h`, as in `30s`");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    let seconds = match &text[digits..] {
        "ms" => number / 1_000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_nonsense() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "-1s", "1d", "1e9h", "1.2.3s", "9999999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}

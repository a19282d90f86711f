//! Durations and sizes as people write them.

use std::time::Duration;

/// `250ms`, `30s`, `5m`, `1h`: a whole number and its unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    })
}

/// `30d`: whole days, at least one.
pub(crate) fn days(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = number.checked_mul(86_400).filter(|seconds| unit == "d" && *seconds > 0)?;
    Some(Duration::from_secs(seconds))
}

/// `4096`, `64KiB`, `128MiB`, `1GiB`: a whole number and its unit, bytes where there is none.
pub(crate) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_where_they_matter() {
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(bytes("128MiB"), Some(128 << 20));
        assert_eq!(bytes("77"), Some(77));
        for bad in ["", "s", "10", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for bad in ["", "MiB", "1MB", "-1", "18446744073709551615GiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}

//! Moments and windows of time in query strings.

use std::time::Duration;

use chrono::DateTime;
use weir_model::UnixNanos;

use super::ApiError;

/// A moment: RFC 3339, Unix seconds (fractions allowed), `now`, or a time ago like `-15m`.
pub fn parse_time(text: &str, now: UnixNanos) -> Option<UnixNanos> {
    if text == "now" {
        return Some(now);
    }
    if let Some(ago) = text.strip_prefix('-').and_then(parse_duration) {
        return Some(now - ago);
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return u64::try_from(moment.timestamp_nanos_opt()?).ok().map(UnixNanos);
    }
    // Whole seconds exactly; a fraction to the microsecond.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: u64 = whole.parse().ok().filter(|seconds| *seconds < 1 << 33)?;
    let digits = fraction.get(..fraction.len().min(9)).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let nanos: u64 = format!("{digits:0<9}").parse().ok()?;
    Some(UnixNanos(seconds * 1_000_000_000 + nanos))
}

/// `90s`, `15m`, `1h30m`, `2d`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: u64 = rest[..digits].parse().ok().filter(|number| *number < 1 << 40)?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// From a moment to a later one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) from: UnixNanos,
    pub(super) to: UnixNanos,
}

impl Window {
    /// The window that `from` and `to` name; without them the last `default`.
    pub(super) fn parse(
        from: Option<&str>,
        to: Option<&str>,
        default: Duration,
        now: UnixNanos,
    ) -> Result<Self, ApiError> {
        let moment = |name: &str, text: Option<&str>, default: UnixNanos| match text {
            None | Some("") => Ok(default),
            Some(text) => parse_time(text, now).ok_or_else(|| {
                let expected = "expected RFC 3339, Unix seconds, `now`, or a time ago like `-15m`";
                ApiError::bad_request(format!("`{name}` is `{text}`: {expected}"))
            }),
        };
        let to = moment("to", to, now)?;
        let from = moment("from", from, to - default)?;
        if from >= to {
            return Err(ApiError::bad_request("`from` is not before `to`"));
        }
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_three_forms() {
        let now = UnixNanos(1_000_000_000_000);
        let at = |text| parse_time(text, now).map(|t| t.0);
        assert_eq!(at("now"), Some(1_000_000_000_000));
        assert_eq!(at("-1m30s"), Some(910_000_000_000));
        assert_eq!(at("-250ms"), Some(999_750_000_000));
        assert_eq!(at("1970-01-01T00:00:02.000000005Z"), Some(2_000_000_005));
        assert_eq!(at("1970-01-01T01:00:02+01:00"), Some(2_000_000_000));
        assert_eq!(at("1.5"), Some(1_500_000_000));
        assert_eq!(at("1795521600"), Some(1_795_521_600_000_000_000));
        for bad in [
            "",
            "-",
            "soon",
            "-5",
            "-m",
            "1e9",
            "99999999999999999999",
            "-5y",
            "1.x",
            "2026-13-01T00:00:00Z",
            "-1é",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }

    #[test]
    fn windows_have_a_length() {
        let now = UnixNanos(1_000_000_000_000);
        let parse = |from, to| Window::parse(from, to, Duration::from_secs(60), now);
        assert_eq!(parse(None, None).unwrap().from.0, 940_000_000_000);
        assert!(parse(Some("now"), None).is_err());
        assert!(parse(Some("yesterday"), None).is_err());
    }
}

//! Numbers as expositions write them.

/// A value; Go's spellings of infinity and NaN are Rust's too. Every NaN becomes the ordinary one, so that no
/// exporter can write a stale marker.
pub(super) fn parse_value(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    Some(if value.is_nan() { f64::from_bits(NORMAL_NAN) } else { value })
}

/// The NaN of an ordinary sample.
pub(super) const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// Unix seconds with a fraction, as milliseconds.
pub(super) fn millis_of(seconds: f64) -> Option<i64> {
    let millis = seconds * 1_000.0;
    (millis.is_finite() && millis.abs() < 9e18).then_some(millis as i64)
}

/// The bound of a bucket or quantile as a label has it: as OpenMetrics writes it, always with a fraction or an
/// exponent.
pub(super) fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    // As Go's shortest format `g` has it.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_prometheus_writes_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-1.0, "-1.0"),
            (0.005, "0.005"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e300, "1.5e+300"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(format_float(value), text);
        }
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        for (text, value) in [("1", 1.0), ("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), ("1e3", 1e3)]
        {
            assert_eq!(parse_value(text), Some(value));
        }
        assert_eq!(parse_value("NaN").map(f64::to_bits), Some(NORMAL_NAN));
        assert_eq!(parse_value("1_0"), None);
        assert_eq!(parse_value(""), None);
    }
}

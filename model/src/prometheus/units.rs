//! Durations, sizes and `$VARIABLES` as Prometheus writes them.

use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A duration such as `1h30m`: whole numbers with units from year to millisecond, largest first, each once. `0`
/// needs no unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0_u64;
    let mut smallest = None;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
        if smallest.is_some_and(|smallest| unit <= smallest) {
            return None;
        }
        smallest = Some(unit);
        millis = millis.checked_add(number.checked_mul(UNITS[unit].1)?)?;
        rest = &rest[letters..];
    }
    smallest?;
    // What Go holds in nanoseconds.
    (millis <= i64::MAX as u64 / 1_000_000).then(|| Duration::from_millis(millis))
}

/// The duration in the same syntax, as short as it goes without rounding.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis() as u64;
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (index, (unit, size)) in UNITS.into_iter().enumerate() {
        // Years, weeks and days only where nothing is left beside them.
        let exact_only = index < 3;
        if exact_only && !millis.is_multiple_of(size) {
            continue;
        }
        if millis >= size {
            out.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    out
}

/// A size in bytes, such as `100MB` or `1GiB512MiB`; every unit is a power of 1024. `0` needs no unit.
pub fn parse_bytes(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (prefix, unit) = rest[..letters].split_at_checked(1).unwrap_or((&rest[..letters], ""));
        let power = match (prefix.to_ascii_uppercase().as_str(), unit) {
            ("B", "") => 0,
            (prefix, "B" | "iB") => 1 + "KMGTPE".find(prefix)? as i32,
            _ => return None,
        };
        total += number * 1024_f64.powi(power);
        rest = &rest[letters..];
    }
    (!text.is_empty() && total.is_finite() && total <= i64::MAX as f64).then_some(total as u64)
}

/// `text` with `$NAME` and `${NAME}` replaced; `$$` is a dollar sign.
pub(super) fn expand(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, after) = if let Some(braced) = rest.strip_prefix('{') {
            braced.split_once('}').unwrap_or(("", braced))
        } else if let Some(after) = rest.strip_prefix('$') {
            ("$", after)
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            rest.split_at(end)
        };
        match name {
            "$" => out.push('$'),
            name => out.push_str(&variable(name).unwrap_or_default()),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_prometheus() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs_f64());
        for (text, expected) in [
            ("15s", 15.0),
            ("1h30m", 5400.0),
            ("1y2w3d", 365.0 * 86400.0 + 17.0 * 86400.0),
            ("1s500ms", 1.5),
            ("0", 0.0),
            ("0s", 0.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1m1h", "1s1s", "1 s", "1µs", "300y1y", "9999999999y"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["1h30m", "15s", "1d", "2w", "1y", "36h1s", "1s500ms", "1m", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("1KB", 1024), ("1KiB", 1024), ("1.5MB", 3 << 19), ("1GB512MB", 3 << 29), ("10B", 10)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "10", "MB", "1XB", "1M", "-1MB", "99999EB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn variables_are_replaced() {
        let variable = |name: &str| (name == "HOME_1").then(|| "there".to_owned());
        assert_eq!(expand("a-$HOME_1-${HOME_1}b$$c${no}$no.", &variable), "a-there-thereb$c.");
    }
}

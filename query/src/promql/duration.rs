//! Durations as the query language writes them: `1h30m`, `250ms`, `5`.

/// Units, largest first, in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration with units, each at most once and in falling order; in milliseconds.
pub fn read_ms(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: i64 = 0;
    let mut next = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
        if unit < next {
            return None;
        }
        next = unit + 1;
        total = total.checked_add(number.checked_mul(UNITS[unit].1)?)?;
        rest = &rest[letters..];
    }
    (total > 0 || !text.is_empty()).then_some(total)
}

/// Writes milliseconds with units.
pub fn show_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = if ms < 0 { "-".to_owned() } else { String::new() };
    let mut rest = ms.unsigned_abs();
    for (name, unit) in UNITS {
        let unit = unit as u64;
        // Years, weeks and days only where nothing is left over: `90d` reads better than `12w6d`.
        let whole = rest / unit;
        if whole == 0 || (unit >= 604_800_000 && !rest.is_multiple_of(unit)) {
            continue;
        }
        out.push_str(&format!("{whole}{name}"));
        rest -= whole * unit;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip() {
        for (text, ms) in
            [("5m", 300_000), ("1h30m", 5_400_000), ("1d1ms", 86_400_001), ("2w", 1_209_600_000)]
        {
            assert_eq!(read_ms(text), Some(ms));
            assert_eq!(read_ms(&show_ms(ms)), Some(ms), "{text}");
        }
    }

    #[test]
    fn malformed_durations_are_none() {
        for text in ["", "5", "m", "5m5m", "1m1h", "5x", "99999999999999999999y", "300000000y"] {
            assert_eq!(read_ms(text), None, "{text}");
        }
    }
}

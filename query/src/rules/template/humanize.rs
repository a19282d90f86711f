//! Numbers for people: with prefixes, as lengths of time, as moments.

use super::format::general;
use super::time;

const LARGE: [&str; 8] = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY: [&str; 8] = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];
const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

/// `1.235M`, `120m`
pub(super) fn decimal(mut number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return general(number, Some(4));
    }
    let prefix = if number.abs() >= 1.0 { down(&mut number, 1000.0, &LARGE) } else { up(&mut number) };
    format!("{}{prefix}", general(number, Some(4)))
}

/// `1Mi`
pub(super) fn binary(mut number: f64) -> String {
    if number.abs() <= 1.0 || !number.is_finite() {
        return general(number, Some(4));
    }
    let prefix = down(&mut number, 1024.0, &BINARY);
    format!("{}{prefix}", general(number, Some(4)))
}

fn down(number: &mut f64, base: f64, prefixes: &[&'static str]) -> &'static str {
    let mut prefix = "";
    for next in prefixes {
        if number.abs() < base {
            break;
        }
        prefix = next;
        *number /= base;
    }
    prefix
}

fn up(number: &mut f64) -> &'static str {
    let mut prefix = "";
    for next in SMALL {
        if number.abs() >= 1.0 {
            break;
        }
        prefix = next;
        *number *= 1000.0;
    }
    prefix
}

/// Seconds as `1d 1h 0m 0s` or `123.5ms`
pub(super) fn length(mut seconds: f64) -> String {
    if !seconds.is_finite() {
        return general(seconds, Some(4));
    }
    if seconds == 0.0 {
        return format!("{}s", general(seconds, Some(4)));
    }
    if seconds.abs() < 1.0 {
        let prefix = up(&mut seconds);
        return format!("{}{prefix}s", general(seconds, Some(4)));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as i64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", general(seconds.abs(), Some(4))),
        (0, 0, _) => format!("{sign}{minutes}m {}s", whole % 60),
        (0, ..) => format!("{sign}{hours}h {minutes}m {}s", whole % 60),
        _ => format!("{sign}{days}d {hours}h {minutes}m {}s", whole % 60),
    }
}

/// Unix seconds as `2015-06-23 13:19:44.128 +0000 UTC`
pub(super) fn moment(seconds: f64) -> Result<String, String> {
    if !seconds.is_finite() {
        return Ok(general(seconds, Some(4)));
    }
    time::nanos(seconds, "nanoseconds timestamp").map(|nanos| time::show(to_milliseconds(nanos)))
}

/// Whole milliseconds, which is what Prometheus keeps of a moment.
pub(super) fn to_milliseconds(nanos: i64) -> i64 {
    nanos / 1_000_000 * 1_000_000
}

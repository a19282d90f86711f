//! Moments and lengths of time as Go prints them, and its layouts by example.

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc};

use super::format;
use super::value::Value;

const SECOND: i64 = 1_000_000_000;

fn moment(nanos: i64) -> DateTime<Utc> {
    Utc.timestamp_nanos(nanos)
}

/// `2015-06-23 13:19:44.128 +0000 UTC`
pub(super) fn show(nanos: i64) -> String {
    layout(nanos, "2006-01-02 15:04:05.999999999 -0700 MST")
}

/// `1h2m3.5s`
pub(super) fn show_length(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let decimal = |unit: u64| {
        let (whole, rest) = (size / unit, size % unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if rest == 0 { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(1_000_000)),
        _ => {
            let second = SECOND as u64;
            let (hours, minutes) = (size / second / 3_600, size / second / 60 % 60);
            let rest = size % (60 * second);
            let fraction = format!("{:09}", rest % second);
            let fraction = fraction.trim_end_matches('0');
            let seconds = rest / second;
            let seconds =
                if fraction.is_empty() { seconds.to_string() } else { format!("{seconds}.{fraction}") };
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// What layouts name by example, longer ones before those they begin with.
const PARTS: [&str; 29] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00:00",
    "-070000",
    "-07:00",
    "-0700",
    "-07",
    "Z07:00",
    "Z0700",
    "Z07",
    "002",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    "_2",
    "1",
    "2",
    "3",
    "4",
];

/// The moment `nanos` in the form of the example `layout`.
pub(super) fn layout(nanos: i64, layout: &str) -> String {
    let at = moment(nanos);
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        if let Some(len) = fraction(rest) {
            out.push_str(&fraction_of(at.nanosecond(), &rest[..len]));
            rest = &rest[len..];
        } else if let Some(part) = PARTS.iter().find(|part| rest.starts_with(**part)) {
            out.push_str(&shown(at, part));
            rest = &rest[part.len()..];
        } else if let Some(left) = rest.strip_prefix('5') {
            out.push_str(&at.second().to_string());
            rest = left;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The length of `.000` or `.999` at the start of `text`, no digit following it.
fn fraction(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(['.', ','])?;
    let digit = rest.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let len = rest.chars().take_while(|c| *c == digit).count();
    let ends = !rest[len..].starts_with(|c: char| c.is_ascii_digit());
    ends.then_some(len + 1)
}

fn fraction_of(nanos: u32, example: &str) -> String {
    let all = format!("{nanos:09}");
    let digits = &all[..(example.len() - 1).min(9)];
    let digits = if example.ends_with('9') { digits.trim_end_matches('0') } else { digits };
    if digits.is_empty() { String::new() } else { format!("{}{digits}", &example[..1]) }
}

fn shown(at: DateTime<Utc>, part: &str) -> String {
    let hour12 = at.hour12().1;
    match part {
        "January" => at.format("%B").to_string(),
        "Jan" => at.format("%b").to_string(),
        "Monday" => at.format("%A").to_string(),
        "Mon" => at.format("%a").to_string(),
        "MST" => "UTC".to_owned(),
        "2006" => format!("{:04}", at.year()),
        "06" => format!("{:02}", at.year().rem_euclid(100)),
        "01" => format!("{:02}", at.month()),
        "1" => at.month().to_string(),
        "02" => format!("{:02}", at.day()),
        "_2" => format!("{:2}", at.day()),
        "2" => at.day().to_string(),
        "002" => format!("{:03}", at.ordinal()),
        "15" => format!("{:02}", at.hour()),
        "03" => format!("{hour12:02}"),
        "3" => hour12.to_string(),
        "04" => format!("{:02}", at.minute()),
        "4" => at.minute().to_string(),
        "05" => format!("{:02}", at.second()),
        "PM" => if at.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        "pm" => if at.hour() < 12 { "am" } else { "pm" }.to_owned(),
        "-07:00:00" => "+00:00:00".to_owned(),
        "-070000" => "+000000".to_owned(),
        "-07:00" => "+00:00".to_owned(),
        "-0700" => "+0000".to_owned(),
        "-07" => "+00".to_owned(),
        _ => "Z".to_owned(),
    }
}

/// The method `name` of a moment; nothing if it has none of that name.
pub(super) fn method(nanos: i64, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
    let at = moment(nanos);
    let whole = |number: i64| Some(Ok(Value::Int(number)));
    let other = |args: &[Value]| match args {
        [Value::Time(other)] => Ok(*other),
        _ => Err(format!("wrong arguments for {name}: want one time.Time")),
    };
    match (name, args) {
        ("Format", [Value::Text(text)]) => Some(Ok(Value::text(layout(nanos, text)))),
        ("Format", _) => Some(Err("wrong arguments for Format: want one string".to_owned())),
        ("Add", [Value::Length(by)]) => Some(Ok(Value::Time(nanos.saturating_add(*by)))),
        ("Add", _) => Some(Err("wrong arguments for Add: want one time.Duration".to_owned())),
        ("Sub", args) => Some(other(args).map(|other| Value::Length(nanos.saturating_sub(other)))),
        ("Before", args) => Some(other(args).map(|other| Value::Bool(nanos < other))),
        ("After", args) => Some(other(args).map(|other| Value::Bool(nanos > other))),
        ("Equal", args) => Some(other(args).map(|other| Value::Bool(nanos == other))),
        ("UTC", []) => Some(Ok(Value::Time(nanos))),
        ("String", []) => Some(Ok(Value::text(show(nanos)))),
        ("Unix", []) => whole(nanos.div_euclid(SECOND)),
        ("UnixMilli", []) => whole(nanos.div_euclid(1_000_000)),
        ("UnixMicro", []) => whole(nanos.div_euclid(1_000)),
        ("UnixNano", []) => whole(nanos),
        ("Year", []) => whole(at.year().into()),
        ("Month", []) => Some(Ok(Value::text(shown(at, "January")))),
        ("Weekday", []) => Some(Ok(Value::text(shown(at, "Monday")))),
        ("Day", []) => whole(at.day().into()),
        ("YearDay", []) => whole(at.ordinal().into()),
        ("Hour", []) => whole(at.hour().into()),
        ("Minute", []) => whole(at.minute().into()),
        ("Second", []) => whole(at.second().into()),
        ("Nanosecond", []) => whole(at.nanosecond().into()),
        _ => None,
    }
}

/// The method `name` of a length of time; nothing if it has none of that name.
pub(super) fn length_method(nanos: i64, name: &str) -> Option<Value> {
    let seconds = nanos as f64 / SECOND as f64;
    match name {
        "Hours" => Some(Value::Float(seconds / 3_600.0)),
        "Minutes" => Some(Value::Float(seconds / 60.0)),
        "Seconds" => Some(Value::Float(seconds)),
        "Milliseconds" => Some(Value::Int(nanos / 1_000_000)),
        "Microseconds" => Some(Value::Int(nanos / 1_000)),
        "Nanoseconds" => Some(Value::Int(nanos)),
        "String" => Some(Value::text(show_length(nanos))),
        _ => None,
    }
}

/// Seconds as a moment or a length in nanoseconds.
pub(super) fn nanos(seconds: f64, what: &str) -> Result<i64, String> {
    let nanos = seconds * 1e9;
    if nanos.is_nan() || nanos.is_infinite() || nanos >= i64::MAX as f64 || nanos < i64::MIN as f64 {
        let seconds = format::shortest(seconds);
        return Err(format!("{seconds} cannot be represented as a {what} since it overflows int64"));
    }
    Ok(nanos as i64)
}

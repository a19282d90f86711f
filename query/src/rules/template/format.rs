//! Numbers and `printf` as Go formats them.

use super::value::Value;

/// `%v` of a number: as few digits as read back the same, with an exponent below 1e-4 and from 1e6 on.
pub(super) fn shortest(number: f64) -> String {
    general(number, None)
}

/// `%g`, with a precision in significant digits or as few as needed.
pub(super) fn general(number: f64, precision: Option<usize>) -> String {
    if let Some(text) = special(number) {
        return text;
    }
    let (negative, digits, exponent) = match precision {
        None => digits(&format!("{number:e}")),
        Some(precision) => digits(&format!("{:.*e}", precision.max(1) - 1, number)),
    };
    let sign = if negative { "-" } else { "" };
    let from = precision.map_or(SHORTEST_EXPONENT, |precision| precision.max(1) as i32);
    if exponent < -4 || exponent >= from {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}{}", show_exponent(exponent));
    }
    let places = digits.len() as i32 - exponent - 1;
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    if places <= 0 {
        return format!("{sign}{digits}{}", "0".repeat(-places as usize));
    }
    let (whole, rest) = digits.split_at(exponent as usize + 1);
    format!("{sign}{whole}.{rest}")
}

/// From which power of ten on a number of as few digits as needed is shown with an exponent.
const SHORTEST_EXPONENT: i32 = 6;

fn special(number: f64) -> Option<String> {
    match () {
        () if number.is_nan() => Some("NaN".to_owned()),
        () if number.is_infinite() => Some(if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned()),
        () => None,
    }
}

/// Sign, digits without trailing zeros, and exponent of `1.25e-3`.
fn digits(text: &str) -> (bool, String, i32) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    (negative, if digits.is_empty() { "0" } else { digits }.to_owned(), exponent.parse().unwrap_or(0))
}

fn show_exponent(exponent: i32) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%e`
fn scientific(number: f64, precision: usize) -> String {
    special(number).unwrap_or_else(|| {
        let text = format!("{number:.precision$e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{mantissa}{}", show_exponent(exponent.parse().unwrap_or(0)))
    })
}

/// What stands between `%` and the verb.
#[derive(Debug, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Widths and precisions are cut to this.
const WIDEST: usize = 1_000;

/// `printf`: verbs that do not fit are shown as Go shows them, `%!d(string=x)`.
pub(super) fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args_left = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(c) = chars.next_if(|c| "-+0 #".contains(*c)) {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '0' => flags.zero = true,
                ' ' => flags.space = true,
                _ => flags.sharp = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if chars.next_if_eq(&'*').is_some() {
                return match args_left.next() {
                    Some(Value::Int(width)) => usize::try_from(*width).ok().map(|width| width.min(WIDEST)),
                    _ => None,
                };
            }
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse::<usize>().ok().map(|width| width.min(WIDEST))
        };
        flags.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut chars).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args_left.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&verbatim(verb, value, &flags)),
            },
        }
    }
    let extra: Vec<String> =
        args_left.map(|value| format!("{}={}", value.type_name(), value.show())).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn verbatim(verb: char, value: &Value, flags: &Flags) -> String {
    let text = match (verb, value) {
        ('v', Value::Float(number)) => general(*number, flags.precision),
        ('v', value) => value.show(),
        ('T', value) => value.type_name().to_owned(),
        ('t', Value::Bool(bool)) => bool.to_string(),
        ('d', Value::Int(whole) | Value::Length(whole)) => whole.to_string(),
        ('b', Value::Int(whole)) => radix(*whole, |whole| format!("{whole:b}")),
        ('o', Value::Int(whole)) => radix(*whole, |whole| format!("{whole:o}")),
        ('x', Value::Int(whole)) => radix(*whole, |whole| format!("{whole:x}")),
        ('X', Value::Int(whole)) => radix(*whole, |whole| format!("{whole:X}")),
        ('c', Value::Int(whole)) => {
            u32::try_from(*whole).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('q', Value::Int(whole)) => {
            format!("{:?}", u32::try_from(*whole).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'))
        }
        ('e' | 'E', Value::Float(number)) => scientific(*number, flags.precision.unwrap_or(6)),
        ('f' | 'F', Value::Float(number)) => {
            special(*number).unwrap_or_else(|| format!("{number:.*}", flags.precision.unwrap_or(6)))
        }
        ('g' | 'G', Value::Float(number)) => general(*number, flags.precision),
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('q', Value::Text(text)) => format!("{text:?}"),
        ('s', Value::Nil) => "%!s(<nil>)".to_owned(),
        ('s', Value::Bool(_) | Value::Int(_) | Value::Float(_)) => wrong(verb, value),
        ('s', value) => match flags.precision {
            Some(precision) => value.show().chars().take(precision).collect(),
            None => value.show(),
        },
        _ => wrong(verb, value),
    };
    let text = if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text };
    let number = matches!(value, Value::Int(_) | Value::Float(_)) && !text.starts_with("%!");
    padded(text, number && !matches!(verb, 'c' | 'q'), flags)
}

fn radix(whole: i64, show: impl Fn(u64) -> String) -> String {
    format!("{}{}", if whole < 0 { "-" } else { "" }, show(whole.unsigned_abs()))
}

fn wrong(verb: char, value: &Value) -> String {
    match value {
        Value::Nil => format!("%!{verb}(<nil>)"),
        value => format!("%!{verb}({}={})", value.type_name(), value.show()),
    }
}

fn padded(mut text: String, number: bool, flags: &Flags) -> String {
    if number && !text.starts_with(['-', '+']) {
        if flags.plus {
            text.insert(0, '+');
        } else if flags.space {
            text.insert(0, ' ');
        }
    }
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if flags.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if !flags.zero {
        return format!("{}{text}", " ".repeat(missing));
    }
    let sign = usize::from(number && text.starts_with(['-', '+', ' ']));
    format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
}

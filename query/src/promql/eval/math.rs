//! Functions from a number to a number, dates included.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// The function called `name`, if it maps each float of a vector on its own.
pub(super) fn find(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => f64::to_degrees,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => f64::to_radians,
        "sgn" => |v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// The date function called `name`: from Unix seconds to a part of the date in UTC.
pub(super) fn date(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "day_of_month" => |v| part(v, |date| date.day()),
        "day_of_week" => |v| part(v, |date| date.weekday().num_days_from_sunday()),
        "day_of_year" => |v| part(v, |date| date.ordinal()),
        "days_in_month" => |v| part(v, days_in_month),
        "hour" => |v| part(v, |date| date.hour()),
        "minute" => |v| part(v, |date| date.minute()),
        "month" => |v| part(v, |date| date.month()),
        "year" => |v| part_signed(v, |date| i64::from(date.year())),
        _ => return None,
    })
}

fn part(seconds: f64, get: fn(DateTime<Utc>) -> u32) -> f64 {
    date_of(seconds).map_or(f64::NAN, |date| f64::from(get(date)))
}

fn part_signed(seconds: f64, get: fn(DateTime<Utc>) -> i64) -> f64 {
    date_of(seconds).map_or(f64::NAN, |date| get(date) as f64)
}

fn date_of(seconds: f64) -> Option<DateTime<Utc>> {
    if seconds.is_nan() { None } else { DateTime::from_timestamp(seconds.floor() as i64, 0) }
}

fn days_in_month(date: DateTime<Utc>) -> u32 {
    let leap = date.naive_utc().date().leap_year();
    match date.month() {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// `v` rounded to the nearest multiple of `to`, halves up.
pub(super) fn round(v: f64, to: f64) -> f64 {
    // The inverse keeps 0.1 and its like exact.
    let inverse = 1.0 / to;
    (v * inverse + 0.5).floor() / inverse
}

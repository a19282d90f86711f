//! Functions from a number to a number, dates included.

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
        "day_of_month" => |v| Date::of(v).day as f64,
        "day_of_week" => |v| Date::of(v).weekday as f64,
        "day_of_year" => |v| Date::of(v).day_of_year as f64,
        "days_in_month" => |v| Date::of(v).days_in_month as f64,
        "hour" => |v| (Date::of(v).second_of_day / 3600) as f64,
        "minute" => |v| (Date::of(v).second_of_day / 60 % 60) as f64,
        "month" => |v| Date::of(v).month as f64,
        "year" => |v| Date::of(v).year as f64,
        _ => return None,
    })
}

/// A moment in the Gregorian calendar, for each of the 2^64 seconds that Go's clock has: what is no number, or beyond
/// them, is at the first, as it is in Prometheus.
struct Date {
    year: i64,
    month: u64,
    day: u64,
    /// From Sunday on.
    weekday: u64,
    day_of_year: u64,
    days_in_month: u64,
    second_of_day: u64,
}

/// The year from which days are counted: 400-year cycles begin with it, on a Monday.
const FIRST_YEAR: i64 = -292_277_022_399;
/// Seconds from there to 1970.
const FIRST_TO_UNIX: u64 = 9_223_372_028_715_321_600;

impl Date {
    fn of(seconds: f64) -> Self {
        // As the processors that Prometheus mostly runs on convert; Rust would take the nearest whole number.
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&seconds);
        let seconds = if fits { seconds as i64 } else { i64::MIN };
        let seconds = (seconds as u64).wrapping_add(FIRST_TO_UNIX);
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (cycles, day) = (days / 146_097, days % 146_097);
        // The last century of a cycle has a day more, as has the last year of four.
        let centuries = (day / 36_524).min(3);
        let day = day - centuries * 36_524;
        let (fours, day) = (day / 1_461, day % 1_461);
        let years = (day / 365).min(3);
        let day_of_year = day - years * 365;
        let year = FIRST_YEAR + (400 * cycles + 100 * centuries + 4 * fours + years) as i64;
        let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
        let months = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (mut month, mut before) = (0, 0);
        while month < 11 && before + months[month] <= day_of_year {
            before += months[month];
            month += 1;
        }
        Self {
            year,
            month: month as u64 + 1,
            day: day_of_year - before + 1,
            weekday: (days + 1) % 7,
            day_of_year: day_of_year + 1,
            days_in_month: months[month],
            second_of_day,
        }
    }
}

/// `v` rounded to the nearest multiple of `to`, halves up.
pub(super) fn round(v: f64, to: f64) -> f64 {
    // The inverse keeps 0.1 and its like exact.
    let inverse = 1.0 / to;
    (v * inverse + 0.5).floor() / inverse
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, Timelike};
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 8] =
        ["year", "month", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute"];

    fn parts(seconds: f64) -> [f64; 8] {
        NAMES.map(|name| date(name).unwrap()(seconds))
    }

    #[test]
    fn what_is_no_moment_is_the_first_one() {
        let first = [292_277_026_596.0, 12.0, 4.0, 0.0, 339.0, 31.0, 15.0, 30.0];
        for seconds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e19, 1e19] {
            assert_eq!(parts(seconds), first, "{seconds}");
        }
        assert_eq!(parts(-0.9), parts(0.0), "fractions are cut off");
        assert_eq!(parts(-1.0), [1969.0, 12.0, 31.0, 3.0, 365.0, 31.0, 23.0, 59.0]);
    }

    proptest! {
        #[test]
        fn dates_are_those_of_the_calendar(seconds in -8_000_000_000_000_i64..8_000_000_000_000) {
            let moment = DateTime::from_timestamp(seconds, 0).unwrap();
            let expected = [
                f64::from(moment.year()),
                f64::from(moment.month()),
                f64::from(moment.day()),
                f64::from(moment.weekday().num_days_from_sunday()),
                f64::from(moment.ordinal()),
                f64::from(moment.num_days_in_month()),
                f64::from(moment.hour()),
                f64::from(moment.minute()),
            ];
            prop_assert_eq!(parts(seconds as f64), expected);
        }
    }
}

//! Numbers as Prometheus reads and writes them, and sums that keep what rounding would lose.

/// The bits of the NaN that ends a series.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the stale marker.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// The stale marker.
pub fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// A number as OpenMetrics writes it in labels: `0.5`, `1.0`, `+Inf`.
pub fn show_open_metrics(value: f64) -> String {
    let mut text = show(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// `value` in the shortest form that reads back the same, never with an exponent.
pub fn show(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// Reads a number as labels and the query language write it: decimal, hexadecimal, octal, `Inf`, `NaN`.
pub fn read(text: &str) -> Option<f64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => return Some(f64::NAN),
        lower => read_digits(lower)?,
    };
    Some(if negative { -value } else { value })
}

fn read_digits(lower: &str) -> Option<f64> {
    if !lower.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let plain = if lower.contains('_') { without_underscores(lower)? } else { lower.to_owned() };
    if let Some(hex) = plain.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|v| v as f64);
    }
    let octal =
        plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal {
        return u64::from_str_radix(&plain[1..], 8).ok().map(|v| v as f64);
    }
    plain.parse().ok()
}

/// `text` without the underscores between digits; none if one stands elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let between = |i: usize| {
        i > 0 && bytes[i - 1].is_ascii_hexdigit() && bytes.get(i + 1).is_some_and(u8::is_ascii_hexdigit)
    };
    let fine = bytes.iter().enumerate().all(|(i, &b)| b != b'_' || between(i));
    fine.then(|| text.replace('_', ""))
}

/// A sum with Neumaier's compensation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kahan {
    sum: f64,
    lost: f64,
}

impl Kahan {
    /// A sum that starts at `value`.
    pub fn of(value: f64) -> Self {
        Self { sum: value, lost: 0.0 }
    }

    /// Adds `value`.
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - total) + value;
        } else {
            self.lost += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    /// The sum so far.
    pub fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }

    /// Both parts times `factor`.
    fn scaled(self, factor: f64) -> Self {
        Self { sum: self.sum * factor, lost: self.lost * factor }
    }
}

/// A mean that sums first, and goes on incrementally once the sum would overflow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    state: Kahan,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// Adds `value`.
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.state;
            next.add(value);
            if self.count == 1.0 || !next.sum.is_infinite() {
                self.state = next;
                return;
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.state = Kahan { sum: self.state.sum / before, lost: self.state.lost / before };
        }
        self.state = self.state.scaled((self.count - 1.0) / self.count);
        self.state.add(value / self.count);
    }

    /// Adds what another has seen.
    pub fn merge(&mut self, other: Self) {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut next = self.state;
            next.merge(other.state);
            if !next.sum.is_infinite() {
                *self = Self { state: next, count, incremental: false };
                return;
            }
        }
        let mut state = self.as_mean().scaled(self.count / count);
        state.merge(other.as_mean().scaled(other.count / count));
        *self = Self { state, count, incremental: true };
    }

    fn as_mean(self) -> Kahan {
        if self.incremental { self.state } else { self.state.scaled(1.0 / self.count) }
    }

    /// The mean so far.
    pub fn value(self) -> f64 {
        if self.incremental {
            self.state.sum + self.state.lost
        } else {
            self.state.sum / self.count + self.state.lost / self.count
        }
    }
}

/// Welford's running variance, compensated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Variance {
    count: f64,
    mean: Kahan,
    squares: Kahan,
}

impl Variance {
    /// Adds `value`.
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.lost);
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - (self.mean.sum + self.mean.lost)));
    }

    /// Adds what another has seen (Chan, Golub and LeVeque).
    pub fn merge(&mut self, other: Self) {
        let count = self.count + other.count;
        let delta = (other.mean.sum + other.mean.lost) - (self.mean.sum + self.mean.lost);
        self.squares.merge(other.squares);
        self.squares.add(delta * delta * self.count * other.count / count);
        self.mean.add(delta * other.count / count);
        self.count = count;
    }

    /// The population variance so far.
    pub fn value(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

/// The `q` quantile of `values`, interpolated; NaN counts as smallest. Sorts `values`.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| nan_first(*a, *b));
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Ascending order in which NaN comes first.
pub fn nan_first(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Whether two numbers agree within a relative `tolerance`; NaN agrees with NaN.
pub fn almost_equal(a: f64, b: f64, tolerance: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

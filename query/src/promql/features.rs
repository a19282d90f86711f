//! The parts of the language that Prometheus calls experimental, each behind a flag of its own.

/// Which experimental syntax is allowed; the names are those of `--enable-feature`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`: the functions marked so, `limitk` and `limit_ratio`.
    pub functions: bool,
    /// `promql-duration-expr`: arithmetic, `step()` and `range()` where a length of time stands.
    pub durations: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_ranges: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left` and `fill_right`.
    pub fill: bool,
}

impl Features {
    /// Every one.
    pub const ALL: Self = Self { functions: true, durations: true, extended_ranges: true, fill: true };
    /// None, as in Prometheus unless flags say otherwise.
    pub const NONE: Self = Self { functions: false, durations: false, extended_ranges: false, fill: false };
}

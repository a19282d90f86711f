//! Which traces are sampled: a share of them, chosen by the trace id alone, so that proxies which are told
//! the same share choose the same traces, and a larger share contains every smaller one.
//!
//! The rule is OpenTelemetry's consistent probability sampling (opentelemetry.io, "TraceState: Probability
//! Sampling"): the low 56 bits of the trace id are its randomness, and it is taken where that is not below
//! the threshold.

use weir_model::TraceId;

/// A share of traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// 0 takes all, 2^56 none.
    threshold: u64,
}

const RANDOMNESS: u64 = 1 << 56;

impl Share {
    pub(crate) const ALL: Self = Self { threshold: 0 };

    /// The share `ratio` in 0 to 1; what is beyond counts as the nearer of the two, and NaN as 1.
    pub(crate) fn of(ratio: f64) -> Self {
        let left_out = (1.0 - ratio.clamp(0.0, 1.0)) * RANDOMNESS as f64;
        // A NaN becomes 0, which takes all.
        Self { threshold: left_out.round() as u64 }
    }

    /// Whether this trace is among them.
    pub(crate) fn takes(self, trace: &TraceId) -> bool {
        let mut low = [0; 8];
        low.copy_from_slice(&trace.0[8..]);
        u64::from_be_bytes(low) & (RANDOMNESS - 1) >= self.threshold
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

//! Which traces stay once their day is over: what is wanted of them is told here, `compact::sample` does it.

use std::collections::HashMap;
use std::time::Duration;

use weir_model::TenantId;

/// A trace that is not out of the ordinary stays with a probability; one that is stays for certain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The share of ordinary traces that stay, above 0 and up to 1. At 1 nothing is sampled.
    pub rate: f64,
    /// Which spans are slow.
    pub slow: Slow,
    /// An operation with fewer spans on that day is rare.
    pub rare: u64,
}

/// From when on a span is slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slow {
    /// When it takes this long.
    From(Duration),
    /// When it takes longer than this share of its operation's spans of that day do; 1 for never.
    Quantile(f64),
}

impl Default for Sampling {
    /// Everything stays.
    fn default() -> Self {
        Self { rate: 1.0, slow: Slow::Quantile(0.99), rare: 100 }
    }
}

impl Sampling {
    /// Whether there is anything to do.
    pub(crate) fn is_on(&self) -> bool {
        self.rate < 1.0
    }
}

/// What is asked for by tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samplings {
    /// Of tenants that are not named.
    pub default: Sampling,
    /// Of those that are.
    pub tenants: HashMap<TenantId, Sampling>,
}

impl Samplings {
    pub(crate) fn of(&self, tenant: &TenantId) -> Sampling {
        self.tenants.get(tenant).copied().unwrap_or(self.default)
    }
}

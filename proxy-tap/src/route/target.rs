//! Where a request goes: one of several targets by weight, and copies to others.

use std::sync::Arc;

use http::HeaderValue;
use weir_model::policy::route::{Mirror as WrittenMirror, WeightedTarget};

use super::compile::Mistakes;
use super::headers::Changes;

/// A service or a subset of it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: Arc<str>,
    pub(crate) subset: Option<Arc<str>>,
    pub(super) request: Changes,
    pub(super) authority: Option<HeaderValue>,
    pub(super) response: Changes,
}

impl Target {
    /// The whole of a service.
    pub(crate) fn own(host: &Arc<str>) -> Self {
        Self::to("", "", host)
    }

    fn to(host: &str, subset: &str, own: &Arc<str>) -> Self {
        Self {
            host: if host.is_empty() || *host == **own { Arc::clone(own) } else { host.into() },
            subset: (!subset.is_empty()).then(|| subset.into()),
            request: Changes::default(),
            authority: None,
            response: Changes::default(),
        }
    }
}

/// Targets by weight; never empty.
#[derive(Debug)]
pub(super) struct Targets {
    all: Box<[Target]>,
    /// Where each one's share ends: sums of weights.
    ends: Box<[u64]>,
}

impl Targets {
    /// What is written, or `own`, the service that has the route.
    pub(super) fn new(written: &[WeightedTarget], own: &Arc<str>, mistakes: &mut Mistakes) -> Self {
        if written.is_empty() {
            return Self { all: [Target::to("", "", own)].into(), ends: [1].into() };
        }
        let mut end = 0;
        let ends = written.iter().map(|to| {
            end += u64::from(to.weight);
            end
        });
        let ends: Box<[u64]> = ends.collect();
        if end == 0 {
            mistakes.note("to", "expected a weight above 0");
        }
        let compiled = written.iter().enumerate().map(|(i, to)| {
            let mut target = Target::to(&to.host, &to.subset, own);
            let what = format!("to[{i}].headers");
            (target.request, target.authority) =
                Changes::of_request(&format!("{what}.request"), &to.headers.request, mistakes);
            target.response = Changes::new(&format!("{what}.response"), &to.headers.response, mistakes);
            target
        });
        Self { all: compiled.collect(), ends }
    }

    /// The one that `draw` falls on. Of 2^64 draws each gets its share.
    pub(super) fn pick(&self, draw: u64) -> &Target {
        let total = self.ends.last().copied().unwrap_or_default();
        let point = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        let at = self.ends.partition_point(|end| *end <= point);
        &self.all[at.min(self.all.len() - 1)]
    }
}

/// Copies of some requests go there, and nobody reads the answers.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) share: f64,
    pub(super) target: Target,
}

impl Mirror {
    pub(super) fn new(written: &WrittenMirror, own: &Arc<str>) -> Self {
        Self { share: written.percent.fraction(), target: Target::to(&written.host, &written.subset, own) }
    }
}

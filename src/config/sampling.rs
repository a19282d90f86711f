//! `[sampling]` and `[tenants.NAME.sampling]`.

use std::collections::{BTreeSet, HashMap};

use weir_storage::{Sampling, Samplings, Slow};

use super::{Take, units};

impl Take<'_> {
    /// Which traces stay when their day is over.
    pub(super) fn samplings(&mut self) -> Samplings {
        let default = self.sampling("sampling", Sampling::default());
        let name = |path: &String| {
            path.strip_prefix("tenants.")?.split_once(".sampling.").map(|(name, _)| name.to_owned())
        };
        let names: BTreeSet<String> = self.written.keys().filter_map(name).collect();
        let mut tenants = HashMap::new();
        for name in names {
            let section = format!("tenants.{name}.sampling");
            let sampling = self.sampling(&section, default);
            if let Some(tenant) = self.tenant(&section, &name) {
                tenants.insert(tenant, sampling);
            }
        }
        Samplings { default, tenants }
    }

    fn sampling(&mut self, section: &str, default: Sampling) -> Sampling {
        let key = |name: &str| format!("{section}.{name}");
        Sampling {
            rate: self.value(&key("rate"), "a share above 0 and up to 1", default.rate, |text| {
                text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0)
            }),
            slow: self.value(
                &key("slow"),
                "a quantile, as in `p99`, a duration, as in `2s`, or `never`",
                default.slow,
                slow,
            ),
            rare: self.value(&key("rare"), "a number of spans", default.rare, |text| text.parse().ok()),
        }
    }
}

fn slow(text: &str) -> Option<Slow> {
    if text == "never" {
        return Some(Slow::Quantile(1.0));
    }
    let quantile = text.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
    match quantile {
        Some(percent) => Some(Slow::Quantile(percent / 100.0)).filter(|_| (0.0..100.0).contains(&percent)),
        None => units::duration(text).map(Slow::From),
    }
}

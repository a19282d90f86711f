//! What a policy says about balancing, for one caller.

use std::time::Duration;

use weir_model::policy::destination::{Balancer, Destination, Distribute, Locality, Subset, Warmup};
use weir_model::policy::{self, Percent};

/// As in Envoy.
const PANIC_BELOW: Percent = Percent::whole(50);

/// What a policy says about balancing, and where the caller is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    pub(crate) balancer: Balancer,
    pub(crate) locality: Locality,
    pub(crate) warmup: Option<Warmup>,
    pub(crate) panic_threshold: Option<Percent>,
    pub(crate) subsets: Vec<Subset>,
    /// Region of the caller; empty where it is unknown.
    pub(crate) region: String,
    /// Zone of the caller; empty where it is unknown.
    pub(crate) zone: String,
}

/// Where an endpoint stands: first the level, by priority and distance, then the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    pub(super) level: (u32, u8),
    pub(super) place: usize,
}

impl Rules {
    pub(crate) fn new(to: &Destination, region: &str, zone: &str) -> Self {
        Self {
            balancer: to.balancer.clone(),
            locality: to.locality.clone(),
            warmup: to.warmup.clone(),
            panic_threshold: to.panic_threshold,
            subsets: to.subsets.clone(),
            region: region.to_owned(),
            zone: zone.to_owned(),
        }
    }

    /// The share of healthy endpoints below which all are used.
    pub(super) fn panic_below(&self) -> f64 {
        self.panic_threshold.unwrap_or(PANIC_BELOW).fraction()
    }

    /// The distribution for the caller's place, if there is one.
    pub(super) fn distribution(&self) -> Option<&Distribute> {
        let here = |rule: &&Distribute| fits(&rule.from, &self.region, &self.zone).is_some();
        self.locality.distribute.iter().find(here)
    }

    /// Where an endpoint stands, and the weight of its place; `None` where it gets nothing.
    pub(super) fn standing(
        &self,
        distribution: Option<&Distribute>,
        endpoint: &policy::Endpoint,
    ) -> Option<(Standing, u32)> {
        if endpoint.weight == 0 {
            return None;
        }
        let Some(distribution) = distribution else {
            let level = (endpoint.priority, self.distance(endpoint));
            return Some((Standing { level, place: 0 }, 1));
        };
        // The most specific place that it is in.
        let places = distribution.to.iter().enumerate().filter_map(|(place, (name, weight))| {
            Some((fits(name, &endpoint.region, &endpoint.zone)?, place, *weight))
        });
        let (_, place, weight) = places.max_by_key(|(specific, ..)| *specific)?;
        (weight > 0).then_some((Standing { level: (endpoint.priority, 0), place }, weight))
    }

    /// 0 in the caller's zone, 1 in its region, 2 elsewhere; 0 everywhere without a preference.
    fn distance(&self, endpoint: &policy::Endpoint) -> u8 {
        let same_region = self.region == endpoint.region;
        match self.locality.prefer {
            false => 0,
            true if self.zone.is_empty() && self.region.is_empty() => 0,
            true if same_region && self.zone == endpoint.zone => 0,
            true if same_region && !self.region.is_empty() => 1,
            true => 2,
        }
    }
}

/// How specific the place called `name` is, if it covers this zone of this region.
fn fits(name: &str, region: &str, zone: &str) -> Option<u8> {
    match name.split_once('/') {
        None if name == "*" => Some(0),
        None | Some((_, "*")) => (name.trim_end_matches("/*") == region).then_some(1),
        Some((of, in_it)) => (of == region && in_it == zone).then_some(2),
    }
}

/// The share that an endpoint of this age gets: `max(minimum, (age/duration)^(1/aggression))`, as Envoy's
/// "Slow start mode" has it.
pub(super) fn warmth(warmup: &Warmup, age: Duration) -> f64 {
    let part = age.as_secs_f64() / warmup.duration.0.as_secs_f64();
    if part >= 1.0 || part.is_nan() {
        return 1.0;
    }
    let grown =
        if (warmup.aggression - 1.0).abs() < 1e-9 { part } else { part.powf(1.0 / warmup.aggression) };
    grown.max(warmup.minimum.fraction())
}

#[cfg(test)]
mod tests {
    use weir_model::policy::Length;

    use super::*;

    fn at(region: &str, zone: &str) -> policy::Endpoint {
        policy::Endpoint { region: region.into(), zone: zone.into(), ..policy::Endpoint::default() }
    }

    fn here(locality: Locality, region: &str, zone: &str) -> Rules {
        Rules { locality, region: region.into(), zone: zone.into(), ..Rules::default() }
    }

    #[test]
    fn what_is_near_comes_first() {
        let rules = here(Locality { prefer: true, ..Locality::default() }, "eu", "eu-1");
        let distances = [at("eu", "eu-1"), at("eu", "eu-2"), at("us", "eu-1"), at("", "")];
        assert_eq!(distances.map(|endpoint| rules.distance(&endpoint)), [0, 1, 2, 2]);
        let zone_only = here(rules.locality.clone(), "", "z1");
        assert_eq!([at("", "z1"), at("", "z2")].map(|e| zone_only.distance(&e)), [0, 2]);
        let nowhere = here(rules.locality.clone(), "", "");
        assert_eq!([at("eu", "a"), at("us", "b")].map(|e| nowhere.distance(&e)), [0, 0]);
        let indifferent = here(Locality::default(), "eu", "eu-1");
        assert_eq!(indifferent.distance(&at("us", "x")), 0);
    }

    #[test]
    fn the_most_specific_place_counts() {
        let to = [("eu/*", 30), ("eu/1", 50), ("us/2", 0), ("*", 20)].map(|(name, w)| (name.to_owned(), w));
        let rule = Distribute { from: "eu/*".into(), to: to.into() };
        let locality = Locality { prefer: true, distribute: vec![rule], ..Locality::default() };
        let rules = here(locality.clone(), "eu", "1");
        let weight = |endpoint: policy::Endpoint| {
            rules.standing(rules.distribution(), &endpoint).map(|(_, weight)| weight)
        };
        assert_eq!(weight(at("eu", "1")), Some(50));
        assert_eq!(weight(at("eu", "9")), Some(30));
        assert_eq!(weight(at("us", "2")), None, "its place gets nothing");
        assert_eq!(weight(at("asia", "")), Some(20));
        assert!(here(locality, "us", "1").distribution().is_none(), "nothing is said of this caller");
    }

    #[test]
    fn an_endpoint_without_weight_stands_nowhere() {
        let endpoint = policy::Endpoint { weight: 0, ..policy::Endpoint::default() };
        assert_eq!(Rules::default().standing(None, &endpoint), None);
    }

    #[test]
    fn warmth_grows_along_the_curve() {
        let of = |aggression, secs| {
            let warmup = Warmup { duration: Length::secs(100), minimum: Percent::whole(10), aggression };
            (warmth(&warmup, Duration::from_secs(secs)) * 1_000.0).round()
        };
        assert_eq!(
            [0, 5, 25, 50, 99, 100, 500].map(|s| of(1.0, s)),
            [100., 100., 250., 500., 990., 1e3, 1e3]
        );
        assert_eq!([0, 25, 49, 81].map(|s| of(2.0, s)), [100., 500., 700., 900.], "faster at first");
        assert_eq!([25, 50].map(|s| of(0.5, s)), [100., 250.], "slower at first");
        let none = Warmup { duration: Length::secs(0), ..Warmup::default() };
        assert!((warmth(&none, Duration::ZERO) - 1.0).abs() < 1e-9);
    }
}

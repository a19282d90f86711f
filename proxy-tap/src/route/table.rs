//! The routes of a service: the first that matches decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::limits;
use weir_model::policy::{HttpRoute, Mistake, Service};

use super::compile::{self, Mistakes};
use super::condition::{Condition, View};
use super::index::Beginnings;
use super::limit::Buckets;
use super::{Found, Route};

/// The routes of a service.
///
/// Each of a route's matches is a rule; rules are numbered in order, and the lowest number that matches is the
/// answer. Those that say what the path begins with are found by an index, the others are tried one by one, and
/// only as far as the best that was found.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    rules: Box<[Rule]>,
    exact_case: Beginnings,
    any_case: Beginnings,
    unindexed: Box<[u32]>,
    /// Where everything goes when the service has no routes.
    default: Option<Arc<Route>>,
}

#[derive(Debug)]
struct Rule {
    condition: Condition,
    path_pattern: Option<Arc<str>>,
    route: Arc<Route>,
}

impl Routes {
    /// Compiles the routes of `service`. Rate limits that were there before find their state in `buckets`, of
    /// which a proxy has one.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, with paths as in [`policy::Policy::check`](weir_model::policy::Policy::check).
    pub(crate) fn compile(service: &Service, buckets: &Arc<Buckets>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Mistakes::new();
        if service.routes.len() > limits::ROUTES {
            mistakes.enter(format!("service[{}]", service.host));
            mistakes.note("route", format!("expected at most {}", limits::ROUTES));
            return mistakes.unless_any(Self::of(Vec::new(), None));
        }
        let mut rules = Vec::new();
        for (n, written) in service.routes.iter().enumerate() {
            let (route, conditions) = compile::route(service, n, written, buckets, &mut mistakes);
            let route = Arc::new(route);
            let conditions = if conditions.is_empty() { vec![Condition::default()] } else { conditions };
            rules.extend(conditions.into_iter().map(|condition| Rule {
                path_pattern: condition.path_pattern().map(Arc::from),
                condition,
                route: Arc::clone(&route),
            }));
        }
        let default = service.routes.is_empty().then(|| {
            let route = HttpRoute { name: "default".to_owned(), ..HttpRoute::default() };
            Arc::new(compile::route(service, 0, &route, buckets, &mut mistakes).0)
        });
        mistakes.unless_any(Self::of(rules, default))
    }

    fn of(rules: Vec<Rule>, default: Option<Arc<Route>>) -> Self {
        let (mut exact_case, mut any_case, mut unindexed) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (n, rule) in (0_u32..).zip(&rules) {
            match rule.condition.beginning() {
                Some((key, false)) => exact_case.entry(key).or_insert_with(Vec::new).push(n),
                Some((key, true)) => any_case.entry(key).or_insert_with(Vec::new).push(n),
                None => unindexed.push(n),
            }
        }
        Self {
            rules: rules.into(),
            exact_case: Beginnings::new(false, exact_case),
            any_case: Beginnings::new(true, any_case),
            unindexed: unindexed.into(),
            default,
        }
    }

    /// The first route that matches. `None`: the request is to be answered with 404, flag `NR`.
    pub(crate) fn find(&self, view: &View<'_>) -> Option<Found<'_>> {
        if let Some(route) = &self.default {
            return Some(Found { route, prefix: None, path_pattern: None });
        }
        let exact_case = self.exact_case.candidates(&view.path);
        let indexed = exact_case.chain(self.any_case.candidates(&view.path));
        let mut best = None;
        for candidates in indexed.chain([&*self.unindexed]) {
            let better = candidates.iter().take_while(|n| best.is_none_or(|best| **n < best));
            best = better.copied().find(|n| self.rule(*n).condition.holds(view)).or(best);
        }
        let Rule { condition, path_pattern, route } = self.rule(best?);
        Some(Found { route, prefix: condition.prefix(), path_pattern: path_pattern.as_ref() })
    }

    fn rule(&self, n: u32) -> &Rule {
        &self.rules[n as usize]
    }
}

#[cfg(test)]
mod tests;

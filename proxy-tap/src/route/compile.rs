//! From a route as it is written to one that requests can be held against. All mistakes are found at once.

use std::fmt::Display;
use std::sync::Arc;

use weir_model::policy::{HttpRoute, Mistake, Service};

use super::answer::Own;
use super::condition::Condition;
use super::cors::Cors;
use super::fault::Fault;
use super::headers::Changes;
use super::limit::{Buckets, Limits};
use super::retry::RetryPolicy;
use super::rewrite::Rewrite;
use super::target::{Mirror, Targets};
use super::{Hedge, Route};

/// What is wrong with a policy, and where one is.
#[derive(Debug)]
pub(super) struct Mistakes {
    at: String,
    found: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new() -> Self {
        Self { at: String::new(), found: Vec::new() }
    }

    /// What follows is about `at`.
    pub(super) fn enter(&mut self, at: String) {
        self.at = at;
    }

    /// Something is wrong with the part called `what`.
    pub(super) fn note(&mut self, what: &str, problem: impl Display) {
        self.found.push(Mistake { path: self.at.clone(), problem: format!("{what}: {problem}") });
    }

    /// The result, unless it is a mistake.
    pub(super) fn keep<T>(&mut self, what: &str, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|problem| self.note(what, problem)).ok()
    }

    /// `whole`, if nothing was wrong.
    pub(super) fn unless_any<T>(self, whole: T) -> Result<T, Vec<Mistake>> {
        if self.found.is_empty() { Ok(whole) } else { Err(self.found) }
    }
}

/// Route number `n` of `service`, and the conditions of which any has to hold.
pub(super) fn route(
    service: &Service,
    n: usize,
    written: &HttpRoute,
    buckets: &Arc<Buckets>,
    mistakes: &mut Mistakes,
) -> (Route, Vec<Condition>) {
    let at = format!("service[{}].route[{n}]", service.host);
    let conditions = written.matches.iter().enumerate().map(|(i, one)| {
        mistakes.enter(format!("{at}.match[{i}]"));
        Condition::new(one, mistakes)
    });
    let conditions = conditions.collect();
    mistakes.enter(at);
    let own: Arc<str> = service.host.as_str().into();
    let (request, host) = Changes::of_request("headers.request", &written.headers.request, mistakes);
    // By its number alone a route would lose its buckets when another is put before it.
    let identity = || format!("{} {:?} {:?}", service.host, written.name, written.matches);
    let limits = match written.rate_limits.as_slice() {
        [] => None,
        rules => Limits::new(rules, &identity(), buckets, mistakes),
    };
    let route = Route {
        name: if written.name.is_empty() { n.to_string().into() } else { written.name.as_str().into() },
        priority: written.priority,
        upgrade: written.upgrade,
        timeout: written.timeout.map(|length| length.0),
        retries: written.retries.as_ref().map(RetryPolicy::new),
        hedge: written.hedge.as_ref().map(|hedge| Hedge { after: hedge.after.0, attempts: hedge.attempts }),
        targets: Targets::new(&written.to, &own, mistakes),
        mirrors: written.mirrors.iter().map(|mirror| Mirror::new(mirror, &own)).collect(),
        own: Own::new(written, mistakes).map(Box::new),
        cors: written.cors.as_ref().map(|cors| Box::new(Cors::new(cors, mistakes))),
        fault: Fault::new(&written.fault),
        limits: limits.map(Box::new),
        rewrite: Rewrite::new(&written.rewrite, host, mistakes),
        request,
        response: Changes::new("headers.response", &written.headers.response, mistakes),
    };
    (route, conditions)
}

//! What the policy says of one service, ready for its requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::policy::destination::{Connections, OutlierDetection};
use weir_model::policy::route::Retries;
use weir_model::policy::{Mistake, Policy, Service};

use crate::balance::Rules;
use crate::concurrency::Limits;
use crate::config::Config;
use crate::retry::Budget;
use crate::route::{Buckets, RetryPolicy, Routes, Target};
use crate::run::Proxy;
use crate::services;
use crate::upstream::{Origin, Upstream};

/// Routes, bounds and budgets of a service.
#[derive(Debug)]
pub(crate) struct Applied {
    /// As it was written, without routes and endpoints, which are elsewhere.
    pub(crate) service: Service,
    /// Whether any route was written.
    pub(crate) has_routes: bool,
    pub(crate) routes: Routes,
    /// The service itself, where requests go without a route.
    pub(crate) own: Target,
    /// Requests that may be under way.
    pub(crate) limits: Arc<Limits>,
    /// Whether any bound on them is set.
    pub(crate) has_limits: bool,
    /// What is sent again where a route does not say.
    pub(crate) retries: RetryPolicy,
    /// How long a response's head may take where a route does not say.
    pub(crate) timeout: Duration,
    budget: Arc<Mutex<Budget>>,
}

impl Applied {
    /// What `service` says. What did not change since `before` keeps what it has counted.
    pub(crate) fn new(
        service: Service,
        config: &Config,
        buckets: &Arc<Buckets>,
        before: Option<&Self>,
    ) -> Result<Self, Vec<Mistake>> {
        let now = Instant::now();
        let routes = Routes::compile(&service, buckets)?;
        let to = &service.destination;
        let same = before.filter(|before| {
            let was = &before.service.destination;
            was.connections == to.connections && was.adaptive_concurrency == to.adaptive_concurrency
        });
        let limits = same.map_or_else(
            || Limits::new(&to.connections, to.adaptive_concurrency.as_ref(), now),
            |before| Arc::clone(&before.limits),
        );
        let has_limits = to.connections.max_requests.is_some()
            || to.connections.reserved_for_high_priority.is_some()
            || to.connections.max_pending.is_some()
            || to.connections.max_connections.is_some()
            || to.adaptive_concurrency.is_some();
        let same = before.filter(|before| before.service.destination.retry_budget == to.retry_budget);
        let budget = same.map_or_else(
            || {
                // A policy that says nothing of it leaves it to the flag.
                let is_default = to.retry_budget == Default::default();
                let budget = match is_default {
                    true => Budget::new(config.retry.budget_pct, now),
                    false => Budget::of(&to.retry_budget, now),
                };
                Arc::new(Mutex::new(budget))
            },
            |before| Arc::clone(&before.budget),
        );
        let retries = RetryPolicy::new(&Retries { attempts: config.retry.limit, ..Retries::default() });
        let own = Target::own(&service.host.as_str().into());
        let has_routes = !service.routes.is_empty();
        let service = Service { routes: Vec::new(), endpoints: Vec::new(), ..service };
        Ok(Self {
            service,
            has_routes,
            routes,
            own,
            limits,
            has_limits,
            retries,
            timeout: config.timeout,
            budget,
        })
    }

    /// What holds where no policy says anything.
    pub(crate) fn plain(host: &str) -> Self {
        let (config, now) = (Config::default(), Instant::now());
        Self {
            service: Service { host: host.to_owned(), ..Service::default() },
            has_routes: false,
            routes: Routes::default(),
            own: Target::own(&host.into()),
            limits: Limits::new(&Connections::default(), None, now),
            has_limits: false,
            retries: RetryPolicy::new(&Retries { attempts: config.retry.limit, ..Retries::default() }),
            timeout: config.timeout,
            budget: Arc::new(Mutex::new(Budget::new(config.retry.budget_pct, now))),
        }
    }

    /// How many retries are left; never held across an await.
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Does from now on what `policy` says; its mistakes were told before.
    pub(crate) fn apply(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.policy.store(Arc::clone(&policy));
        for service in &policy.services {
            self.services.get_or_add(&service.host, self);
        }
        for upstream in self.services.all() {
            if upstream.origin() != Origin::External || policy.service(&upstream.name).is_some() {
                let (origin, listed) = services::source(&upstream.name, self);
                // The file of endpoints is watched by itself, and so is the DNS.
                services::move_to(&upstream, origin, listed, self);
            }
            self.apply_to(&upstream, Some(&upstream.applied()));
        }
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Makes a service do what the policy says of it; `before` is what held until now.
    pub(crate) fn apply_to(&self, upstream: &Upstream, before: Option<&Applied>) {
        let policy = self.policy();
        let known = policy.service(&upstream.name);
        let service = known
            .cloned()
            .unwrap_or_else(|| Service { host: upstream.name.to_string(), ..Service::default() });
        let to = &service.destination;
        let rules = Rules::new(to, &self.config.region, &self.config.zone);
        upstream.balance_by(match known {
            Some(_) => rules,
            None => Rules { balancer: self.config.balancer.as_policy(), ..rules },
        });
        let outlier = OutlierDetection {
            enabled: to.outlier_detection.enabled && self.config.local_breaker,
            ..to.outlier_detection.clone()
        };
        upstream.breakers().set_outlier(Instant::now(), outlier);
        match Applied::new(service, &self.config, &self.buckets, before) {
            Ok(applied) => upstream.apply(applied),
            // What was checked compiles.
            Err(mistakes) => tracing::error!(service = %upstream.name, ?mistakes, "policy not applied"),
        }
    }
}

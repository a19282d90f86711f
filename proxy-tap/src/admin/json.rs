//! The pages that tools read: breakers, endpoints, configuration.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{Outbound, UnknownHosts};
use crate::health::Health;
use crate::run::Proxy;
use crate::upstream::{Endpoint, Origin, Upstream};

/// The services by name.
fn services(proxy: &Proxy) -> Vec<Arc<Upstream>> {
    let mut services = proxy.services.all();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services
}

/// A page of rows, each written before the next is made: there may be ten thousand.
fn page(name: &str, rows: impl Iterator<Item = Value>) -> String {
    let mut page = format!("{{\"{name}\":[");
    for (i, row) in rows.enumerate() {
        let _ = write!(page, "{}{row}", if i == 0 { "" } else { "," });
    }
    page + "]}"
}

pub(super) fn breakers(proxy: &Proxy) -> String {
    let now = Instant::now();
    let breakers = services(proxy).into_iter().flat_map(|upstream| {
        let views = upstream.breaker_views(now);
        views.into_iter().map(move |view| {
            json!({
                "service": *upstream.name,
                "endpoint": view.endpoint.as_deref(),
                "state": view.state.name(),
                "cause": view.cause,
                "hint": view.hint.as_deref(),
                "share": view.share,
                "since_ms": u64::try_from(view.since.as_millis()).unwrap_or(u64::MAX),
                "success_rate": view.success_rate,
                "ejections": view.ejections,
            })
        })
    });
    page("breakers", breakers)
}

pub(super) fn endpoints(proxy: &Proxy) -> String {
    let endpoints = services(proxy).into_iter().flat_map(|upstream| {
        let all = arc_swap::Guard::into_inner(upstream.endpoints());
        let checks: HashMap<_, _> = upstream.checks.views().into_iter().collect();
        let shown = move |endpoint: &Arc<Endpoint>| {
            let told = endpoint.told.load();
            json!({
                "service": *upstream.name,
                "instance": *endpoint.party.instance,
                "address": *endpoint.address,
                "version": *endpoint.party.version,
                "region": *endpoint.party.region,
                "zone": endpoint.zone,
                "namespace": *endpoint.party.namespace,
                "labels": told.labels,
                "weight": told.weight,
                "priority": told.priority,
                "protocol": endpoint.protocol.name(),
                "share": endpoint.gate.share(),
                "healthy": endpoint.healthy.load(Ordering::Relaxed),
                "check": checks.get(&endpoint.party.instance).map(check),
                "in_flight": endpoint.in_flight.load(Ordering::Relaxed),
                "source": match upstream.origin() {
                    Origin::File => "file",
                    Origin::Policy => "policy",
                    Origin::Dns => "dns",
                    Origin::Registry => "registry",
                    Origin::External => "name",
                },
            })
        };
        (0..all.len()).map(move |i| shown(&all[i]))
    });
    page("endpoints", endpoints)
}

/// What active checks found, in milliseconds before now.
fn check(health: &Health) -> Value {
    let ms = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    json!({
        "healthy": health.healthy,
        "problem": health.problem.as_deref(),
        "checked_ms": health.checked.map(ms),
        "since_ms": ms(health.since),
        "good": health.good,
        "bad": health.bad,
    })
}

/// The configuration as it was understood; nothing in it is secret.
pub(super) fn config(proxy: &Proxy) -> Value {
    let config = &proxy.config;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let services = proxy.services.all();
    let listed = services.iter().filter(|one| one.origin() == Origin::File);
    let listed = listed.map(|one| (one.name.to_string(), one.endpoints().len().into()));
    let outbound = |to: &Outbound| json!({ "name": to.name, "listen": to.listen.to_string() });
    json!({
        "service": config.service,
        "instance": config.instance,
        "version": config.version,
        "region": config.region,
        "zone": config.zone,
        "namespace": config.namespace,
        "labels": config.labels,
        "weight": config.weight,
        "priority": config.priority,
        "app": config.app,
        "inbound": text(config.inbound),
        "advertise": config.advertise,
        "protocol": config.protocol.name(),
        "outbound": config.outbound.iter().map(outbound).collect::<Vec<_>>(),
        "static_endpoints": listed.collect::<serde_json::Map<_, Value>>(),
        "collector": config.collector,
        "admin": text(config.admin),
        "balancer": config.balancer.name(),
        "timeout_ms": ms(config.timeout),
        "retries": config.retry.limit,
        "retry_budget_pct": config.retry.budget_pct,
        "local_breaker": config.local_breaker,
        "endpoints_file": config.endpoints_file,
        "policy_file": config.policy_file,
        "resolve": config.resolve.iter().map(|(name, target)| (name.clone(), target.to_string().into()))
            .collect::<serde_json::Map<_, Value>>(),
        "dns_server": text(config.dns_server),
        "workers": config.workers,
        "tls": config.tls.as_ref().map(|tls| json!({
            "cert": tls.files.cert, "key": tls.files.key, "ca": tls.files.ca, "plaintext": tls.plaintext,
        })),
        "accept_proxy_header": config.accept_proxy_header,
        "http_proxy": text(config.http_proxy),
        "capture": text(config.capture),
        "capture_inbound": text(config.capture_inbound),
        "unknown_hosts": match config.unknown_hosts {
            UnknownHosts::Allow => "allow",
            UnknownHosts::Deny => "deny",
        },
        "mark": config.mark,
        "drain_ms": ms(config.drain),
        "drain_delay_ms": ms(config.drain_delay),
        "takeover": config.takeover,
    })
}

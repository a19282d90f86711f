//! The pages that tools read: breakers, endpoints, configuration.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::{Balancer, Outbound};
use crate::run::Proxy;

pub(super) fn breakers(proxy: &Proxy) -> Value {
    let now = Instant::now();
    let breakers = proxy.upstreams.iter().flat_map(|upstream| {
        let views = upstream.breakers().views(now);
        views.into_iter().map(|view| {
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
    json!({ "breakers": breakers.collect::<Vec<_>>() })
}

pub(super) fn endpoints(proxy: &Proxy) -> Value {
    let endpoints = proxy.upstreams.iter().flat_map(|upstream| {
        let all = upstream.endpoints();
        let shown = all.iter().map(|endpoint| {
            json!({
                "service": *upstream.name,
                "instance": *endpoint.party.instance,
                "address": *endpoint.address,
                "version": *endpoint.party.version,
                "zone": endpoint.zone,
                "protocol": endpoint.protocol.name(),
                "share": endpoint.gate.share(),
                "in_flight": endpoint.in_flight.load(Ordering::Relaxed),
                "source": if upstream.is_static { "file" } else { "registry" },
            })
        });
        shown.collect::<Vec<_>>()
    });
    json!({ "endpoints": endpoints.collect::<Vec<_>>() })
}

/// The configuration as it was understood; nothing in it is secret.
pub(super) fn config(proxy: &Proxy) -> Value {
    let config = &proxy.config;
    let outbound = |to: &Outbound| json!({ "name": to.name, "listen": to.listen.to_string() });
    json!({
        "service": config.service,
        "instance": config.instance,
        "version": config.version,
        "zone": config.zone,
        "app": config.app,
        "inbound": config.inbound.map(|address| address.to_string()),
        "advertise": config.advertise,
        "protocol": config.protocol.name(),
        "outbound": config.outbound.iter().map(outbound).collect::<Vec<_>>(),
        "static_endpoints": config.endpoints.iter().map(|(name, all)| (name.clone(), all.len().into()))
            .collect::<serde_json::Map<_, Value>>(),
        "collector": config.collector,
        "admin": config.admin.map(|address| address.to_string()),
        "balancer": match config.balancer {
            Balancer::LeastRequest => "least-request",
            Balancer::RoundRobin => "round-robin",
        },
        "timeout_ms": u64::try_from(config.timeout.as_millis()).unwrap_or(u64::MAX),
        "retries": config.retry.limit,
        "retry_budget_pct": config.retry.budget_pct,
        "local_breaker": config.local_breaker,
    })
}

//! What the collector says, applied: total, so that one bad endpoint or hint spoils nothing else.

use std::time::Duration;

use tokio::time::Instant;
use weir_model::hint::Hint;
use weir_model::mesh::{self, EndpointSet, ToProxy, to_proxy};
use weir_model::{limits, policy};

use crate::config::{Protocol, is_authority, is_label, is_name};
use crate::run::Proxy;
use crate::upstream::Origin;

/// Applies a message; a welcome returns how often to renew the registration.
pub(super) fn message(proxy: &Proxy, message: ToProxy) -> Option<Duration> {
    match message.message {
        Some(to_proxy::Message::Welcome(welcome)) => {
            proxy.mesh.welcomed(welcome.epoch);
            tracing::info!(epoch = welcome.epoch, "joined the mesh");
            for upstream in proxy.services.all() {
                upstream.breakers().heard(Instant::now(), welcome.epoch);
            }
            return Some(Duration::from_millis(welcome.renew_every_ms.into()));
        }
        Some(to_proxy::Message::Endpoints(set)) => {
            let begun = Instant::now();
            endpoints(proxy, set);
            proxy.mesh.took.record(begun.elapsed());
        }
        Some(to_proxy::Message::Hints(set)) => hints(proxy, set),
        Some(to_proxy::Message::Grants(grants)) => parts(proxy, grants),
        None => proxy.mesh.is_bad(),
    }
    None
}

fn endpoints(proxy: &Proxy, set: EndpointSet) {
    let known = proxy.services.get(&set.service);
    let Some(upstream) = known.filter(|upstream| upstream.origin() == Origin::Registry) else {
        return proxy.mesh.is_bad();
    };
    let told = set.endpoints.into_iter().filter_map(|told| {
        let usable = endpoint(told);
        if let Err(told) = &usable {
            tracing::warn!(service = set.service, instance = told.instance, "unusable endpoint, left out");
            proxy.mesh.is_bad();
        }
        usable.ok()
    });
    upstream.set(told.collect());
}

fn endpoint(told: mesh::Endpoint) -> Result<policy::Endpoint, Box<mesh::Endpoint>> {
    let protocol = match told.protocol.as_str() {
        "" => Some(Protocol::Http),
        name => Protocol::from_name(name),
    };
    let label = |text: &String| text.is_empty() || is_name(text);
    let usable = is_name(&told.instance)
        && is_authority(&told.address)
        && [&told.version, &told.region, &told.zone, &told.namespace].into_iter().all(label);
    match protocol {
        Some(protocol) if usable => Ok(policy::Endpoint {
            instance: told.instance,
            address: told.address,
            version: told.version,
            region: told.region,
            zone: told.zone,
            namespace: told.namespace,
            // A label that cannot be used costs its subset this endpoint, not the service.
            labels: told
                .labels
                .into_iter()
                .filter(|(name, value)| is_label((name, value)))
                .take(limits::ENDPOINT_LABELS)
                .collect(),
            protocol,
            weight: told.weight.unwrap_or(1).min(limits::ENDPOINT_WEIGHT),
            priority: told.priority.min(limits::ENDPOINT_PRIORITY),
        }),
        _ => Err(Box::new(told)),
    }
}

/// The proxy's parts of limits that all share.
fn parts(proxy: &Proxy, grants: mesh::Grants) {
    let now = Instant::now();
    for grant in grants.grants {
        let lease = Duration::from_millis(grant.lease_ms.into()).min(limits::RATE_LEASE_MOST);
        match <[u8; 16]>::try_from(grant.key.as_slice()) {
            Ok(key) if grant.per_s.is_finite() && grant.per_s > 0.0 => {
                proxy.buckets.grant(&key, grant.per_s, lease, now);
            }
            _ => proxy.mesh.is_bad(),
        }
    }
}

fn hints(proxy: &Proxy, set: mesh::HintSet) {
    let (epoch, revision) = (set.epoch, set.revision);
    let mut hints = Vec::new();
    for hint in set.hints {
        let id = hint.id.clone();
        match Hint::try_from(hint) {
            Ok(hint) if hints.len() < limits::HINTS => hints.push(hint),
            Ok(_) => proxy.mesh.is_bad(),
            Err(error) => {
                tracing::warn!(id, %error, "unusable hint, left out");
                proxy.mesh.is_bad();
            }
        }
    }
    for upstream in proxy.services.all() {
        let own = hints.iter().filter(|hint| *hint.scope.service == *upstream.name).cloned().collect();
        upstream.breakers().hints(Instant::now(), epoch, revision, own);
    }
}

//! Istio's standard metrics: which there are, and by which labels they count.
//!
//! Names and types: Envoy's `istio_stats`; labels in the order in which Istio documents them
//! (istio.io, "Istio Standard Metrics").

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::buckets::{Classic, ClassicView, Millis};
use crate::call::{Direction, Facts, Party, Security, Speaks};

/// Envoy's default bounds and those between them below 5 ms. A proxy adds 0.05 to 0.5 ms and a service in
/// the same rack answers in 0.2 to 3, of which Envoy's bounds (0.5, 1, 5) tell nothing: here no bucket from
/// 0.25 to 10 ms is wider than its lower bound. Envoy's are all there, so what dashboards ask for by `le` is.
pub(super) const DURATION_BOUNDS: [f64; 28] = [
    0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
    1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6,
];
/// Envoy's default bounds, which it has for sizes too.
pub(super) const SIZE_BOUNDS: [f64; 19] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6,
    3.6e6,
];
const UNKNOWN: &str = "unknown";
/// What stands for all peers for which there is no room.
const OVERFLOW: &str = "overflow";

/// What requests or connections have in common that count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) direction: Direction,
    pub(super) peer: Peer,
    pub(super) speaks: Speaks,
    pub(super) status: u16,
    pub(super) grpc_status: Option<u16>,
    pub(super) flags: &'static str,
    pub(super) security: Security,
}

/// The other end: equal to another one where no label tells them apart.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Arc<Party>);

impl Peer {
    fn seen(&self) -> [&str; 9] {
        let party = &self.0;
        [
            &party.service,
            &party.version,
            &party.namespace,
            &party.cluster,
            &party.workload,
            &party.app,
            &party.canonical_service,
            &party.canonical_revision,
            &party.principal,
        ]
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.seen() == other.seen()
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seen().hash(state);
    }
}

/// The end of a call that is not this proxy's service.
pub(super) fn peer(facts: &Facts) -> &Arc<Party> {
    match facts.direction {
        Direction::Inbound => &facts.client,
        Direction::Outbound => &facts.server,
    }
}

/// The status that a label shows: those that gRPC knows, and one for all others.
pub(super) fn grpc_label(facts: &Facts) -> Option<u16> {
    facts.grpc_status.map(|code| code.min(17))
}

impl Key {
    pub(super) fn of(facts: &Facts) -> Self {
        Self {
            direction: facts.direction,
            peer: Peer(Arc::clone(peer(facts))),
            speaks: facts.protocol.into(),
            status: facts.status,
            grpc_status: grpc_label(facts),
            flags: facts.flags,
            security: facts.security,
        }
    }

    /// The set for all that have none of their own: there are few of these.
    pub(super) fn overflow(&self) -> Self {
        let peer = Party { service: OVERFLOW.into(), ..Party::default() };
        Self {
            peer: Peer(Arc::new(peer)),
            status: self.status / 100 * 100,
            grpc_status: self.grpc_status.map(|code| code.min(1)),
            flags: "-",
            ..self.clone()
        }
    }
}

/// All that is counted of requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Requests {
    pub(super) count: u64,
    duration: Classic<{ DURATION_BOUNDS.len() + 1 }>,
    pub(super) native: Millis,
    request_bytes: Classic<{ SIZE_BOUNDS.len() + 1 }>,
    response_bytes: Classic<{ SIZE_BOUNDS.len() + 1 }>,
    request_messages: u64,
    response_messages: u64,
}

impl Requests {
    #[inline]
    pub(super) fn record(&mut self, facts: &Facts, took: Duration) {
        let millis = took.as_nanos() as f64 / 1e6;
        self.count += 1;
        self.duration.record(&DURATION_BOUNDS, millis);
        self.native.record(millis);
        self.request_bytes.record(&SIZE_BOUNDS, facts.request_bytes() as f64);
        self.response_bytes.record(&SIZE_BOUNDS, facts.response_bytes as f64);
        self.request_messages += facts.request_messages();
        self.response_messages += facts.response_messages;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.duration.merge(&other.duration);
        self.native.merge(&other.native);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
    }
}

/// All that is counted of TCP connections. `sent` goes to the caller, `received` comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Connections {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// What is counted under one label set.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Requests(Box<Requests>),
    Connections(Connections),
}

impl Values {
    fn requests(&self) -> Option<&Requests> {
        match self {
            Self::Requests(requests) => Some(requests),
            Self::Connections(_) => None,
        }
    }

    fn connections(&self) -> Option<&Connections> {
        match self {
            Self::Requests(_) => None,
            Self::Connections(connections) => Some(connections),
        }
    }
}

/// A counter: its name, its unit, and where it is; `None` in a set that has no such.
pub(super) type Counter = (&'static str, &'static str, fn(&Key, &Values) -> Option<u64>);

pub(super) const COUNTERS: [Counter; 7] = [
    ("istio_requests_total", "", |_, values| Some(values.requests()?.count)),
    ("istio_request_messages_total", "", |key, values| messages(key, values.requests()?.request_messages)),
    ("istio_response_messages_total", "", |key, values| messages(key, values.requests()?.response_messages)),
    ("istio_tcp_sent_bytes_total", "By", |_, values| Some(values.connections()?.sent)),
    ("istio_tcp_received_bytes_total", "By", |_, values| Some(values.connections()?.received)),
    ("istio_tcp_connections_opened_total", "", |_, values| Some(values.connections()?.opened)),
    ("istio_tcp_connections_closed_total", "", |_, values| Some(values.connections()?.closed)),
];

fn messages(key: &Key, count: u64) -> Option<u64> {
    (key.speaks == Speaks::Grpc).then_some(count)
}

/// The duration's name, under which it is exported in both forms, as Prometheus has it: the series of the
/// classic form end in `_bucket`, `_sum` and `_count`, and the native one has the bare name.
pub(super) const DURATION: &str = "istio_request_duration_milliseconds";

/// A classic histogram: its name, its unit, and where it is.
pub(super) type Histogram = (&'static str, &'static str, fn(&Values) -> Option<ClassicView<'_>>);

pub(super) const HISTOGRAMS: [Histogram; 3] = [
    (DURATION, "ms", |values| Some(values.requests()?.duration.view(&DURATION_BOUNDS))),
    ("istio_request_bytes", "By", |values| Some(values.requests()?.request_bytes.view(&SIZE_BOUNDS))),
    ("istio_response_bytes", "By", |values| Some(values.requests()?.response_bytes.view(&SIZE_BOUNDS))),
];

pub(super) fn native(values: &Values) -> Option<&Millis> {
    Some(&values.requests()?.native)
}

/// The labels of `istio_build`.
pub(super) const BUILD: [(&str, &str); 2] = [("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))];

/// Istio's labels in Istio's order. What is not known is `unknown`; an empty label is left out, which
/// PromQL does not tell from an empty one. Connections have no response.
pub(super) fn labels(own: &Party, key: &Key) -> Vec<(&'static str, String)> {
    let (source, destination) = match key.direction {
        Direction::Inbound => (&*key.peer.0, own),
        Direction::Outbound => (own, &*key.peer.0),
    };
    let or = |text: &str, absent: &str| if text.is_empty() { absent.to_owned() } else { text.to_owned() };
    let unknown = |text: &str| or(text, UNKNOWN);
    // A service is one workload, one app and one canonical service unless they are told apart.
    let named = |text: &str, party: &Party| unknown(if text.is_empty() { &party.service } else { text });
    let revision = |party: &Party| or(&party.canonical_revision, &or(&party.version, "latest"));
    let is_mutual = key.security == Security::MutualTls;
    let principal = |party: &Party| unknown(if is_mutual { &party.principal } else { "" });
    let mut labels = vec![
        ("reporter", key.direction.reporter().to_owned()),
        ("source_workload", named(&source.workload, source)),
        ("source_canonical_service", named(&source.canonical_service, source)),
        ("source_canonical_revision", revision(source)),
        ("source_workload_namespace", unknown(&source.namespace)),
        ("source_principal", principal(source)),
        ("source_app", named(&source.app, source)),
        ("source_version", unknown(&source.version)),
        ("source_cluster", unknown(&source.cluster)),
        ("destination_workload", named(&destination.workload, destination)),
        ("destination_workload_namespace", unknown(&destination.namespace)),
        ("destination_principal", principal(destination)),
        ("destination_app", named(&destination.app, destination)),
        ("destination_version", unknown(&destination.version)),
        ("destination_service", unknown(&destination.service)),
        ("destination_canonical_service", named(&destination.canonical_service, destination)),
        ("destination_canonical_revision", revision(destination)),
        ("destination_service_name", unknown(&destination.service)),
        ("destination_service_namespace", unknown(&destination.namespace)),
        ("destination_cluster", unknown(&destination.cluster)),
        ("request_protocol", key.speaks.name().to_owned()),
    ];
    if key.speaks != Speaks::Tcp {
        labels.push(("response_code", key.status.to_string()));
        labels.extend(key.grpc_status.map(|code| ("grpc_response_status", code.to_string())));
    }
    // Only the receiving side knows how it was reached.
    let security = if key.direction == Direction::Inbound { key.security.name() } else { UNKNOWN };
    labels.push(("response_flags", key.flags.to_owned()));
    labels.push(("connection_security_policy", security.to_owned()));
    labels
}

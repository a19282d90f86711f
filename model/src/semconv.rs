//! Names that telemetry carries: attribute keys, metric names and header names that a proxy writes and
//! the collector, the tables and the analysis read. OpenTelemetry and Istio names where they exist.

/// Request header by which an outbound proxy tells the next proxy who it is: `service;instance;version;namespace;
/// cluster;workload;app;canonical service;canonical revision;region;zone`. What is not known is empty, and empty
/// fields at the end may be missing.
pub const PEER_HEADER: &str = "x-weir-peer";
/// What [`PEER_HEADER`] says of a proxy's health check, which is no call of the service beside it.
pub const HEALTH_CHECK_PEER: &str = "weir-health-check";
/// Response header that says which hint or local rule refused a request, and why.
pub const REFUSED_HEADER: &str = "x-weir-refused";

/// The latency of every call, by edge: an OTLP exponential histogram of [`crate::sketch::SCALE`], delta
/// temporality, seconds, one data point per label set and second. It is what the service graph and the
/// detectors count.
pub const EDGE_METRIC: &str = "weir_edge_duration_seconds";

/// Labels of [`EDGE_METRIC`].
pub mod edge {
    /// The calling service; `unknown` where it has no proxy and sent no name.
    pub const CLIENT: &str = "client";
    /// The called service.
    pub const SERVER: &str = "server";
    /// The instance that answered: the replica. Empty where none was chosen.
    pub const ENDPOINT: &str = "endpoint";
    /// `http`, `grpc` or `tcp`.
    pub const PROTOCOL: &str = "protocol";
    /// How the call ended: one of [`OK`], [`CLIENT_ERROR`], [`ERROR`], [`REFUSED`].
    pub const CLASS: &str = "class";
    /// Which side measured: `source` or `destination`.
    pub const REPORTER: &str = "reporter";
    /// `true` on calls that were let through to test an ejected endpoint or an open edge.
    pub const PROBE: &str = "probe";

    /// Answered below 400, or gRPC status 0.
    pub const OK: &str = "ok";
    /// 4xx, or a gRPC status that blames the caller: a call, no error of the server.
    pub const CLIENT_ERROR: &str = "client_error";
    /// 5xx, a reset, a timeout, no connection, or a gRPC status that blames the server.
    pub const ERROR: &str = "error";
    /// Refused by a breaker or a hint before it left; counted apart, never as evidence.
    pub const REFUSED: &str = "refused";
}

/// Attributes of a proxy's spans and access logs, beside OpenTelemetry's own.
pub mod attr {
    /// The calling service.
    pub const CLIENT: &str = "weir.client";
    /// The called service.
    pub const SERVER: &str = "weir.server";
    /// The instance that answered.
    pub const ENDPOINT: &str = "weir.endpoint";
    /// Envoy-style flags: `UO`, `UH`, `UT`, `UF`, `UC`, `URX`, `NR`, `DC`, `DI`, `FI`, `RL`, `DPE`, or `-`.
    pub const RESPONSE_FLAGS: &str = "weir.response_flags";
    /// How many times the request was sent again.
    pub const RETRIES: &str = "weir.retries";
    /// The route that matched.
    pub const ROUTE: &str = "weir.route";
    /// The hint that refused or moved the request.
    pub const HINT: &str = "weir.hint_id";
    /// Why the request was refused: a local rule's name or the hint's reason.
    pub const REFUSED: &str = "weir.refused";
    /// `mutual_tls` or `none`.
    pub const SECURITY: &str = "weir.connection_security_policy";
    /// `inbound` or `outbound`.
    pub const DIRECTION: &str = "weir.direction";
    /// The namespace of the calling service.
    pub const CLIENT_NAMESPACE: &str = "weir.client_namespace";
    /// The namespace of the called service.
    pub const SERVER_NAMESPACE: &str = "weir.server_namespace";
    /// The zone of the caller.
    pub const CLIENT_ZONE: &str = "weir.client_zone";
    /// The zone of the instance that answered.
    pub const SERVER_ZONE: &str = "weir.server_zone";
    /// The SPIFFE identity of the caller, where a certificate proved it.
    pub const CLIENT_PRINCIPAL: &str = "weir.client_principal";
    /// The SPIFFE identity of the called, where a certificate proved it.
    pub const SERVER_PRINCIPAL: &str = "weir.server_principal";
    /// Bytes that a connection carried to the caller.
    pub const SENT_BYTES: &str = "weir.sent_bytes";
    /// Bytes that a connection brought from the caller.
    pub const RECEIVED_BYTES: &str = "weir.received_bytes";
}

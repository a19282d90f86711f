//! One request on its way through the proxy: what is known of it, and the promise that it is reported
//! exactly once, however it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use tokio::time::Instant;
use weir_model::UnixNanos;
use weir_model::semconv::edge;

use crate::config::Protocol;
use crate::telemetry::{Encoded, Tap};
use crate::trace::TraceContext;

/// Envoy's names for what went wrong on the way.
pub(crate) mod flag {
    pub(crate) const NONE: &str = "-";
    /// A breaker or a hint refused it.
    pub(crate) const REFUSED: &str = "UO";
    /// No endpoint to send it to.
    pub(crate) const NO_ENDPOINT: &str = "UH";
    /// The service never had an endpoint.
    pub(crate) const NO_ROUTE: &str = "NR";
    pub(crate) const TIMEOUT: &str = "UT";
    pub(crate) const NO_CONNECTION: &str = "UF";
    pub(crate) const RESET: &str = "UC";
    pub(crate) const RETRIES_SPENT: &str = "URX";
    /// Held back on purpose.
    pub(crate) const DELAYED: &str = "DI";
    /// Answered with an error on purpose.
    pub(crate) const ABORTED: &str = "FI";
    /// Beyond a limit on the rate.
    pub(crate) const RATE_LIMITED: &str = "RL";
    /// The caller went away.
    pub(crate) const CALLER_GONE: &str = "DC";
    /// The caller's request was malformed.
    pub(crate) const BAD_REQUEST: &str = "DPE";
}

/// Which side of the application a request is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }

    /// Which side measures, as Istio's metrics and the edge metric call it.
    pub(crate) fn reporter(self) -> &'static str {
        match self {
            Self::Inbound => "destination",
            Self::Outbound => "source",
        }
    }
}

/// What a call or a connection speaks, as labels say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Speaks {
    Http,
    Grpc,
    Tcp,
}

impl Speaks {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl From<Protocol> for Speaks {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http | Protocol::Http2 => Self::Http,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
        }
    }
}

/// How the connection to the other side is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Security {
    /// Not, or by one side's certificate alone.
    #[default]
    None,
    /// Both sides showed a certificate of the mesh.
    MutualTls,
}

impl Security {
    /// As Istio's label `connection_security_policy` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

/// One end of a call. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Party {
    pub(crate) service: Arc<str>,
    pub(crate) instance: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) cluster: Arc<str>,
    pub(crate) workload: Arc<str>,
    pub(crate) app: Arc<str>,
    pub(crate) canonical_service: Arc<str>,
    pub(crate) canonical_revision: Arc<str>,
    pub(crate) region: Arc<str>,
    pub(crate) zone: Arc<str>,
    /// The SPIFFE identity that its certificate proves.
    pub(crate) principal: Arc<str>,
    /// What telemetry makes of these, once.
    pub(crate) encoded: Encoded,
}

/// Who refused a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A hint's id, or the name of a local rule.
    pub(crate) by: Arc<str>,
    pub(crate) is_hint: bool,
    pub(crate) reason: Arc<str>,
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) direction: Direction,
    pub(crate) client: Arc<Party>,
    pub(crate) server: Arc<Party>,
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) trace: TraceContext,
    pub(crate) started_at: UnixNanos,
    pub(crate) started: Instant,
    /// Where it was sent.
    pub(crate) address: Option<Arc<str>>,
    /// HTTP status; 0 where there was no response.
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u16>,
    pub(crate) flags: &'static str,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) retries: u32,
    pub(crate) probe: bool,
    pub(crate) request_bytes: Arc<AtomicU64>,
    pub(crate) response_bytes: u64,
    /// When the head of the response was there, after the start.
    pub(crate) head_after: Option<Duration>,
    /// Whether the caller used TLS, whoever ended it.
    pub(crate) is_https: bool,
    pub(crate) security: Security,
    /// Where the connection that brought it comes from.
    pub(crate) peer_address: Option<SocketAddr>,
    /// The pattern of paths that matched.
    pub(crate) path_pattern: Option<Arc<str>>,
    /// The name of the route that matched.
    pub(crate) route: Option<Arc<str>>,
    pub(crate) user_agent: Option<HeaderValue>,
    /// gRPC messages of the request, where they are counted.
    pub(crate) request_messages: Option<Arc<AtomicU64>>,
    /// gRPC messages of the response.
    pub(crate) response_messages: u64,
}

/// What went wrong, as OpenTelemetry's `error.type` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorType {
    Word(&'static str),
    /// An HTTP or a gRPC status.
    Status(u16),
}

impl Facts {
    /// A request of which nothing is known yet but who asks whom, and when.
    pub(crate) fn new(
        direction: Direction,
        client: Arc<Party>,
        server: Arc<Party>,
        trace: TraceContext,
        started_at: UnixNanos,
    ) -> Self {
        Self {
            direction,
            client,
            server,
            protocol: Protocol::Http,
            method: Method::GET,
            path: String::new(),
            version: Version::HTTP_11,
            trace,
            started_at,
            started: Instant::now(),
            address: None,
            status: 0,
            grpc_status: None,
            flags: flag::NONE,
            refusal: None,
            retries: 0,
            probe: false,
            request_bytes: Arc::default(),
            response_bytes: 0,
            head_after: None,
            is_https: false,
            security: Security::None,
            peer_address: None,
            path_pattern: None,
            route: None,
            user_agent: None,
            request_messages: None,
            response_messages: 0,
        }
    }

    /// The edge metric's class of the whole call.
    pub(crate) fn class(&self) -> &'static str {
        if self.refusal.is_some() {
            return edge::REFUSED;
        }
        class(self.protocol, self.status, self.grpc_status, self.flags)
    }

    /// What OpenTelemetry calls `error.type`, where there is an error.
    pub(crate) fn error_type(&self) -> Option<ErrorType> {
        Some(match (self.flags, self.grpc_status, self.status) {
            (flag::TIMEOUT, ..) => ErrorType::Word("timeout"),
            (flag::NO_CONNECTION, ..) => ErrorType::Word("connect"),
            (flag::RESET, ..) => ErrorType::Word("reset"),
            (flag::CALLER_GONE, ..) => ErrorType::Word("cancelled"),
            (flag::REFUSED, ..) => ErrorType::Word("refused"),
            (_, Some(code), _) if code != 0 => ErrorType::Status(code),
            (_, _, status) if status >= 400 => ErrorType::Status(status),
            _ => return None,
        })
    }

    pub(crate) fn request_bytes(&self) -> u64 {
        self.request_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn request_messages(&self) -> u64 {
        self.request_messages.as_ref().map_or(0, |counted| counted.load(Ordering::Relaxed))
    }
}

/// How a call or an attempt counts: see [`edge`].
pub(crate) fn class(protocol: Protocol, status: u16, grpc: Option<u16>, flags: &str) -> &'static str {
    if let Some(class) = class_of_flags(flags) {
        return class;
    }
    match (protocol, grpc, status) {
        (_, Some(0), 200) => edge::OK,
        // Unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the server's
        // fault, as OpenTelemetry's conventions for RPC have it.
        (_, Some(2 | 4 | 12 | 13 | 14 | 15), 200) => edge::ERROR,
        (_, Some(_), 200) => edge::CLIENT_ERROR,
        // A gRPC answer that ends without a status was cut off.
        (Protocol::Grpc, None, 200) => edge::ERROR,
        (_, _, 400..=499) => edge::CLIENT_ERROR,
        (_, _, 500..) | (_, _, 0) => edge::ERROR,
        _ => edge::OK,
    }
}

/// How what went wrong on the way counts, whatever the answer; `None` where the answer decides.
pub(crate) fn class_of_flags(flags: &str) -> Option<&'static str> {
    match flags {
        flag::CALLER_GONE | flag::BAD_REQUEST => Some(edge::CLIENT_ERROR),
        flag::TIMEOUT | flag::NO_CONNECTION | flag::RESET | flag::NO_ENDPOINT | flag::NO_ROUTE => {
            Some(edge::ERROR)
        }
        _ => None,
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The status in gRPC headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Whether a request speaks gRPC.
pub(crate) fn protocol_of(headers: &HeaderMap) -> Protocol {
    let grpc = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc { Protocol::Grpc } else { Protocol::Http }
}

/// Facts that are reported when the call ends. One that is dropped before it was finished ended because
/// its caller went away.
#[derive(Debug)]
pub(crate) struct Call {
    tap: Arc<Tap>,
    /// In a box, since a call goes through many hands on its way.
    pub(crate) facts: Box<Facts>,
    reported: bool,
}

impl Call {
    pub(crate) fn new(tap: Arc<Tap>, facts: Facts) -> Self {
        Self { tap, facts: Box::new(facts), reported: false }
    }

    /// It is never reported, nor are its attempts: it is no call of anybody's.
    pub(crate) fn hide(&mut self) {
        self.reported = true;
    }

    /// Whether nothing is to be reported of it, or no more.
    pub(crate) fn is_hidden(&self) -> bool {
        self.reported
    }

    /// Reports the call; later calls and the drop do nothing.
    pub(crate) fn finish(&mut self) {
        if !self.reported {
            self.reported = true;
            self.tap.call(&self.facts, self.facts.started.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.reported {
            self.facts.flags = flag::CALLER_GONE;
            self.finish();
        }
    }
}

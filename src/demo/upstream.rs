//! Calls from one service to another, which carry on the trace of the request that caused them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use weir_model::limits;

use super::grpc;

/// How long a service waits for another.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that go along with a request through the mesh (w3.org/TR/trace-context, w3.org/TR/baggage).
const CONTEXT: [&str; 4] = ["traceparent", "tracestate", "baggage", "x-request-id"];

/// Where a service finds another: in the mesh, its own proxy's listener for it.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    name: String,
    /// `http://host:port`.
    base: String,
    grpc: bool,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallFailed {
    /// There was an answer, not a good one.
    #[error("`{upstream}` answered {status}")]
    Answered {
        /// The service.
        upstream: String,
        /// The HTTP status.
        status: StatusCode,
    },
    /// There was a gRPC status other than 0.
    #[error("`{upstream}` answered with gRPC status {status}")]
    Grpc {
        /// The service.
        upstream: String,
        /// The gRPC status.
        status: i32,
    },
    /// There was no whole answer.
    #[error("`{upstream}` did not answer: {why}")]
    Silent {
        /// The service.
        upstream: String,
        /// What happened.
        why: String,
    },
}

impl Upstream {
    /// The service `name` at `base` (`http://host:port`).
    pub(super) fn new(name: &str, base: &str, grpc: bool) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .http2_only(grpc)
            .build_http();
        Self { name: name.to_owned(), base: base.trim_end_matches('/').to_owned(), grpc, client }
    }

    /// Calls `method` `path` within the context of `cause`; an answer below 400 is a success.
    pub(super) async fn call(
        &self,
        method: &Method,
        path: &str,
        cause: &HeaderMap,
    ) -> Result<(), CallFailed> {
        let request = self.request(method, path, cause).map_err(|error| self.silent(&error))?;
        match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.silent(&format!("timed out after {} s", TIMEOUT.as_secs()))),
        }
    }

    fn request(&self, method: &Method, path: &str, cause: &HeaderMap) -> http::Result<Request<Full<Bytes>>> {
        let uri: Uri = format!("{}{path}", self.base).parse()?;
        let mut request = Request::builder().uri(uri).method(method);
        for name in CONTEXT {
            for value in cause.get_all(name) {
                request = request.header(name, value);
            }
        }
        if self.grpc {
            let note = grpc::Note { text: path.to_owned() };
            let request = request.method(Method::POST).header("content-type", grpc::CONTENT_TYPE);
            return request.header("te", "trailers").body(grpc::frame(&note.encode_to_vec()).into());
        }
        let body = if method == Method::GET { "" } else { "{}" };
        request.header("content-type", "application/json").body(body.into())
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(), CallFailed> {
        let response = self.client.request(request).await.map_err(|error| self.silent(&chain(&error)))?;
        let (head, body) = response.into_parts();
        let trailers = drain(body).await.map_err(|why| self.silent(&why))?;
        let upstream = self.name.clone();
        if head.status.as_u16() >= 400 {
            return Err(CallFailed::Answered { upstream, status: head.status });
        }
        if !self.grpc {
            return Ok(());
        }
        match grpc::status_in(&head.headers).or_else(|| grpc::status_in(&trailers)) {
            Some(grpc::OK) => Ok(()),
            Some(status) => Err(CallFailed::Grpc { upstream, status }),
            None => Err(self.silent(&"no gRPC status")),
        }
    }

    fn silent(&self, why: &impl ToString) -> CallFailed {
        CallFailed::Silent { upstream: self.name.clone(), why: why.to_string() }
    }
}

/// Reads an answer to its end, for its trailers.
async fn drain(body: Incoming) -> Result<HeaderMap, String> {
    let body =
        Limited::new(body, limits::DEMO_BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok(body.trailers().cloned().unwrap_or_default())
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

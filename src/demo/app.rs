//! One instance of a demo service: a server on a real socket that works a while, calls others, answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use prost::Message;
use std::convert::Infallible;
use tokio::sync::watch;
use weir_model::limits;

use super::faults::Active;
use super::grpc;
use super::upstream::{CallFailed, Upstream};

/// Spread of the latencies: the sigma of a log-normal distribution.
const SIGMA: f64 = 0.35;
/// A slow instance takes this many times as long …
const SLOW_FACTOR: f64 = 10.0;
/// … and at least this many milliseconds longer.
const SLOW_MS: f64 = 50.0;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// One instance.
#[derive(Debug)]
pub(super) struct App {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) grpc: bool,
    pub(super) routes: Vec<AppRoute>,
    pub(super) work: Work,
    pub(super) faults: watch::Receiver<Active>,
}

/// A route with its calls bound to addresses.
#[derive(Debug)]
pub(super) struct AppRoute {
    /// `None` takes every method.
    pub(super) method: Option<Method>,
    /// A path, or the beginning of one where it ends in `/`.
    pub(super) path: String,
    pub(super) calls: Vec<AppCall>,
}

/// A call of another service.
#[derive(Debug)]
pub(super) struct AppCall {
    pub(super) upstream: Upstream,
    pub(super) method: Method,
    pub(super) path: String,
}

/// How long an instance works on a request, and how often it fails by itself.
#[derive(Debug)]
pub(super) struct Work {
    latency_ms: f64,
    error_rate: f64,
    rng: Mutex<Rng>,
}

impl Work {
    /// Work of a median of `latency_ms` milliseconds.
    pub(super) fn new(latency_ms: f64, error_rate: f64, seed: u64) -> Self {
        Self { latency_ms, error_rate, rng: Mutex::new(Rng::with_seed(seed)) }
    }

    /// What the next request takes, and whether it fails.
    fn draw(&self, slow: bool) -> (Duration, bool) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        // Box and Muller: a normal value from two uniform ones.
        let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
        let mut took_ms = self.latency_ms * (SIGMA * normal).exp();
        if slow {
            took_ms = (took_ms * SLOW_FACTOR).max(took_ms + SLOW_MS);
        }
        (Duration::from_secs_f64(took_ms / 1_000.0), rng.f64() < self.error_rate)
    }
}

/// How a request ended.
enum End {
    Done,
    NoRoute,
    Broken(String),
    Upstream(CallFailed),
}

impl App {
    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, limits::DEMO_BODY_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        if head.uri.path() == "/healthz" {
            return plain(StatusCode::OK, "ok");
        }
        let framed = head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if self.grpc && !framed {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this service speaks gRPC");
        }
        let broken = if self.grpc { decode(&body).err() } else { None };
        let end = match broken {
            Some(why) => End::Broken(why),
            None => self.work(&head.method, head.uri.path(), &head.headers).await,
        };
        if self.grpc { self.grpc_response(end) } else { self.http_response(end) }
    }

    async fn work(&self, method: &Method, path: &str, cause: &HeaderMap) -> End {
        let Some((route, id)) = self.route(method, path) else { return End::NoRoute };
        let faults = *self.faults.borrow();
        let (takes, fails) = self.work.draw(faults.latency);
        tokio::time::sleep(takes).await;
        if faults.errors || fails {
            return End::Broken(format!("{} failed", self.instance));
        }
        for call in &route.calls {
            let id = if call.path.ends_with('/') { id } else { "" };
            let path = format!("{}{id}", call.path);
            if let Err(failed) = call.upstream.call(&call.method, &path, cause).await {
                return End::Upstream(failed);
            }
        }
        End::Done
    }

    /// The route of a request, and the id in its path.
    fn route<'a>(&'a self, method: &Method, path: &'a str) -> Option<(&'a AppRoute, &'a str)> {
        self.routes.iter().filter(|route| route.method.as_ref().is_none_or(|m| m == method)).find_map(
            |route| {
                let id = path.strip_prefix(&route.path)?;
                let fits = id.is_empty()
                    || (route.path.ends_with('/') && (route.path.len() > 1 || route.method.is_none()));
                fits.then_some((route, id))
            },
        )
    }

    fn http_response(&self, end: End) -> Response<Body> {
        match end {
            End::Done => {
                let name = serde_json::json!({ "service": self.service, "instance": self.instance });
                let mut response = plain(StatusCode::OK, &name.to_string());
                let json = http::HeaderValue::from_static("application/json");
                response.headers_mut().insert("content-type", json);
                response
            }
            End::NoRoute => plain(StatusCode::NOT_FOUND, "no such route"),
            End::Broken(why) => plain(StatusCode::INTERNAL_SERVER_ERROR, &why),
            End::Upstream(failed) => plain(StatusCode::BAD_GATEWAY, &failed.to_string()),
        }
    }

    fn grpc_response(&self, end: End) -> Response<Body> {
        let (status, why) = match end {
            End::Done => {
                let note = grpc::Note { text: self.instance.clone() };
                let trailers = std::future::ready(Some(Ok(grpc::trailers(grpc::OK, ""))));
                let body = Full::new(grpc::frame(&note.encode_to_vec())).with_trailers(trailers);
                let mut response = Response::new(body.boxed_unsync());
                response
                    .headers_mut()
                    .insert("content-type", http::HeaderValue::from_static(grpc::CONTENT_TYPE));
                return response;
            }
            End::NoRoute => (grpc::UNIMPLEMENTED, "no such method".to_owned()),
            End::Broken(why) => (grpc::INTERNAL, why),
            End::Upstream(failed) => (grpc::UNAVAILABLE, failed.to_string()),
        };
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.headers_mut() = grpc::trailers(status, &why);
        response.headers_mut().insert("content-type", http::HeaderValue::from_static(grpc::CONTENT_TYPE));
        response
    }
}

/// Whether `body` is a message as the shop's methods take it.
fn decode(body: &[u8]) -> Result<(), String> {
    let message = grpc::unframe(body).map_err(|error| error.to_string())?;
    grpc::Note::decode(message).map(drop).map_err(|error| error.to_string())
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}

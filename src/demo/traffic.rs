//! Open-loop load: requests leave when they are due, whether or not earlier ones came back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_model::{Clock, limits};

use super::stats::Recorder;

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in flight may take to end once the load has stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// One kind of request.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) method: Method,
    pub(super) uri: Uri,
    /// Where its outcome is noted.
    pub(super) recorder: Option<Recorder>,
}

/// An HTTP/1.1 client whose calls are measured.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    client: Client<HttpConnector, Full<Bytes>>,
    clock: Clock,
}

impl Visitor {
    pub(super) fn new(clock: Clock) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build_http();
        Self { client, clock }
    }

    /// Whether the answer to `visit` came whole and below 400.
    pub(super) async fn succeeds(&self, visit: &Visit) -> bool {
        let body = if visit.method == Method::GET { "" } else { "{}" };
        let request = Request::builder().method(visit.method.clone()).uri(visit.uri.clone());
        let Ok(request) = request.header("content-type", "application/json").body(Full::from(body)) else {
            return false;
        };
        let exchange = async {
            let response = self.client.request(request).await.ok()?;
            let good = response.status().as_u16() < 400;
            Limited::new(response.into_body(), limits::DEMO_BODY_BYTES).collect().await.ok()?;
            Some(good)
        };
        tokio::time::timeout(TIMEOUT, exchange).await.ok().flatten().unwrap_or(false)
    }

    /// Makes `visit`, which was due at `due`. Latency counts from then: what a client waits for.
    async fn visit(self, visit: Visit, due: Instant) {
        let ok = self.succeeds(&visit).await;
        if let Some(recorder) = visit.recorder {
            recorder.record(self.clock.now(), ok, due.elapsed());
        }
    }

    /// Sends what `next` draws, `rate` times a second on average at random moments, until `stop`.
    pub(super) async fn drive(
        self,
        rate: f64,
        mut rng: Rng,
        mut next: impl FnMut(&mut Rng) -> Visit,
        stop: CancellationToken,
    ) {
        let in_flight = Arc::new(Semaphore::new(limits::DEMO_IN_FLIGHT));
        let mut visits = JoinSet::new();
        let mut due = Instant::now();
        loop {
            // Gaps between independent arrivals are exponential.
            due += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate);
            tokio::select! {
                () = tokio::time::sleep_until(due) => (),
                () = stop.cancelled() => break,
            }
            while visits.try_join_next().is_some() {}
            let visit = next(&mut rng);
            match Arc::clone(&in_flight).try_acquire_owned() {
                Ok(permit) => {
                    let visit = self.clone().visit(visit, due);
                    visits.spawn(async move {
                        visit.await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    if let Some(recorder) = visit.recorder {
                        recorder.record(self.clock.now(), false, Duration::ZERO);
                    }
                }
            }
        }
        let all = async { while visits.join_next().await.is_some() {} };
        // What is not back by then is cut off.
        let _ = tokio::time::timeout(DRAIN, all).await;
    }
}

/// The shop's visitors at `edge` (`host:port`): they look around, fill carts, and buy. Outcomes of
/// `POST /checkout` go to `checkout`.
pub(super) fn shop_visits(
    edge: &str,
    checkout: Recorder,
) -> Result<impl FnMut(&mut Rng) -> Visit + Send + 'static, http::uri::InvalidUri> {
    let at = |path: &str| format!("http://{edge}{path}").parse::<Uri>();
    let products = (1..=40).map(|id| at(&format!("/product/{id}"))).collect::<Result<Vec<_>, _>>()?;
    let (home, cart, order) = (at("/")?, at("/cart")?, at("/checkout")?);
    Ok(move |rng: &mut Rng| match rng.u32(..100) {
        0..25 => Visit { method: Method::GET, uri: home.clone(), recorder: None },
        25..50 => {
            let product = products[rng.usize(..products.len())].clone();
            Visit { method: Method::GET, uri: product, recorder: None }
        }
        50..65 => Visit { method: Method::POST, uri: cart.clone(), recorder: None },
        _ => Visit { method: Method::POST, uri: order.clone(), recorder: Some(checkout.clone()) },
    })
}

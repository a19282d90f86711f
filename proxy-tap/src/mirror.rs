//! Copies of requests to another service, whose answers nobody reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use weir_model::limits;

use crate::balance::Ask;
use crate::forward::Head;
use crate::route::Target;
use crate::run::Proxy;
use crate::sending::Source;

/// How long a copy may take, its answer included.
const PATIENCE: Duration = Duration::from_secs(15);

/// How copies fare, for the admin page.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    under_way: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
    /// Not sent: too many were under way, or the body is too long to be copied.
    dropped: AtomicU64,
}

impl Mirrors {
    /// A body was too long.
    pub(crate) fn too_long(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Copies that were sent, that failed, and that were not sent.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 3] {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("sent", get(&self.sent)), ("failed", get(&self.failed)), ("dropped", get(&self.dropped))]
    }
}

/// Sends a copy to `target`, beside the request.
pub(crate) fn send(proxy: &Arc<Proxy>, target: &Target, head: &Head, source: &Source) {
    let mirrors = &proxy.mirror;
    let room = mirrors.under_way.fetch_add(1, Ordering::Relaxed) < limits::MIRRORS;
    let (Some(body), Some(upstream), true) =
        (source.copy(), proxy.services.get_or_add(&target.host, proxy), room)
    else {
        mirrors.under_way.fetch_sub(1, Ordering::Relaxed);
        mirrors.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (proxy, subset) = (Arc::clone(proxy), target.subset.clone());
    // As Envoy does, so that whoever gets it can tell it from a request.
    let head = head.shadow();
    tokio::spawn(async move {
        let copy = async {
            let subset = subset.as_deref().unwrap_or_default();
            // Nobody looks at how it fares, so it is no test for a breaker.
            let ask = Ask { tests_no_endpoint: true, ..Ask::default() };
            let open = upstream.takes_copy(&proxy.chance);
            let pick = upstream.pick(subset, &ask, &proxy.chance, Instant::now()).filter(|_| open)?;
            let protocol = pick.endpoint.protocol;
            let response = pick.endpoint.pool.send(protocol, &head, body, None).await.ok()?;
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.ok()?;
            }
            Some(())
        };
        let done = timeout(PATIENCE, copy).await;
        let counter = if matches!(done, Ok(Some(()))) { &proxy.mirror.sent } else { &proxy.mirror.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        proxy.mirror.under_way.fetch_sub(1, Ordering::Relaxed);
    });
}

//! What came for limits that proxies share, told to the collector while it comes.

use tokio::sync::mpsc::{Permit, Sender};
use tokio::time::{Instant, sleep_until};
use weir_model::limits;
use weir_model::mesh::{Demand, FromProxy, Rates, from_proxy};

use super::message;
use crate::run::Proxy;

/// The reports of one stream.
pub(super) struct Reports {
    last: Option<Instant>,
}

impl Reports {
    /// None yet. What came without a collector is not told: it may have come at any time.
    pub(super) fn new(proxy: &Proxy) -> Self {
        drop(proxy.buckets.report(Instant::now()));
        Self { last: None }
    }

    /// Room in the queue once something came and the last report is long enough ago.
    pub(super) async fn next<'a>(
        &self,
        proxy: &Proxy,
        out: &'a Sender<FromProxy>,
    ) -> Result<Permit<'a, FromProxy>, tonic::Status> {
        let gone = |_| tonic::Status::unavailable("the collector ended the stream");
        let room = out.reserve().await.map_err(gone)?;
        if let Some(last) = self.last {
            sleep_until(last + limits::RATE_REPORT).await;
        }
        // At the end, so that it is not forgotten where something else happens first.
        proxy.buckets.shared().news().await;
        Ok(room)
    }

    /// Tells what came since the last report.
    pub(super) fn send(&mut self, proxy: &Proxy, room: Permit<'_, FromProxy>, out: &Sender<FromProxy>) {
        let now = Instant::now();
        // After a silence it came lately.
        let over = self.last.map_or(limits::RATE_REPORT, |last| now - last);
        let over = over.clamp(limits::RATE_REPORT, limits::RATE_REPORT * 2);
        self.last = Some(now);
        let demands: Vec<Demand> = proxy
            .buckets
            .report(now)
            .into_iter()
            .map(|came| Demand {
                key: came.key.to_vec(),
                requests: came.requests,
                per_ns: u64::try_from(came.per.as_nanos()).unwrap_or(u64::MAX),
                wanted_per_s: f64::from(came.count) / over.as_secs_f64(),
            })
            .collect();
        let rates =
            |demands: &[Demand]| message(from_proxy::Message::Rates(Rates { demands: demands.to_vec() }));
        let mut reports = demands.chunks(limits::RATE_DEMANDS).map(rates);
        if let Some(first) = reports.next() {
            room.send(first);
        }
        // Where the queue is full the rest is told when it comes again.
        reports.for_each(|report| drop(out.try_send(report)));
    }
}

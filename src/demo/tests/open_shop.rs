//! The whole shop behind real proxies, with a registry instead of a whole collector.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_model::mesh::mesh_server::{Mesh, MeshServer};
use weir_model::mesh::{
    Endpoint, EndpointSet, FromProxy, Registration, ToProxy, Welcome, from_proxy, to_proxy,
};

use super::super::faults::FaultKind;
use super::super::*;
use super::{clock, until};

type Endpoints = BTreeMap<String, Vec<Endpoint>>;

/// A registry that forgets nobody.
#[derive(Clone)]
struct Registry(Arc<watch::Sender<Endpoints>>);

#[tonic::async_trait]
impl Mesh for Registry {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<ToProxy, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(from_proxy::Message::Register(joined)) = incoming.message().await?.and_then(|m| m.message)
        else {
            return Err(Status::invalid_argument("expected a registration first"));
        };
        self.0.send_modify(|all| register(all, &joined));
        // Nothing that the proxy says later matters here, but its stream is to stay open.
        tokio::spawn(async move { while let Ok(Some(_)) = incoming.message().await {} });
        let welcome = to_proxy::Message::Welcome(Welcome { epoch: 1, renew_every_ms: 5_000 });
        let sets = WatchStream::new(self.0.subscribe()).flat_map(move |all| {
            let set = |service: &String| EndpointSet {
                service: service.clone(),
                endpoints: all.get(service).cloned().unwrap_or_default(),
            };
            let sets: Vec<_> = joined.upstreams.iter().map(set).map(to_proxy::Message::Endpoints).collect();
            futures::stream::iter(sets)
        });
        let messages = futures::stream::iter([welcome]).chain(sets);
        Ok(Response::new(Box::pin(messages.map(|message| Ok(ToProxy { message: Some(message) })))))
    }
}

fn register(all: &mut Endpoints, joined: &Registration) {
    if joined.address.is_empty() {
        return;
    }
    all.entry(joined.service.clone()).or_default().push(Endpoint {
        instance: joined.instance.clone(),
        address: joined.address.clone(),
        version: joined.version.clone(),
        zone: joined.zone.clone(),
        protocol: joined.protocol.clone(),
        labels: joined.labels.clone(),
        ..Endpoint::default()
    });
}

async fn serve(listener: TcpListener, registry: Registry) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = TowerToHyperService::new(MeshServer::new(registry.clone()));
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
    }
}

/// Counts of checkouts so far: successes and errors.
fn checkouts(shop: &Shop) -> (u64, u64) {
    let seconds = shop.checkout.seconds(clock().now());
    seconds.iter().fold((0, 0), |(ok, errors), second| (ok + second.ok, errors + second.errors))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_buy_and_feel_faults_until_they_are_cleared() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = listener.local_addr().unwrap();
    let registry = Registry(Arc::new(watch::Sender::new(Endpoints::new())));
    tokio::spawn(serve(listener, registry.clone()));

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        demo: DemoArgs,
    }
    let line = "demo --rate 60 --local-breaker off --retries 0 --seed 3";
    let args = <Cli as clap::Parser>::parse_from(line.split(' ')).demo;
    let (shop, stop) = (Shop::new(), CancellationToken::new());
    let mesh = run_mesh(&args, collector, clock(), stop.clone(), shop.clone()).await.unwrap();

    until("checkouts", async || (checkouts(&shop).0 >= 30).then_some(())).await;
    assert_eq!(checkouts(&shop).1, 0, "{:?}", shop.checkout.seconds(clock().now()));
    assert_eq!(registry.0.borrow()["payments"].len(), 3);

    for kind in [FaultKind::Errors, FaultKind::Outage] {
        let before = checkouts(&shop);
        shop.faults.switch(kind, "payments/2", true).unwrap();
        // One replica of three: some fail, and some succeed.
        until("failures", async || {
            let (ok, errors) = checkouts(&shop);
            (errors >= before.1 + 5 && ok >= before.0 + 5).then_some(())
        })
        .await;
        shop.faults.switch(kind, "payments/2", false).unwrap();
        until("recovery", async || {
            let last = *shop.checkout.seconds(clock().now()).last()?;
            (last.ok >= 10 && last.errors == 0).then_some(())
        })
        .await;
    }

    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), mesh.closed()).await.unwrap();
}

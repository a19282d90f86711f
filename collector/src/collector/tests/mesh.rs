//! The mesh, as proxies see it.

use arrow::array::AsArray;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weir_model::hint::{Action, Evidence, Guards, Hint, Mode, Recovery, Scope};
use weir_model::mesh::mesh_client::MeshClient;
use weir_model::mesh::{
    self, FromProxy, HintAck, Registration, Renewal, ToProxy, Watch, Withdrawal, from_proxy, to_proxy,
};

use super::*;

/// A proxy that has joined.
struct Proxy {
    out: mpsc::Sender<FromProxy>,
    incoming: Streaming<ToProxy>,
}

fn registration(instance: &str, service: &str, upstreams: &[&str]) -> Registration {
    Registration {
        instance: instance.into(),
        service: service.into(),
        address: format!("127.0.0.1:{}", 1_000 + instance.len()),
        protocol: "http".into(),
        version: "v1".into(),
        upstreams: upstreams.iter().map(|upstream| (*upstream).to_owned()).collect(),
        ..Registration::default()
    }
}

impl Running {
    /// A stream on which nothing has been said.
    async fn stream(&self) -> Proxy {
        let mut client = MeshClient::connect(format!("http://{}", self.grpc)).await.unwrap();
        let (out, queue) = mpsc::channel(16);
        let incoming = client.join(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Proxy { out, incoming }
    }

    /// A proxy that has been welcomed.
    async fn join(&self, registration: Registration) -> Proxy {
        let mut proxy = self.stream().await;
        proxy.send(from_proxy::Message::Register(registration)).await;
        match proxy.next().await {
            to_proxy::Message::Welcome(welcome) => {
                assert_eq!((welcome.epoch, welcome.renew_every_ms), (self.storage.epoch(), 5_000));
            }
            other => panic!("expected a welcome, not {other:?}"),
        }
        proxy
    }
}

impl Proxy {
    async fn send(&self, message: from_proxy::Message) {
        self.out.send(FromProxy { message: Some(message) }).await.unwrap();
    }

    async fn received(&mut self) -> Result<Option<ToProxy>, Status> {
        tokio::time::timeout(Duration::from_secs(60), self.incoming.message())
            .await
            .expect("a message in time")
    }

    async fn next(&mut self) -> to_proxy::Message {
        self.received().await.unwrap().unwrap().message.unwrap()
    }

    /// The next set of endpoints: its service and instances.
    async fn endpoints(&mut self) -> (String, Vec<String>) {
        loop {
            if let to_proxy::Message::Endpoints(set) = self.next().await {
                return (set.service, set.endpoints.into_iter().map(|endpoint| endpoint.instance).collect());
            }
        }
    }

    /// Waits until `service` has exactly these instances.
    async fn until(&mut self, service: &str, instances: &[&str]) {
        loop {
            let (of, found) = self.endpoints().await;
            if of == service && found == instances {
                return;
            }
        }
    }

    /// The ids in the next set of hints.
    async fn hints(&mut self) -> Vec<String> {
        loop {
            if let to_proxy::Message::Hints(set) = self.next().await {
                return set.hints.into_iter().map(|hint| hint.id).collect();
            }
        }
    }

    /// Why the stream ended.
    async fn end(&mut self) -> Status {
        loop {
            match self.received().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_is_told_of_its_upstreams_and_of_nothing_else() {
    let running = Running::start().await;
    let cart = running.join(registration("cart-1", "cart", &[])).await;
    let labelled = Registration {
        zone: "a".into(),
        weight: Some(3),
        labels: [("canary".to_owned(), "yes".to_owned())].into(),
        ..registration("pay-1", "pay", &[])
    };
    let _pay = running.join(labelled).await;
    let mut web = running.join(registration("web-1", "web", &["pay", "ghost"])).await;
    let mut first: Vec<_> = vec![web.next().await, web.next().await, web.next().await];
    first.sort_by_key(|message| matches!(message, to_proxy::Message::Hints(_)));
    let to_proxy::Message::Endpoints(pay) = &first[0] else { panic!("{first:?}") };
    let expected = mesh::Endpoint {
        instance: "pay-1".into(),
        address: "127.0.0.1:1005".into(),
        version: "v1".into(),
        zone: "a".into(),
        protocol: "http".into(),
        labels: [("canary".to_owned(), "yes".to_owned())].into(),
        weight: Some(3),
        ..mesh::Endpoint::default()
    };
    assert_eq!((pay.service.as_str(), &pay.endpoints), ("pay", &vec![expected]));
    let empty = mesh::EndpointSet { service: "ghost".into(), endpoints: vec![] };
    assert_eq!(first[1], to_proxy::Message::Endpoints(empty));
    assert_eq!(first[2], to_proxy::Message::Hints(mesh::HintSet { epoch: 1, revision: 0, hints: vec![] }));

    cart.send(from_proxy::Message::Withdraw(Withdrawal {})).await;
    let _second = running.join(registration("pay-2", "pay", &[])).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec!["pay-1".into(), "pay-2".into()]));
    let services = running.collector.registry_services();
    let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["pay", "web"]);
}

#[tokio::test]
async fn a_proxy_may_want_other_services_at_any_time() {
    let running = Running::start().await;
    let watch = |services: &[&str]| {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        from_proxy::Message::Watch(Watch { services })
    };
    let pay = running.join(registration("pay-1", "pay", &[])).await;
    let _cart = running.join(registration("cart-1", "cart", &[])).await;
    running.hints.send_replace(HintSet { epoch: 1, revision: 1, hints: vec![hint("slow", &[], "cart")] });
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    web.until("pay", &["pay-1"]).await;
    assert_eq!(web.hints().await, [] as [String; 0]);
    web.send(watch(&["pay", "cart"])).await;
    assert_eq!(
        web.endpoints().await,
        ("cart".into(), vec!["cart-1".into()]),
        "what it knows is not told again"
    );
    assert_eq!(web.hints().await, ["slow"]);
    web.send(watch(&["cart", "ghost"])).await;
    assert_eq!(web.endpoints().await, ("ghost".into(), vec![]));
    pay.send(from_proxy::Message::Withdraw(Withdrawal {})).await;
    let _other = running.join(registration("cart-2", "cart", &[])).await;
    assert_eq!(web.endpoints().await, ("cart".into(), vec!["cart-1".into(), "cart-2".into()]));
    web.send(watch(&["pay", "cart"])).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec![]), "it is told of whom it wants again");
    web.send(watch(&["x"; limits::REGISTRATION_UPSTREAMS + 1])).await;
    let status = web.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "registration has more than 1024 `upstreams`")
    );
}

#[tokio::test]
async fn proxies_part_a_limit_that_they_share() {
    let running = Running::start().await;
    let demand = |key: usize, wanted_per_s: f64| mesh::Demand {
        key: vec![7; key],
        requests: 100,
        per_ns: 1_000_000_000,
        wanted_per_s,
    };
    let grants = async |proxy: &mut Proxy, demands: Vec<mesh::Demand>| {
        proxy.send(from_proxy::Message::Rates(mesh::Rates { demands })).await;
        loop {
            if let to_proxy::Message::Grants(grants) = proxy.next().await {
                return grants.grants.iter().map(|grant| grant.per_s.round()).collect::<Vec<_>>();
            }
        }
    };
    let mut web = running.join(registration("web-1", "web", &[])).await;
    let mut other = running.join(registration("web-2", "web", &[])).await;
    assert_eq!(grants(&mut web, vec![demand(16, 500.0)]).await, [100.0]);
    assert_eq!(grants(&mut other, vec![demand(15, 1.0), demand(16, 20.0)]).await, [20.0]);
    assert_eq!(grants(&mut web, vec![demand(16, 500.0)]).await, [80.0]);
    assert_eq!(running.metric("weir_collector_rate_demands_dropped_total"), 1);
    assert_eq!(running.metric("weir_collector_rate_claims"), 2);
    let many = vec![demand(16, 500.0); limits::RATE_DEMANDS + 1];
    assert_eq!(grants(&mut web, many).await.len(), limits::RATE_DEMANDS);
    drop((web, other));
    tokio::time::pause();
    until("the claims lapse", || running.metric("weir_collector_rate_claims") == 0).await;
}

#[tokio::test]
async fn a_withdrawn_endpoint_is_gone_at_once_and_a_renewal_does_not_bring_it_back() {
    let running = Running::start().await;
    let first = running.join(registration("pay-1", "pay", &[])).await;
    let second = running.join(registration("pay-2", "pay", &[])).await;
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    web.until("pay", &["pay-1", "pay-2"]).await;
    first.send(from_proxy::Message::Withdraw(Withdrawal {})).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec!["pay-2".into()]));
    first.send(from_proxy::Message::Renew(Renewal {})).await;
    second.send(from_proxy::Message::Withdraw(Withdrawal {})).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec![]));
    // It may register again.
    first.send(from_proxy::Message::Register(registration("pay-1", "pay", &[]))).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec!["pay-1".into()]));
}

#[tokio::test]
async fn an_endpoint_whose_proxy_left_without_a_word_stays_until_it_expires() {
    let running = Running::start().await;
    let pay = running.join(registration("pay-1", "pay", &[])).await;
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    web.until("pay", &["pay-1"]).await;
    drop(pay);
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    assert_eq!(web.endpoints().await, ("pay".into(), vec![]));
    assert!(before.elapsed() > limits::REGISTRATION_EXPIRY, "{:?}", before.elapsed());
}

#[tokio::test]
async fn a_restarted_collector_announces_no_set_that_is_still_filling() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await.unwrap();
    let running = Running::start_in(dir).await;
    assert_eq!(running.storage.epoch(), 2);
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    let _first = running.join(registration("pay-1", "pay", &[])).await;
    let _second = running.join(registration("pay-2", "pay", &[])).await;
    assert_eq!(web.endpoints().await, ("pay".into(), vec!["pay-1".into(), "pay-2".into()]));
}

fn hint(id: &str, callers: &[&str], service: &str) -> Hint {
    Hint {
        id: id.into(),
        revision: 1,
        epoch: 1,
        issued_at: UnixNanos(1),
        ttl: Duration::from_secs(15),
        scope: Scope {
            callers: callers.iter().map(|caller| (*caller).to_owned()).collect(),
            service: service.into(),
            ..Scope::default()
        },
        action: Action::Eject,
        mode: Mode::DryRun,
        holdout_pct: 0,
        evidence: Evidence::default(),
        guards: Guards::default(),
        recovery: Recovery::default(),
    }
}

#[tokio::test]
async fn a_proxy_gets_the_hints_about_its_own_calls() {
    let running = Running::start().await;
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    let mut batch = running.join(registration("batch-1", "batch", &["pay", "cart"])).await;
    assert_eq!(web.hints().await, [] as [String; 0]);
    assert_eq!(batch.hints().await, [] as [String; 0]);
    let publish = |revision: u64, hints: Vec<Hint>| {
        running.hints.send_replace(HintSet { epoch: 1, revision, hints });
    };
    publish(1, vec![hint("all", &[], "pay"), hint("web", &["web", "app"], "pay"), hint("cart", &[], "cart")]);
    assert_eq!(web.hints().await, ["all", "web"]);
    assert_eq!(batch.hints().await, ["all", "cart"]);
    // What changes for others is not sent again: the next set that `web` sees is the one after.
    publish(2, vec![hint("all", &[], "pay"), hint("web", &["web", "app"], "pay")]);
    assert_eq!(batch.hints().await, ["all"]);
    let renewed = Hint { revision: 2, ..hint("web", &["web"], "pay") };
    publish(3, vec![renewed]);
    assert_eq!(web.hints().await, ["web"]);
    assert_eq!(batch.hints().await, [] as [String; 0]);
    publish(4, vec![]);
    assert_eq!(web.hints().await, [] as [String; 0]);
    // Who joins later is told what is in force.
    publish(5, vec![hint("late", &[], "pay")]);
    let mut late = running.join(registration("web-2", "web", &["pay"])).await;
    assert_eq!(late.hints().await, ["late"]);
}

#[tokio::test]
async fn answers_to_hints_become_rows_and_bad_ones_are_counted() {
    let running = Running::start().await;
    let web = running.join(registration("web-1", "web", &["pay"])).await;
    let ack = HintAck {
        id: "h-1-1".into(),
        revision: 3,
        verdict: mesh::hint_ack::Verdict::Vetoed.into(),
        reason: "locally healthy".into(),
        success_rate_before: 1.0,
        success_rate_after: 0.5,
        state: "closed".into(),
        at_unix_nano: 7,
    };
    web.send(from_proxy::Message::Ack(HintAck { state: "ajar".into(), ..ack.clone() })).await;
    web.send(from_proxy::Message::Ack(ack)).await;
    until("the answer is stored", || running.count(Table::Hints) == 1).await;
    let rows = running.rows(Table::Hints).remove(0);
    let text = |column: &str| rows.column_by_name(column).unwrap().as_string::<i32>().value(0).to_owned();
    let found = ["id", "event", "proxy", "proxy_service", "verdict", "reason", "state"].map(text);
    assert_eq!(found, ["h-1-1", "ack", "web-1", "web", "vetoed", "locally healthy", "closed"]);
    assert_eq!(running.metric("weir_collector_hint_acks_lost_total"), 1);
}

#[tokio::test]
async fn answers_on_their_way_are_stored_when_the_collector_stops() {
    let mut running = Running::start().await;
    let web = running.join(registration("web-1", "web", &["pay"])).await;
    let ack = HintAck { id: "h-1-1".into(), state: "closed".into(), ..HintAck::default() };
    for _ in 0..10 {
        web.send(from_proxy::Message::Ack(ack.clone())).await;
    }
    until("the first answer is stored", || running.count(Table::Hints) > 0).await;
    running.stop.cancel();
    while running.servers.join_next().await.is_some() {}
    let lost = running.metric("weir_collector_hint_acks_lost_total");
    assert!(running.count(Table::Hints) as u64 + lost <= 10);
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn a_proxy_that_does_not_read_is_disconnected() {
    let running = Running::start().await;
    let mut slow = running.join(registration("web-1", "web", &["pay"])).await;
    let mut large = hint("h", &[], "pay");
    large.evidence.query = "x".repeat(16 << 10);
    let mut revision = 0;
    let counted = "weir_collector_slow_proxies_total";
    until("it is counted as slow", || {
        revision += 1;
        let hints = vec![Hint { revision, ..large.clone() }];
        running.hints.send_replace(HintSet { epoch: 1, revision, hints });
        running.metric(counted) == 1
    })
    .await;
    // What was sent can still be read; then the stream is over.
    while let Ok(Some(_)) = slow.received().await {}
    let mut again = running.join(registration("web-1", "web", &["pay"])).await;
    assert_eq!(again.hints().await, ["h"]);
}

#[tokio::test]
async fn a_stream_must_open_with_a_good_registration() {
    let running = Running::start().await;
    let mut early = running.stream().await;
    early.send(from_proxy::Message::Renew(Renewal {})).await;
    let status = early.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "a registration must open the stream")
    );

    let mut nameless = running.stream().await;
    nameless.send(from_proxy::Message::Register(registration("", "web", &[]))).await;
    let status = nameless.end().await;
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "registration has no `instance`"));

    let mut silent = running.stream().await;
    tokio::time::pause();
    let status = silent.end().await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_stopping_collector_tells_its_proxies() {
    let mut running = Running::start().await;
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    running.stop.cancel();
    let status = web.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the collector is shutting down, join again")
    );
    while let Some(ended) = running.servers.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test]
async fn endpoints_registered_through_consul_join_those_of_proxies() {
    let running = Running::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = listener.local_addr().unwrap();
    let consul = running.collector.consul(http, None, running.stop.clone()).unwrap();
    tokio::spawn(Arc::clone(&consul).run());
    let router = consul.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (well, ill) =
        (Arc::new(std::sync::atomic::AtomicBool::new(true)), axum::http::StatusCode::BAD_GATEWAY);
    let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = service.local_addr().unwrap();
    let state = Arc::clone(&well);
    let healthy = axum::routing::get(async move || {
        if state.load(std::sync::atomic::Ordering::Relaxed) { ::http::StatusCode::OK } else { ill }
    });
    tokio::spawn(async move { axum::serve(service, axum::Router::new().route("/healthy", healthy)).await });

    let _pay = running.join(registration("pay-1", "pay", &[])).await;
    let mut web = running.join(registration("web-1", "web", &["pay"])).await;
    web.until("pay", &["pay-1"]).await;
    let client = reqwest::Client::new();
    let put = async |path: &str, body: String| {
        let answer = client.put(format!("http://{http}/v1/agent/{path}")).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
    };
    let check = format!(r#"{{"HTTP": "http://{at}/healthy", "Interval": "1s"}}"#);
    let body = format!(r#"{{"ID": "pay-2", "Name": "pay", "Port": {}, "Check": {check}}}"#, at.port());
    put("service/register", body).await;
    let health = async || {
        let answer = reqwest::get(format!("http://{http}/v1/health/service/pay?passing")).await.unwrap();
        let text = answer.text().await.unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let entry = |one: &serde_json::Value| {
            format!(
                "{} {}",
                one["Service"]["ID"].as_str().unwrap(),
                one["Service"]["Address"].as_str().unwrap()
            )
        };
        all.as_array().unwrap().iter().map(entry).collect::<Vec<_>>()
    };
    web.until("pay", &["pay-1", "pay-2"]).await;
    assert_eq!(
        health().await,
        ["pay-1 127.0.0.1", "pay-2 127.0.0.1"],
        "it is where its registration came from"
    );
    well.store(false, std::sync::atomic::Ordering::Relaxed);
    web.until("pay", &["pay-1"]).await;
    assert_eq!(health().await, ["pay-1 127.0.0.1"]);
    well.store(true, std::sync::atomic::Ordering::Relaxed);
    web.until("pay", &["pay-1", "pay-2"]).await;
    put("service/deregister/pay-2", String::new()).await;
    web.until("pay", &["pay-1"]).await;
}

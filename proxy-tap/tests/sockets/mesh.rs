//! What the proxy and a collector say to each other, against a collector that does as the test says.

use std::net::SocketAddr;
use std::time::Duration;

use futures::stream::BoxStream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weir_model::UnixNanos;
use weir_model::hint::{Action, Evidence, Guards, Hint, Mode, Recovery, Scope, Target};
use weir_model::mesh::mesh_client::MeshClient;
use weir_model::mesh::mesh_server::{Mesh, MeshServer};
use weir_model::mesh::{
    self, Endpoint, EndpointSet, FromProxy, HintAck, HintSet, Registration, Renewal, ToProxy, Welcome,
    from_proxy, hint_ack, to_proxy,
};
use weir_proxy_tap::{Config, Running};

use crate::support::*;

/// Hands each stream that a proxy opens to the test.
struct Desk(mpsc::Sender<Stream>);

/// One proxy's stream, in the test's hands.
struct Stream {
    heard: Streaming<FromProxy>,
    tell: mpsc::Sender<Result<ToProxy, Status>>,
}

#[tonic::async_trait]
impl Mesh for Desk {
    type JoinStream = BoxStream<'static, Result<ToProxy, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (tell, told) = mpsc::channel(16);
        let stream = Stream { heard: request.into_inner(), tell };
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }
}

/// A collector's mesh: its address, and the streams that proxies open.
struct Collector {
    address: SocketAddr,
    streams: mpsc::Receiver<Stream>,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (desk, streams) = mpsc::channel(4);
        let service = TowerToHyperService::new(MeshServer::new(Desk(desk)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service.clone()));
            }
        });
        Self { address, streams }
    }

    async fn stream(&mut self) -> Stream {
        timeout(DEADLINE, self.streams.recv()).await.expect("no proxy joined").unwrap()
    }

    /// The next stream, after its registration and a welcome.
    async fn welcomed(&mut self, epoch: u64) -> (Stream, Registration) {
        let mut stream = self.stream().await;
        let from_proxy::Message::Register(registration) = stream.next().await.unwrap() else {
            panic!("a registration comes first");
        };
        let welcome = Welcome { epoch, renew_every_ms: 50 };
        stream.tell(to_proxy::Message::Welcome(welcome)).await;
        (stream, registration)
    }
}

impl Stream {
    /// What the proxy says next; `None` where it has left.
    async fn next(&mut self) -> Option<from_proxy::Message> {
        let next = timeout(DEADLINE, self.heard.next()).await.expect("the proxy says nothing");
        next.map(|message| message.unwrap().message.unwrap())
    }

    /// The next answer to a hint.
    async fn ack(&mut self) -> HintAck {
        loop {
            if let from_proxy::Message::Ack(ack) = self.next().await.expect("an answer") {
                return ack;
            }
        }
    }

    /// The next report of one limit.
    async fn demand(&mut self) -> mesh::Demand {
        loop {
            if let from_proxy::Message::Rates(mut rates) = self.next().await.expect("a report") {
                return rates.demands.remove(0);
            }
        }
    }

    async fn tell(&self, message: to_proxy::Message) {
        self.tell.send(Ok(ToProxy { message: Some(message) })).await.unwrap();
    }

    async fn endpoints(&self, service: &str, addresses: &[SocketAddr]) {
        let told =
            |(i, address): (usize, &SocketAddr)| endpoint(&format!("p{}", i + 1), &address.to_string());
        let endpoints = addresses.iter().enumerate().map(told).collect();
        let set = EndpointSet { service: service.to_owned(), endpoints };
        self.tell(to_proxy::Message::Endpoints(set)).await;
    }

    async fn hints(&self, revision: u64, hints: &[Hint]) {
        let hints = hints.iter().map(mesh::Hint::from).collect();
        self.tell(to_proxy::Message::Hints(HintSet { epoch: 1, revision, hints })).await;
    }
}

fn endpoint(instance: &str, address: &str) -> Endpoint {
    Endpoint { instance: instance.to_owned(), address: address.to_owned(), ..Endpoint::default() }
}

fn hint(target: Target, action: Action) -> Hint {
    Hint {
        id: "h-1-1".to_owned(),
        revision: 1,
        epoch: 1,
        issued_at: UnixNanos(1),
        ttl: Duration::from_secs(30),
        scope: Scope { service: "payments".to_owned(), target, ..Scope::default() },
        action,
        mode: Mode::Enforce,
        holdout_pct: 0,
        evidence: Evidence {
            detector: "errors".to_owned(),
            metric: "error_rate".to_owned(),
            ..Evidence::default()
        },
        guards: Guards::default(),
        recovery: Recovery::default(),
    }
}

fn open() -> Hint {
    hint(Target::Service, Action::Open { status: 503, retry_after: Duration::from_millis(1_500) })
}

/// `cart`'s proxy, whose endpoints of `payments` are asked of `collector`.
async fn joining(collector: &Collector) -> Running {
    let collector = Some(collector.address.to_string());
    start(Config { collector, endpoints: Default::default(), ..cart(&[]) }).await
}

/// Waits until calls of `payments` are answered with this status.
async fn until_status(proxy: &Running, status: u16) -> Answer {
    until(&format!("status {status}"), async || {
        let answer = get(to_payments(proxy), "/").await;
        (answer.status == status).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn a_service_that_a_request_names_is_asked_for_and_found() {
    let app = App::always(200, "ledger").await;
    let mut collector = Collector::start().await;
    let proxy = start(Config {
        collector: Some(collector.address.to_string()),
        http_proxy: Some(any_port()),
        outbound: vec![],
        endpoints: Default::default(),
        ..cart(&[])
    })
    .await;
    let (mut stream, registration) = collector.welcomed(1).await;
    assert_eq!(registration.upstreams, Vec::<String>::new());
    let at = proxy.http_proxy.unwrap();
    let asked = tokio::spawn(async move {
        let request = request(http::Method::GET, "http://ledger/x").body(empty()).unwrap();
        ask(at, request).await
    });
    let watched = loop {
        match stream.next().await.expect("the proxy to stay") {
            from_proxy::Message::Watch(watch) => break watch.services,
            from_proxy::Message::Renew(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(watched, ["ledger"]);
    stream.endpoints("ledger", &[app.address]).await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ledger"));
}

#[tokio::test]
async fn a_proxy_registers_what_it_stands_for_and_what_it_calls() {
    let mut collector = Collector::start().await;
    let app = App::always(200, "").await;
    let config = Config {
        collector: Some(collector.address.to_string()),
        inbound: Some(any_port()),
        app: Some(app.address.to_string()),
        region: "eu".into(),
        namespace: "shop".into(),
        labels: [("track".to_owned(), "canary".to_owned())].into(),
        weight: 3,
        priority: 1,
        ..cart(&[app.address])
    };
    let mut config = config;
    // `payments` has a static list, so that the registry is not asked for it.
    config.outbound.push(weir_proxy_tap::config::Outbound { name: "stock".into(), listen: any_port() });
    let proxy = start(config).await;
    let (_stream, told) = collector.welcomed(1).await;
    let expected = Registration {
        instance: "cart-1".into(),
        service: "cart".into(),
        version: "v3".into(),
        zone: "z1".into(),
        address: proxy.inbound.unwrap().to_string(),
        protocol: "http".into(),
        labels: [("track".to_owned(), "canary".to_owned())].into(),
        upstreams: vec!["stock".into()],
        region: "eu".into(),
        namespace: "shop".into(),
        weight: Some(3),
        priority: 1,
    };
    assert_eq!(told, expected);
    until("the welcome", async || {
        (metric(&proxy, "weir_proxy_collector_connected", &[]).await > 0.5).then_some(())
    })
    .await;
    assert!((metric(&proxy, "weir_proxy_collector_epoch", &[]).await - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_caller_alone_registers_no_address_and_advice_on_the_address_is_taken() {
    let mut collector = Collector::start().await;
    let _proxy = joining(&collector).await;
    assert_eq!(collector.welcomed(1).await.1.address, "");
    let app = App::always(200, "").await;
    let (address, advertise) = (Some(collector.address.to_string()), Some("payments.local:80".to_owned()));
    let _proxy = start(Config { collector: address, advertise, ..payments(app.address) }).await;
    assert_eq!(collector.welcomed(1).await.1.address, "payments.local:80");
}

#[tokio::test]
async fn a_registration_is_renewed_as_often_as_asked_and_withdrawn_before_the_end() {
    let mut collector = Collector::start().await;
    let proxy = joining(&collector).await;
    let (mut stream, _) = collector.welcomed(1).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await, Some(from_proxy::Message::Renew(Renewal {})));
    }
    let (address, stopping) = (to_payments(&proxy), tokio::spawn(proxy.shutdown()));
    loop {
        match stream.next().await.expect("a withdrawal") {
            from_proxy::Message::Renew(_) => {}
            last => {
                assert!(matches!(last, from_proxy::Message::Withdraw(_)), "{last:?}");
                break;
            }
        }
    }
    // Whoever still has the endpoint may use it until the collector has said good-bye.
    assert_eq!(get(address, "/").await.status, 503);
    assert!(stream.next().await.is_none(), "nothing follows a withdrawal");
    drop(stream);
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn endpoints_come_from_the_registry_and_go_with_it() {
    let mut collector = Collector::start().await;
    let apps = [App::always(200, "one").await, App::always(200, "two").await];
    let proxy = joining(&collector).await;
    assert_eq!(get(to_payments(&proxy), "/").await.status, 503);
    let (stream, _) = collector.welcomed(1).await;
    stream.endpoints("payments", &[apps[0].address]).await;
    assert_eq!(until_status(&proxy, 200).await.text(), "one");
    assert_eq!(json(&proxy, "/endpoints").await["endpoints"][0]["source"], "registry");
    stream.endpoints("payments", &[apps[1].address]).await;
    until("the other endpoint", async || (get(to_payments(&proxy), "/").await.text() == "two").then_some(()))
        .await;
    stream.endpoints("payments", &[]).await;
    assert_eq!(until_status(&proxy, 503).await.text(), "`payments` has no endpoint now\n");
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"UH\""]).await > 0.5);
}

#[tokio::test]
async fn requests_go_by_what_the_registry_says_of_endpoints() {
    let mut collector = Collector::start().await;
    let apps =
        [App::always(200, "near").await, App::always(200, "far").await, App::always(200, "spare").await];
    let locality = r#"
        [[service]]
        host = "payments"
        [service.destination]
        balancer = "round_robin"
        locality = { prefer = true }
        "#;
    let proxy = start(Config {
        collector: Some(collector.address.to_string()),
        endpoints: Default::default(),
        policy: toml::from_str(locality).unwrap(),
        region: "eu".into(),
        ..cart(&[])
    })
    .await;
    let (stream, _) = collector.welcomed(1).await;
    let of = |i: usize, region: &str| Endpoint {
        region: region.into(),
        zone: "z1".into(),
        namespace: "shop".into(),
        ..endpoint(&format!("p{i}"), &apps[i].address.to_string())
    };
    let tell = async |endpoints| {
        let set = EndpointSet { service: "payments".to_owned(), endpoints };
        stream.tell(to_proxy::Message::Endpoints(set)).await;
    };
    let shares = async |n: usize| {
        let mut answers = std::collections::BTreeMap::new();
        for _ in 0..n {
            *answers.entry(get(to_payments(&proxy), "/").await.text().to_owned()).or_insert(0) += 1;
        }
        answers.into_iter().collect::<Vec<_>>()
    };
    // A zone of that name in another region is not the caller's.
    tell(vec![of(0, "eu"), of(1, "us"), Endpoint { priority: 1, ..of(2, "eu") }]).await;
    until_status(&proxy, 200).await;
    assert_eq!(shares(8).await, [("near".to_owned(), 8)]);
    let listed = json(&proxy, "/endpoints").await["endpoints"].as_array().unwrap().clone();
    assert_eq!((&listed[2]["priority"], &listed[2]["namespace"]), (&1.into(), &"shop".into()));
    tell(vec![
        Endpoint { weight: Some(3), ..of(0, "eu") },
        of(1, "eu"),
        Endpoint { weight: Some(0), ..of(2, "eu") },
    ])
    .await;
    until("the other weights", async || {
        (json(&proxy, "/endpoints").await["endpoints"][0]["weight"] == 3).then_some(())
    })
    .await;
    assert_eq!(shares(8).await, [("far".to_owned(), 2), ("near".to_owned(), 6)]);
    let labels = ["destination_workload_namespace=\"shop\""];
    assert!(metric(&proxy, "istio_requests_total", &labels).await > 15.5);
}

#[tokio::test]
async fn a_part_of_a_shared_limit_is_asked_for_and_kept_to_until_its_lease_is_over() {
    let app = App::always(200, "").await;
    let mut collector = Collector::start().await;
    let policy = r#"
        [[service]]
        host = "payments"
        [[service.route]]
        rate_limit = [{ requests = 60, per = "1m", burst = 10, global = true, headers = true }]
        "#;
    let proxy = start(Config {
        collector: Some(collector.address.to_string()),
        policy: toml::from_str(policy).unwrap(),
        ..cart(&[app.address])
    })
    .await;
    let (mut stream, _) = collector.welcomed(1).await;
    until("the welcome", async || {
        (metric(&proxy, "weir_proxy_collector_connected", &[]).await > 0.5).then_some(())
    })
    .await;
    let first = get(to_payments(&proxy), "/").await;
    assert_eq!((first.status, first.header("x-ratelimit-limit")), (200, Some("10")));
    let demand = stream.demand().await;
    assert_eq!((demand.requests, demand.per_ns, demand.key.len()), (60, 60_000_000_000, 16));
    assert!((demand.wanted_per_s - 2.0).abs() < 1e-9, "one in half a second: {demand:?}");
    let grant = async |stream: &Stream, per_s: f64, lease_ms: u32| {
        let grant = mesh::Grant { key: demand.key.clone(), per_s, lease_ms };
        stream.tell(to_proxy::Message::Grants(mesh::Grants { grants: vec![grant] })).await;
    };
    let until_limit = async |limit: &str| {
        until(&format!("a limit of {limit}"), async || {
            let answer = get(to_payments(&proxy), "/").await;
            (answer.header("x-ratelimit-limit") == Some(limit)).then_some(answer)
        })
        .await
    };
    // A tenth of the rate and of the burst.
    grant(&stream, 0.1, 60_000).await;
    until_limit("1").await;
    let refused = until_status(&proxy, 429).await;
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=10).contains(&after), "one comes in ten seconds, not in {after}");
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"RL\""]).await > 0.5);
    let counted = "weir_proxy_global_rate_limit_requests_total";
    assert!(metric(&proxy, counted, &["refused"]).await > 0.5);
    assert!(metric(&proxy, counted, &["admitted"]).await > 1.5);
    // Those that are refused are wanted, too.
    while stream.demand().await.wanted_per_s < 3.0 {
        get(to_payments(&proxy), "/").await;
        get(to_payments(&proxy), "/").await;
    }
    // The collector says no more.
    grant(&stream, 0.1, 1).await;
    assert_eq!(until_limit("10").await.status, 429, "what was not there is not there now");
    grant(&stream, f64::NAN, 1).await;
    until("a bad message", async || {
        (metric(&proxy, "weir_proxy_mesh_events_total", &["bad_messages"]).await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_counted_and_spoils_nothing_else() {
    let mut collector = Collector::start().await;
    let app = App::always(200, "").await;
    let proxy = joining(&collector).await;
    let (stream, _) = collector.welcomed(1).await;
    stream.endpoints("nobody", &[app.address]).await;
    let endpoints = vec![
        endpoint("", "127.0.0.1:1"),
        endpoint("a", "no port"),
        endpoint("b;c", "127.0.0.1:1"),
        Endpoint { protocol: "soap".into(), ..endpoint("d", "127.0.0.1:1") },
        endpoint("good", &app.address.to_string()),
    ];
    let set = EndpointSet { service: "payments".to_owned(), endpoints };
    stream.tell(to_proxy::Message::Endpoints(set)).await;
    until_status(&proxy, 200).await;
    let listed = json(&proxy, "/endpoints").await;
    assert_eq!(listed["endpoints"].as_array().unwrap().len(), 1, "{listed}");
    assert!((metric(&proxy, "weir_proxy_mesh_events_total", &["bad_messages"]).await - 5.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_proxy_whose_collector_went_away_keeps_what_it_knows_and_joins_again() {
    let mut collector = Collector::start().await;
    let app = App::always(200, "").await;
    let proxy = joining(&collector).await;
    let (stream, _) = collector.welcomed(1).await;
    stream.endpoints("payments", &[app.address]).await;
    until_status(&proxy, 200).await;
    drop(stream);
    until("the end of the stream", async || {
        (metric(&proxy, "weir_proxy_mesh_events_total", &["failures"]).await > 0.5).then_some(())
    })
    .await;
    assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    let (_stream, told) = collector.welcomed(2).await;
    assert_eq!(told.upstreams, ["payments"]);
    assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    until("the new epoch", async || {
        (metric(&proxy, "weir_proxy_collector_epoch", &[]).await > 1.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_open_edge_refuses_with_a_header_that_says_why_and_answers_the_hint() {
    let mut collector = Collector::start().await;
    let app = App::always(200, "").await;
    let proxy = joining(&collector).await;
    let (mut stream, _) = collector.welcomed(1).await;
    stream.endpoints("payments", &[app.address]).await;
    until_status(&proxy, 200).await;
    stream.hints(1, &[open()]).await;
    let ack = stream.ack().await;
    assert_eq!(
        (&*ack.id, ack.revision, ack.verdict(), &*ack.state),
        ("h-1-1", 1, hint_ack::Verdict::Applied, "open")
    );
    assert!(ack.at_unix_nano > 1_600_000_000_000_000_000, "by the proxy's clock: {ack:?}");
    let answer = until_status(&proxy, 503).await;
    let why = answer.header("x-weir-refused").unwrap().to_owned();
    assert!(why.starts_with("h-1-1; open; "), "{why}");
    assert_eq!((answer.header("retry-after"), answer.text()), (Some("2"), &*format!("{why}\n")));
    let refused = ask2(to_payments(&proxy), grpc("/a.B/C", b"")).await;
    assert_eq!((refused.status, refused.header("grpc-status")), (200, Some("14")));
    assert_eq!(
        (refused.header("x-weir-refused"), refused.header("grpc-message")),
        (Some(&*why), Some(&*why))
    );
    assert!(metric(&proxy, "istio_requests_total", &["response_flags=\"UO\""]).await > 1.5);
    assert!((metric(&proxy, "weir_proxy_hints_in_force", &[]).await - 1.0).abs() < 1e-9);
    // Withdrawn: the edge is half-open, and good probes let the traffic grow back.
    stream.hints(2, &[]).await;
    assert_eq!(stream.ack().await.verdict(), hint_ack::Verdict::Reverted);
}

#[tokio::test]
async fn an_ejected_endpoint_gets_no_traffic_until_its_probes_succeed() {
    let mut collector = Collector::start().await;
    let apps = [App::always(200, "").await, App::always(200, "").await];
    let proxy = joining(&collector).await;
    let (mut stream, _) = collector.welcomed(1).await;
    stream.endpoints("payments", &apps.each_ref().map(|app| app.address)).await;
    until_status(&proxy, 200).await;
    // The proxy's own calls went well, so that it is for latency that it obeys.
    let mut eject = hint(Target::Endpoint("p1".to_owned()), Action::Eject);
    eject.evidence.metric = "latency_p99_seconds".to_owned();
    eject.recovery = Recovery { ramp: Duration::ZERO, probe_rate: 50.0, probe_successes: 2 };
    stream.hints(1, &[eject]).await;
    assert_eq!(stream.ack().await.verdict(), hint_ack::Verdict::Applied);
    let breaker = async || json(&proxy, "/breakers").await["breakers"].as_array().unwrap().clone();
    let of_first = breaker().await.into_iter().find(|breaker| breaker["endpoint"] == "p1").unwrap();
    assert_eq!(
        (&of_first["state"], &of_first["cause"], &of_first["hint"]),
        (&"open".into(), &"hint".into(), &"h-1-1".into())
    );
    let before = apps[1].count();
    for _ in 0..10 {
        get(to_payments(&proxy), "/").await;
    }
    assert!(apps[1].count() > before, "the other one serves");
    stream.hints(2, &[]).await;
    assert_eq!(stream.ack().await.verdict(), hint_ack::Verdict::Reverted);
    until("the endpoint's return", async || {
        get(to_payments(&proxy), "/").await;
        breaker().await.iter().all(|breaker| breaker["state"] == "closed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hint_for_trial_is_answered_and_not_obeyed() {
    let mut collector = Collector::start().await;
    let app = App::always(200, "").await;
    let proxy = joining(&collector).await;
    let (mut stream, _) = collector.welcomed(1).await;
    stream.endpoints("payments", &[app.address]).await;
    until_status(&proxy, 200).await;
    stream.hints(1, &[Hint { mode: Mode::DryRun, ..open() }]).await;
    assert_eq!(stream.ack().await.verdict(), hint_ack::Verdict::Shadowed);
    for _ in 0..5 {
        assert_eq!(get(to_payments(&proxy), "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_bidirectional_grpc_stream_flows_through_the_proxy_while_it_is_open() {
    let mut behind = Collector::start().await;
    let proxy = start(cart(&[behind.address])).await;
    let mut client = MeshClient::connect(format!("http://{}", to_payments(&proxy))).await.unwrap();
    let (say, said) = mpsc::channel(4);
    let joining = tokio::spawn(async move { client.join(ReceiverStream::new(said)).await });
    let mut stream = behind.stream().await;
    let mut heard = timeout(DEADLINE, joining).await.unwrap().unwrap().unwrap().into_inner();
    for epoch in 1..=5 {
        say.send(FromProxy { message: Some(from_proxy::Message::Renew(Renewal {})) }).await.unwrap();
        assert_eq!(stream.next().await, Some(from_proxy::Message::Renew(Renewal {})));
        let welcome = to_proxy::Message::Welcome(Welcome { epoch, renew_every_ms: 1 });
        stream.tell(welcome.clone()).await;
        let told = timeout(DEADLINE, heard.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(told.message, Some(welcome));
    }
    drop(say);
    assert!(stream.next().await.is_none());
    stream.tell.send(Err(Status::not_found("gone"))).await.unwrap();
    let end = timeout(DEADLINE, heard.message()).await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (tonic::Code::NotFound, "gone"));
}

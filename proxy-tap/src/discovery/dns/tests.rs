//! Against a real DNS server, over its sockets.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::nsd::Nsd;
use super::*;

/// How long anything here may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const S: Duration = Duration::from_secs(1);

/// A name that is asked for.
struct Asked {
    told: mpsc::UnboundedReceiver<(Instant, Vec<Endpoint>)>,
    status: Arc<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Asked {
    fn start(target: &str, nsd: &Nsd, bounds: Bounds) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (status, stop) = (Arc::new(Status::new(Instant::now())), CancellationToken::new());
        let resolver = Resolver { server: Some(nsd.address), bounds, ..Resolver::default() };
        let apply = move |endpoints| tell.send((Instant::now(), endpoints)).unwrap();
        let (target, chance) = (Target::parse(target).unwrap(), Arc::new(Chance::new(1, target)));
        let task = tokio::spawn(run(target, resolver, apply, chance, Arc::clone(&status), stop.clone()));
        Self { told, status, stop, task }
    }

    /// The endpoints that are told next, and when.
    async fn next(&mut self) -> (Instant, Vec<Endpoint>) {
        timeout(DEADLINE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn addresses(&mut self) -> Vec<String> {
        self.next().await.1.into_iter().map(|endpoint| endpoint.address).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.status.counts().into_iter().find(|(count, _)| *count == name).unwrap().1
    }

    /// Waits until `more` further questions have failed.
    async fn fails(&self, more: u64) {
        let until = self.count("failures") + more;
        let failed = async {
            while self.count("failures") < until {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, failed).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(DEADLINE, self.task).await.unwrap().unwrap();
    }
}

/// As short as a test wants failures.
fn quick() -> Bounds {
    Bounds { patience: S / 2, pause_first: S / 20, pause_longest: S / 5, ..Bounds::default() }
}

/// Waits until the server answers `target` with these addresses.
async fn serves(nsd: &Nsd, target: &str, addresses: &[&str]) {
    let resolver = Resolver { server: Some(nsd.address), bounds: quick(), ..Resolver::default() };
    let mut asker = Asker::new(Target::parse(target).unwrap(), resolver);
    let serving = async {
        loop {
            if let Heard::Found { endpoints, .. } = asker.ask().await
                && endpoints.iter().map(|endpoint| &*endpoint.address).eq(addresses.iter().copied())
            {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, serving).await.is_ok(), "{}", nsd.log());
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_its_ttl_ends_and_not_before() {
    let nsd = Nsd::start("web 4 IN A 127.0.0.1\nweb 4 IN A 127.0.0.2");
    serves(&nsd, "dns://web.shop.test:80", &["127.0.0.1:80", "127.0.0.2:80"]).await;
    let mut web = Asked::start("dns://web.shop.test:80", &nsd, Bounds::default());
    let (first, endpoints) = web.next().await;
    let instances: Vec<_> = endpoints.iter().map(|endpoint| &*endpoint.instance).collect();
    assert_eq!(instances, ["127.0.0.1:80", "127.0.0.2:80"]);
    nsd.change("web 4 IN A 127.0.0.2\nweb 4 IN A 127.0.0.3");
    serves(&nsd, "dns://web.shop.test:80", &["127.0.0.2:80", "127.0.0.3:80"]).await;
    let changed_after = first.elapsed();
    assert!(changed_after < S * 4, "the server took too long for this to show anything");
    assert!(web.told.try_recv().is_err(), "the TTL has not ended");
    assert!(web.status.age(Instant::now()).unwrap() >= changed_after);

    let (second, endpoints) = web.next().await;
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| &*endpoint.address).collect();
    assert_eq!(addresses, ["127.0.0.2:80", "127.0.0.3:80"]);
    let after = second - first;
    assert!((S * 4..S * 6).contains(&after), "{after:?}");
    assert_eq!(web.status.counts(), [("lookups", 2), ("failures", 0), ("endpoints", 2)]);
    assert!(web.status.age(Instant::now()).unwrap() < S * 4);
    web.end().await;
}

#[tokio::test]
async fn srv_records_say_port_priority_and_weight() {
    let nsd = Nsd::start(
        "_http._tcp 9 IN SRV 10 3 8080 a\n_http._tcp 9 IN SRV 10 1 8081 b\n_http._tcp 9 IN SRV 20 5 80 c\n\
         _http._tcp 9 IN SRV 0 1 1 nobody\na 9 IN A 127.0.0.1\nb 9 IN A 127.0.0.2\nc 9 IN AAAA ::1\n\
         _grpc._tcp 9 IN SRV 0 30 80 two\n_grpc._tcp 9 IN SRV 0 20 80 b\ntwo 9 IN A 127.0.0.5\ntwo 9 IN A 127.0.0.6\n\
         _off._tcp 9 IN SRV 0 0 0 .",
    );
    serves(&nsd, "srv://_http._tcp.shop.test", &["127.0.0.1:8080", "127.0.0.2:8081", "[::1]:80"]).await;
    let shown = |endpoints: &[Endpoint]| {
        let shown = endpoints.iter().map(|e| (e.instance.clone(), e.priority, e.weight, e.protocol.name()));
        shown.collect::<Vec<_>>()
    };
    let mut http = Asked::start("srv://_http._tcp.shop.test", &nsd, Bounds::default());
    let expected = [("127.0.0.1:8080", 10, 3), ("127.0.0.2:8081", 10, 1), ("[::1]:80", 20, 5)]
        .map(|(at, p, w)| (at.to_owned(), p, w, "http"));
    assert_eq!(shown(&http.next().await.1), expected);
    let mut grpc = Asked::start("srv://_grpc._tcp.shop.test", &nsd, Bounds::default());
    let expected = [("127.0.0.2:80", 133), ("127.0.0.5:80", 100), ("127.0.0.6:80", 100)];
    let expected = expected.map(|(at, weight)| (at.to_owned(), 0, weight, "grpc"));
    assert_eq!(shown(&grpc.next().await.1), expected, "the two addresses share the 30 of their host");
    let off = Asker::new(
        Target::parse("srv://_off._tcp.shop.test").unwrap(),
        Resolver { server: Some(nsd.address), bounds: quick(), ..Resolver::default() },
    )
    .ask()
    .await;
    assert!(matches!(off, Heard::Absent { .. }), "{off:?}");
    http.end().await;
    grpc.end().await;
}

#[tokio::test]
async fn a_host_of_an_srv_answer_that_cannot_be_found_holds_nobody_back() {
    // The server refuses to speak of other zones than its own.
    let nsd = Nsd::start(
        "_http._tcp 1 IN SRV 0 1 80 a\n_http._tcp 1 IN SRV 0 1 80 b.other.test.\na 1 IN A 127.0.0.1",
    );
    serves(&nsd, "srv://_http._tcp.shop.test", &["127.0.0.1:80"]).await;
    let mut http = Asked::start("srv://_http._tcp.shop.test", &nsd, quick());
    assert_eq!(http.addresses().await, ["127.0.0.1:80"]);
    http.fails(1).await;
    nsd.change(
        "_http._tcp 1 IN SRV 0 1 80 a\n_http._tcp 1 IN SRV 0 1 80 b\na 1 IN A 127.0.0.1\nb 1 IN A 127.0.0.2",
    );
    assert_eq!(http.addresses().await, ["127.0.0.1:80", "127.0.0.2:80"]);
    // What was known of it stands in for it.
    nsd.change("_http._tcp 1 IN SRV 0 1 80 a\n_http._tcp 1 IN SRV 0 1 80 b\na 1 IN A 127.0.0.3\nb 1 IN CNAME b.other.test.");
    assert_eq!(http.addresses().await, ["127.0.0.2:80", "127.0.0.3:80"]);
    http.end().await;
}

#[tokio::test]
async fn version_six_is_for_hosts_without_version_four() {
    let nsd = Nsd::start(
        "six 9 IN AAAA ::1\nsix 9 IN AAAA 2001:db8::2\nboth 9 IN A 127.0.0.1\nboth 9 IN AAAA ::1\nalias 9 IN CNAME six",
    );
    serves(&nsd, "dns://six.shop.test:80", &["[2001:db8::2]:80", "[::1]:80"]).await;
    let mut six = Asked::start("dns://alias.shop.test:80", &nsd, Bounds::default());
    assert_eq!(six.addresses().await, ["[2001:db8::2]:80", "[::1]:80"]);
    let mut both = Asked::start("dns://both.shop.test:80", &nsd, Bounds::default());
    assert_eq!(both.addresses().await, ["127.0.0.1:80"]);
    six.end().await;
    both.end().await;
}

#[tokio::test]
async fn an_answer_too_large_for_a_datagram_comes_over_tcp() {
    let addresses: Vec<_> = (1..=200).map(|i| format!("127.0.1.{i}")).collect();
    let records: Vec<_> = addresses.iter().map(|address| format!("web 9 IN A {address}")).collect();
    let nsd = Nsd::start(&format!("{}\nns2 9 IN A 127.0.0.1", records.join("\n")));
    serves(&nsd, "dns://ns2.shop.test:80", &["127.0.0.1:80"]).await;
    let mut web = Asked::start("dns://web.shop.test:80", &nsd, Bounds::default());
    let mut expected: Vec<_> = addresses.iter().map(|address| format!("{address}:80")).collect();
    expected.sort();
    assert_eq!(web.addresses().await, expected);
    web.end().await;
}

#[tokio::test]
async fn the_last_good_answer_stays_while_the_server_is_away_or_fails() {
    let mut nsd = Nsd::start("web 1 IN A 127.0.0.1");
    serves(&nsd, "dns://web.shop.test:80", &["127.0.0.1:80"]).await;
    let mut web = Asked::start("dns://web.shop.test:80", &nsd, quick());
    assert_eq!(web.addresses().await, ["127.0.0.1:80"]);
    nsd.stop();
    web.fails(3).await;
    // A server that has lost its zone answers SERVFAIL.
    nsd.forget();
    nsd.restart();
    let resolver = Resolver { server: Some(nsd.address), bounds: quick(), ..Resolver::default() };
    let mut asker = Asker::new(Target::parse("dns://web.shop.test:80").unwrap(), resolver);
    let serv_fails = async {
        while !matches!(asker.ask().await, Heard::Failed(why) if why.contains("Server Failure")) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, serv_fails).await.is_ok(), "{}", nsd.log());
    web.fails(3).await;
    assert!(web.told.try_recv().is_err(), "nothing was taken away");
    assert_eq!(web.count("endpoints"), 1);
    let age = web.status.age(Instant::now()).unwrap();
    assert!(age > S, "{age:?}");

    nsd.stop();
    nsd.write("web 1 IN A 127.0.0.2");
    nsd.restart();
    assert_eq!(web.addresses().await, ["127.0.0.2:80"]);
    assert!(web.status.age(Instant::now()).unwrap() < age);
    web.end().await;
}

#[tokio::test]
async fn endpoints_go_when_the_last_good_answer_is_too_old() {
    let mut nsd = Nsd::start("web 1 IN A 127.0.0.1");
    serves(&nsd, "dns://web.shop.test:80", &["127.0.0.1:80"]).await;
    let mut web = Asked::start("dns://web.shop.test:80", &nsd, Bounds { stale: S * 3, ..quick() });
    let (first, endpoints) = web.next().await;
    assert_eq!(endpoints.len(), 1);
    nsd.stop();
    let (gone, endpoints) = web.next().await;
    assert_eq!(endpoints, []);
    assert!(gone - first >= S * 3, "{:?}", gone - first);
    assert_eq!((web.status.age(Instant::now()), web.count("endpoints")), (None, 0));
    nsd.restart();
    assert_eq!(web.addresses().await, ["127.0.0.1:80"]);
    web.end().await;
}

#[tokio::test]
async fn a_name_that_vanishes_keeps_its_endpoints_for_a_moment() {
    let nsd = Nsd::start("web 1 IN A 127.0.0.1");
    serves(&nsd, "dns://web.shop.test:80", &["127.0.0.1:80"]).await;
    let mut web = Asked::start("dns://web.shop.test:80", &nsd, Bounds { absent: S * 3, ..quick() });
    let (first, _) = web.next().await;
    nsd.change("api 1 IN A 127.0.0.1");
    serves(&nsd, "dns://api.shop.test:80", &["127.0.0.1:80"]).await;
    let (gone, endpoints) = web.next().await;
    assert_eq!(endpoints, []);
    assert!(gone - first >= S * 3, "{:?}", gone - first);
    assert_eq!(web.count("failures"), 0, "that there are none is an answer");
    nsd.change("web 1 IN A 127.0.0.2");
    assert_eq!(web.addresses().await, ["127.0.0.2:80"]);
    web.end().await;
}

//! The shop of `examples/shop` as its README has it: five instances of search, of which one fails at a time.
//!
//! Everything is started by the example's own script; visitors come in at its two doors and are answered, whatever
//! is broken.

#![allow(clippy::unwrap_used, reason = "this is a test")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::{Process, until};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Visits per second at the door in the north, so many that instances have several requests under way at times, and
/// at the one in the south.
const NORTH: f64 = 50.0;
const SOUTH: f64 = 25.0;
/// Visitors give up after this; nobody should.
const PATIENCE: Duration = Duration::from_secs(8);
/// Visits that may fail while a fault is not yet known: 2 %.
const WHILE_UNKNOWN: f64 = 0.02;

/// The shop, and what it said when it opened.
struct Shop {
    script: Option<Process>,
    _data: tempfile::TempDir,
    control: String,
    north: String,
    south: String,
    http: String,
    /// What the proxy of `web-north` tells.
    admin: String,
    client: reqwest::Client,
}

impl Shop {
    async fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
        let data = tempfile::tempdir().unwrap();
        let weir = env!("CARGO_BIN_EXE_weir");
        let mut command = Command::new(folder.join("run.py"));
        command.args(["--visits", "0"]).env("WEIR", weir).env_remove("WEIR_PROXY");
        command.env("SHOP_PORT", "0").env("SHOP_DATA", data.path());
        let mut script = Process::start("examples/shop/run.py", &mut command);
        let ready = script.ready();
        Self {
            control: ready.get("control"),
            north: ready.get("north"),
            south: ready.get("south"),
            http: ready.get("http"),
            admin: ready.get("admin"),
            client: reqwest::Client::builder().timeout(PATIENCE).build().unwrap(),
            script: Some(script),
            _data: data,
        }
    }

    /// Breaks an instance, or mends it: `none`.
    async fn fault(&self, instance: &str, fault: &str) {
        let url = format!("http://{}/{instance}/{fault}", self.control);
        assert!(reqwest::Client::new().post(url).send().await.unwrap().status().is_success());
    }

    /// How many requests of callers reached each instance of search; those that are down are missing.
    async fn reached(&self) -> BTreeMap<String, u64> {
        let told: Value =
            reqwest::get(format!("http://{}", self.control)).await.unwrap().json().await.unwrap();
        let told = told.as_array().unwrap().iter();
        told.filter_map(|one| Some((one["instance"].as_str()?.to_owned(), one["requests"].as_u64()?)))
            .collect()
    }

    async fn sql(&self, query: &str) -> Vec<Value> {
        let body = serde_json::json!({ "query": query });
        let url = format!("http://{}/api/sql", self.http);
        let answer: Value = self.client.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        answer["rows"].as_array().unwrap_or_else(|| panic!("`{query}` answered {answer}")).clone()
    }

    /// The state in which the proxy of `web-north` has its breaker for an instance.
    async fn breaker(&self, instance: &str) -> String {
        let told: Value =
            reqwest::get(format!("http://{}/breakers", self.admin)).await.unwrap().json().await.unwrap();
        let mut breakers = told["breakers"].as_array().unwrap().iter();
        let found = breakers.find(|one| one["endpoint"] == instance);
        found.unwrap_or_else(|| panic!("no {instance} in {told}"))["state"].as_str().unwrap().to_owned()
    }

    /// Visitors at `door` until they are called back, so many per second.
    fn visitors(&self, door: &str, rate: f64, headers: &[(&'static str, &'static str)]) -> Visitors {
        let (client, url) = (self.client.clone(), format!("http://{door}/search?q=tea"));
        let (stop, headers) = (Arc::new(AtomicBool::new(false)), headers.to_vec());
        let stopped = Arc::clone(&stop);
        let come = async move {
            let (mut next, mut visits) = (Instant::now(), vec![]);
            while !stopped.load(Ordering::Relaxed) {
                // At random, as people come; those who are late on a busy machine do not come in a crowd.
                next = next.max(Instant::now())
                    + Duration::from_secs_f64(-fastrand::f64().max(1e-9).ln() / rate);
                sleep_until(next).await;
                let mut request = client.get(&url);
                for (name, value) in &headers {
                    request = request.header(*name, *value);
                }
                visits.push(tokio::spawn(visit(request)));
            }
            let mut seen = Seen::default();
            for visit in visits {
                seen.note(visit.await.unwrap());
            }
            seen
        };
        Visitors { stop, seen: tokio::spawn(come) }
    }

    /// What visitors at both doors, north and south, see while `something` happens.
    async fn during<T>(&self, something: impl Future<Output = T>) -> (T, [Seen; 2]) {
        let (north, south) = (self.visitors(&self.north, NORTH, &[]), self.visitors(&self.south, SOUTH, &[]));
        let happened = something.await;
        (happened, [north.called_back().await, south.called_back().await])
    }

    /// What visitors at both doors see in so many seconds.
    async fn for_seconds(&self, seconds: u64) -> [Seen; 2] {
        self.during(sleep_until(Instant::now() + Duration::from_secs(seconds))).await.1
    }

    /// Ends the script, which ends all the others.
    fn close(mut self) {
        self.script.take().unwrap().stop();
    }
}

impl Drop for Shop {
    /// A test that fails leaves no processes behind: the script ends what it started when it is asked to.
    fn drop(&mut self) {
        if let Some(mut script) = self.script.take()
            && script.ended().is_none()
        {
            script.signal("TERM");
            script.wait(Duration::from_secs(20));
        }
    }
}

/// The instance of search that answered, or what was wrong.
async fn visit(request: reqwest::RequestBuilder) -> Result<String, String> {
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| format!("{error:?}"))?;
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    match told["instance"].as_str() {
        Some(instance) if status.is_success() => Ok(instance.to_owned()),
        _ => Err(format!("{status} {body}")),
    }
}

/// Visitors who are coming.
struct Visitors {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<Seen>,
}

impl Visitors {
    async fn called_back(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.await.unwrap()
    }
}

/// What visitors saw.
#[derive(Debug, Default)]
struct Seen {
    by: BTreeMap<String, u64>,
    errors: Vec<String>,
}

impl Seen {
    fn note(&mut self, visit: Result<String, String>) {
        match visit {
            Ok(instance) => *self.by.entry(instance).or_default() += 1,
            Err(error) => self.errors.push(error),
        }
    }

    fn visits(&self) -> u64 {
        self.by.values().sum::<u64>() + self.errors.len() as u64
    }

    /// The share of those that some of these instances answered.
    fn share(&self, instances: &[&str]) -> f64 {
        let by = instances.iter().filter_map(|name| self.by.get(*name)).sum::<u64>();
        by as f64 / self.visits().max(1) as f64
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_five_instances_fails_and_callers_do_not_notice() {
    let shop = Shop::open().await;
    all_five_serve_near_their_callers_and_by_the_split(&shop).await;
    errors_put_an_instance_aside_while_its_health_check_is_good(&shop).await;
    // The one that failed has probes to pass; meanwhile another hangs.
    shop.fault("search-2", "none").await;
    an_instance_that_hangs_is_found_by_its_checks(&shop).await;
    shop.fault("search-3", "none").await;
    until("traffic of what was mended", 25, async || {
        let [north, _] = shop.for_seconds(1).await;
        assert_eq!(north.errors, Vec::<String>::new());
        (north.by.contains_key("search-2") && north.by.contains_key("search-3")).then_some(())
    })
    .await;
    the_far_zone_takes_over_when_the_near_one_is_gone(&shop).await;
    edges_tell_of_it(&shop).await;
    shop.close();
}

async fn all_five_serve_near_their_callers_and_by_the_split(shop: &Shop) {
    let testers = shop.visitors(&shop.south, 10.0, &[("x-beta", "1")]);
    let [north, south] = shop.for_seconds(4).await;
    for seen in [&north, &south] {
        assert_eq!(seen.errors, Vec::<String>::new());
        // 1 in 5, give or take four sigma of 60 visits.
        let v2 = seen.share(&["search-3", "search-5"]);
        assert!(seen.visits() > 60 && (0.02..0.41).contains(&v2), "{seen:?}");
    }
    assert!(north.share(&["search-1", "search-2", "search-3"]) > 0.95, "{north:?}");
    assert!(south.share(&["search-4", "search-5"]) > 0.95, "{south:?}");
    assert!(north.share(&["search-1"]) > 0.1 && north.share(&["search-2"]) > 0.1, "{north:?}");
    let testers = testers.called_back().await;
    assert!(testers.visits() > 15 && testers.share(&["search-5"]) > 0.9, "{testers:?}");
    assert_eq!(testers.share(&["search-3", "search-5"]), 1.0, "{testers:?}");
}

async fn errors_put_an_instance_aside_while_its_health_check_is_good(shop: &Shop) {
    let before = shop.reached().await["search-2"];
    shop.fault("search-2", "errors").await;
    let found = until("open breaker", 15, async || (shop.breaker("search-2").await == "open").then_some(()));
    let (_, seen) = shop.during(found).await;
    almost_nobody_noticed(&seen);
    assert!(shop.reached().await["search-2"] >= before + 3, "three errors in a row eject");
    nobody_notices(shop, "search-2").await;
}

async fn an_instance_that_hangs_is_found_by_its_checks(shop: &Shop) {
    let before = shop.reached().await["search-3"];
    shop.fault("search-3", "hang").await;
    // Before it is known, every fifth visitor in the north, ten a second, asks it.
    until("second with hardly a request", 15, async || {
        let known = shop.reached().await["search-3"];
        almost_nobody_noticed(&shop.for_seconds(1).await);
        (known > before && shop.reached().await["search-3"] <= known + 2).then_some(())
    })
    .await;
    nobody_notices(shop, "search-3").await;
}

/// What visitors see while a fault is not yet known.
fn almost_nobody_noticed(seen: &[Seen]) {
    for seen in seen {
        assert!(seen.errors.len() as f64 <= WHILE_UNKNOWN * seen.visits() as f64, "{seen:?}");
    }
}

/// What they see when it is known: nothing. The instance gets probes and no more, at most one a second from each of
/// the two proxies that call it.
async fn nobody_notices(shop: &Shop, instance: &str) {
    const SECONDS: u64 = 3;
    let before = shop.reached().await[instance];
    let mut visits = 0;
    for seen in shop.for_seconds(SECONDS).await {
        assert_eq!(seen.errors, Vec::<String>::new(), "{instance}");
        assert!(!seen.by.contains_key(instance), "{seen:?}");
        visits += seen.visits();
    }
    let probes = shop.reached().await[instance] - before;
    assert!(visits > 90 && probes <= 2 * SECONDS + 2, "{probes} of {visits} requests reached {instance}");
}

async fn the_far_zone_takes_over_when_the_near_one_is_gone(shop: &Shop) {
    let near = ["search-1", "search-2", "search-3"];
    let all = async |fault: &str| {
        for instance in near {
            shop.fault(instance, fault).await;
        }
    };
    almost_nobody_noticed(&shop.during(all("crash")).await.1);
    let [north, _] = shop.for_seconds(2).await;
    assert_eq!((&north.errors, north.share(&["search-4", "search-5"])), (&vec![], 1.0), "{north:?}");
    let (_, seen) = shop.during(all("none")).await;
    almost_nobody_noticed(&seen);
    until("near instances for callers in the north", 15, async || {
        let [north, _] = shop.for_seconds(1).await;
        assert_eq!(north.errors, Vec::<String>::new());
        (north.share(&near) == 1.0).then_some(())
    })
    .await;
}

async fn edges_tell_of_it(shop: &Shop) {
    let cart = shop.client.get(format!("http://{}/cart", shop.north)).send().await.unwrap();
    let cart: Value = cart.json().await.unwrap();
    assert_eq!(cart["total"], 28.5);
    let edges = "select client, server, endpoint, sum(calls) calls, sum(errors) errors from edges \
                 where reporter = 'source' group by 1, 2, 3";
    until("edges of the whole shop", 10, async || {
        let rows = shop.sql(edges).await;
        let has = |client: &str, server: &str, endpoint: &str| {
            let is = |row: &&Value| {
                row["client"] == client && row["server"] == server && row["endpoint"] == endpoint
            };
            rows.iter().find(is).is_some_and(|row| row["calls"].as_u64() > Some(0))
        };
        let search = (1..=5).all(|n| has("web", "search", &format!("search-{n}")));
        (search && has("web", "cart", "cart-1") && has("cart", "catalog", "catalog-1")).then_some(())
    })
    .await;
    let failed = "select endpoint from edges where client = 'web' and server = 'search' and reporter = 'source' \
                  group by 1 having sum(errors) >= 3 order by 1";
    let failed: Vec<Value> = shop.sql(failed).await.into_iter().map(|row| row["endpoint"].clone()).collect();
    assert!(failed.contains(&"search-2".into()), "{failed:?}");
    assert!(!failed.contains(&"search-4".into()) && !failed.contains(&"search-5".into()), "{failed:?}");
    let traces = "select count(*) from spans s join spans w on s.trace_id = w.trace_id \
                  where w.service = 'web' and s.service = 'search' and s.name = 'GET /search'";
    let rows = shop.sql(traces).await;
    assert!(rows[0].as_object().unwrap().values().next().unwrap().as_u64() > Some(100), "{rows:?}");
}

//! What all routes share, and those that ask about series and about the server.

use std::io::Read;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ORIGIN, VARY};

use super::*;

async fn respond(state: &State, request: http::request::Builder) -> axum::response::Response {
    api::router(state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn data(body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(body["status"], "success", "{body}");
    body["data"].clone()
}

async fn early() -> (State, Storage, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    (over(&storage), storage, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_is_told_what_a_query_took() {
    let (state, _storage, _folder) = early().await;
    let ask = async |stats: &[(&str, &str)]| {
        let range = [("start", "60"), ("end", "120"), ("step", "30")];
        let query = [("query", "sum(rate(istio_requests_total[1m]))")];
        let parameters: Vec<_> = query.iter().chain(&range).chain(stats).copied().collect();
        data(&get(&state, "query_range", &parameters).await.1)
    };
    assert_eq!(ask(&[]).await.get("stats"), None);
    let told = ask(&[("stats", "all")]).await["stats"].clone();
    // Two series, four samples within each of three windows.
    assert_eq!(told["samples"]["totalQueryableSamples"], 24, "{told}");
    let took = |name: &str| told["timings"][name].as_f64().unwrap();
    assert!(took("innerEvalTime") > 0.0 && took("execTotalTime") >= took("evalTotalTime"), "{told}");
}

#[tokio::test]
async fn pages_of_other_origins_may_ask() {
    let state = State::new(testdata::engine([]), TenantId::default(), testdata::clock());
    for path in ["query?query=1", "label/job/values", "status/flags"] {
        let request = Request::options(format!("/api/v1/{path}")).header(ORIGIN, "http://elsewhere");
        let response = respond(&state, request).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("access-control-allow-origin"), Some("*"));
        assert_eq!(header("access-control-allow-methods"), Some("GET, POST, OPTIONS"));
        assert_eq!(
            header("access-control-allow-headers"),
            Some("Accept, Authorization, Content-Type, Origin")
        );
        assert_eq!(header("access-control-expose-headers"), Some("Date"));
    }
    let response = respond(&state, Request::get("/api/v1/labels")).await;
    assert!(response.headers().get("access-control-allow-origin").is_none());
    assert!(response.headers().get_all(VARY).iter().any(|vary| vary == "Origin"));
}

#[tokio::test]
async fn whoever_takes_gzip_gets_it() {
    let (state, _storage, _folder) = early().await;
    let request = Request::get("/api/v1/series?match[]=odd").header(ACCEPT_ENCODING, "gzip, deflate");
    let response = respond(&state, request).await;
    assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    let (_, plain) = get(&state, "series", &[("match[]", "odd")]).await;
    assert_eq!(text, plain);
}

#[tokio::test]
async fn expressions_are_laid_out_and_taken_apart() {
    let state = State::new(testdata::engine([]), TenantId::default(), testdata::clock());
    let pairs = [("query", "sum(rate(a[5m]))by(b)")];
    let (_, body) = get(&state, "format_query", &pairs).await;
    assert_eq!(body, r#"{"status":"success","data":"sum by (b) (rate(a[5m]))"}"#);
    let (_, body) = post(&state, "format_query", &pairs).await;
    assert_eq!(data(&body), "sum by (b) (rate(a[5m]))");
    let (_, body) = post(&state, "parse_query", &pairs).await;
    assert_eq!(data(&body)["expr"]["func"]["name"], "rate");
    let (_, body) = get(&state, "parse_query", &[("query", "a")]).await;
    assert_eq!(
        data(&body),
        json!({"type": "vectorSelector", "name": "a", "offset": 0, "timestamp": null, "startOrEnd": null,
            "anchored": false, "smoothed": false, "matchers": [{"name": "__name__", "type": "=", "value": "a"}]})
    );
}

#[tokio::test]
async fn features_are_off_until_they_are_named() {
    let mut state = State::new(testdata::engine([]), TenantId::default(), testdata::clock());
    let asked = [("query", "max_of(1, 2)")];
    let (status, body) = get(&state, "query", &asked).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    let mut settings = Settings::new(&state.clock);
    settings.options.features.functions = true;
    state.prometheus = Arc::new(settings);
    let (status, body) = get(&state, "query", &asked).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, _) = get(&state, "query", &[("query", "a smoothed")]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn labels_are_those_of_the_days_asked_for() {
    const DAY: i64 = 86_400;
    let day = |at: i64| (testdata::T0 + at * DAY) * 1_000_000;
    let row = |id: i64, job: &str, at: i64| {
        json!({"metric": "up", "series_id": id, "time": day(at),
            "labels": {"__name__": "up", "job": job, (format!("only_{job}")): "x"}})
    };
    let rows = vec![row(1, "old", -3), row(2, "new", 0), row(3, "both", -3), row(3, "both", 0)];
    let engine = testdata::engine([(Table::Series, rows)]);
    let state = State::new(engine, TenantId::default(), testdata::clock());
    let at = |days: i64| (testdata::T0 + days * DAY).to_string();
    for (start, end, jobs) in [
        (None, None, vec!["both", "new", "old"]),
        (Some(-3), Some(-2), vec!["both", "old"]),
        (Some(-1), None, vec!["both", "new"]),
        (None, Some(-4), vec![]),
    ] {
        let mut pairs = Vec::new();
        let (start, end) = (start.map(at), end.map(at));
        pairs.extend(start.as_deref().map(|start| ("start", start)));
        pairs.extend(end.as_deref().map(|end| ("end", end)));
        let (_, body) = get(&state, "label/job/values", &pairs).await;
        assert_eq!(data(&body), json!(jobs), "{pairs:?}");
        let (_, body) = get(&state, "labels", &pairs).await;
        let names = data(&body);
        for job in ["old", "new", "both"] {
            let has = names.as_array().unwrap().contains(&json!(format!("only_{job}")));
            assert_eq!(has, jobs.contains(&job), "{pairs:?} {job}");
        }
        pairs.extend([("match[]", "up{job=\"old\"}"), ("match[]", "up{job=\"new\"}")]);
        let (_, body) = get(&state, "series", &pairs).await;
        let found: Vec<Value> =
            data(&body).as_array().unwrap().iter().map(|one| one["job"].clone()).collect();
        let wanted: Vec<&str> = jobs.into_iter().filter(|job| *job != "both").collect();
        assert_eq!(json!(found), json!(wanted), "{pairs:?}");
    }
}

#[tokio::test]
async fn too_many_series_are_named() {
    let (mut state, _storage, _folder) = early().await;
    let mut settings = Settings::new(&state.clock);
    settings.options.series = 2;
    state.prometheus = Arc::new(settings);
    let (status, body) = get(&state, "query", &[("query", "request_seconds_bucket"), ("time", "60")]).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let message = "query processing would read 3 series for one selector (limit 2); add conditions on labels";
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap(),
        json!({"status": "error", "errorType": "execution", "error": message})
    );
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let (state, storage, _folder) = early().await;
    storage.flush().await.unwrap();
    write(&storage, LATE).await;
    let (_, body) = get(&state, "status/tsdb", &[("limit", "2")]).await;
    let status = data(&body);
    assert_eq!(
        status["headStats"],
        json!({"numSeries": 8, "numLabelPairs": status["headStats"]["numLabelPairs"], "chunkCount": 2,
            "minTime": 0, "maxTime": 600_000})
    );
    assert_eq!(
        status["seriesCountByMetricName"],
        json!([{"name": "request_seconds_bucket", "value": 3}, {"name": "istio_requests_total", "value": 2}])
    );
    for list in ["labelValueCountByLabelName", "memoryInBytesByLabelName", "seriesCountByLabelValuePair"] {
        assert_eq!(status[list].as_array().unwrap().len(), 2, "{list}");
    }
    let (_, body) = get(&state, "status/flags", &[]).await;
    let flags = data(&body);
    assert_eq!(flags["query.timeout"], "2m");
    assert_eq!(flags["query.lookback-delta"], "5m");
    assert_eq!(flags["query.max-concurrency"], "20");
    assert_eq!(flags["query.max-samples"], "50000000");
    let (_, body) = get(&state, "status/runtimeinfo", &[]).await;
    let info = data(&body);
    assert_eq!(info["startTime"], "2026-11-24T12:01:00Z");
    assert_eq!(info["storageRetention"], "forever");
    assert_eq!(info["reloadConfigSuccess"], true);
    let (_, body) = get(&state, "status/walreplay", &[]).await;
    assert_eq!(data(&body), json!({"min": 0, "max": 0, "current": 0}));
    let (_, body) = get(&state, "status/buildinfo", &[]).await;
    assert_eq!(data(&body)["version"], "3.14.0");
    assert!(data(&body).get("features").is_none());
}

#[tokio::test]
async fn newest_samples_are_federated() {
    let at = |seconds: i64| (testdata::T0 + seconds) * 1_000_000;
    let labels = |job: &str| Labels::new([("__name__", "up"), ("job", job)]);
    let id = |job: &str| labels(job).id().to_column();
    let series = ["a", "b", "gone", "old"].map(|job| {
        json!({"metric": "up", "series_id": id(job), "time": at(0), "labels": {"__name__": "up", "job": job}})
    });
    let sample = |job: &str, seconds: i64, value: f64| json!({"metric": "up", "series_id": id(job), "time": at(seconds), "value": value});
    // The clock stands at 60 s.
    let samples = vec![
        sample("a", 30, 0.0),
        sample("a", 60, 1.0),
        sample("b", -240, 0.5),
        sample("old", -241, 1.0),
        sample("gone", 10, 1.0),
        sample("b", 61, 7.0),
    ];
    let engine = testdata::engine([(Table::Series, series.to_vec()), (Table::Samples, samples)]);
    let state = State::new(engine, TenantId::default(), testdata::clock());
    let request = Request::get(format!(
        "/federate?{}",
        encoded(&[("match[]", "up{job=~\"a|old\"}"), ("match[]", "up{job!=\"gone\"}")])
    ));
    let response = respond(&state, request).await;
    assert_eq!(
        response.headers()[CONTENT_TYPE],
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let ms = |seconds: i64| (testdata::T0 + seconds) * 1000;
    let expected = format!(
        "# TYPE up untyped\nup{{job=\"a\",instance=\"\"}} 1 {}\nup{{job=\"b\",instance=\"\"}} 0.5 {}\n",
        ms(60),
        ms(-240)
    );
    assert_eq!(String::from_utf8_lossy(&body), expected);
    let request = Request::get(format!("/federate?{}", encoded(&[("match[]", "up[")])));
    let response = respond(&state, request).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

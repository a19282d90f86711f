mod cancel;
mod grafana;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;
use weir_model::TenantId;
use weir_storage::{Labels, Options as StorageOptions, Storage, Table, WriteBatch};

use super::*;
use crate::engine::{Engine, EngineOptions};
use crate::promql::script::loaded;
use crate::{api, testdata};

/// Ten minutes of samples; `late` ones follow the others.
const EARLY: &str = r#"
    load 15s
      istio_requests_total{reporter="source",destination_service="payments",response_code="200"} 0+30x20
      istio_requests_total{reporter="destination",destination_service="payments",response_code="200"} 0+30x20
      odd{path="a\"b\\c",name="grüße ✓"} 1 NaN Inf -Inf 0.0000001 1e+21 -0 0.1
      gone 1 2 stale _ 5
      {"service.up","k8s.pod"="x"} 1x40
      request_seconds_bucket{le="0.1"} 0+8x40
      request_seconds_bucket{le="1"} 0+9x40
      request_seconds_bucket{le="+Inf"} 0+10x40
"#;
const LATE: &str = r#"
    load 15s
      istio_requests_total{reporter="source",destination_service="payments",response_code="200"} _x21 630+30x19
      istio_requests_total{reporter="destination",destination_service="payments",response_code="200"} _x21 10+30x19
"#;

async fn open(folder: &tempfile::TempDir) -> Storage {
    let options = StorageOptions {
        flush_age: Duration::from_secs(3600),
        flush_bytes: 1 << 30,
        ..StorageOptions::new(folder.path().to_owned(), testdata::clock())
    };
    Storage::open(options).await.unwrap()
}

fn over(storage: &Storage) -> State {
    let options = EngineOptions { threads: 2, ..EngineOptions::new(testdata::clock()) };
    let engine = Arc::new(Engine::new(storage.clone(), options).unwrap());
    State::new(engine, TenantId::default(), testdata::clock())
}

async fn write(storage: &Storage, script: &str) {
    storage.writer().write(loaded(TenantId::default(), script)).await.unwrap();
}

/// What metrics are about, as the collector notes it with their series.
fn described() -> WriteBatch {
    let row = |id: u64, metric: &str, kind: &str, unit: &str| json!({"metric": metric, "series_id": id, "labels": {"__name__": metric}, "type": kind, "unit": unit, "help": "Calls."});
    let rows = [row(7, "calls_total", "counter", ""), row(8, "call_seconds_bucket", "histogram", "seconds")];
    WriteBatch {
        tenant: TenantId::default(),
        parts: rows.map(|row| (Table::Series, testdata::batch(Table::Series, [row]))).into(),
    }
}

async fn send(state: &State, request: Request<Body>) -> (StatusCode, String) {
    let response = api::router(state.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 26).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn get(state: &State, path: &str, pairs: &[(&str, &str)]) -> (StatusCode, String) {
    let request = Request::get(format!("/api/v1/{path}?{}", encoded(pairs)));
    send(state, request.body(Body::empty()).unwrap()).await
}

async fn post(state: &State, path: &str, pairs: &[(&str, &str)]) -> (StatusCode, String) {
    let request = Request::post(format!("/api/v1/{path}"));
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    send(state, request.body(Body::from(encoded(pairs))).unwrap()).await
}

const AS_TYPED: &str = r#"rate(istio_requests_total{reporter="source",destination_service="payments"}[5m])"#;

/// Questions and what they are answered with, each a line.
async fn answers(state: &State) -> String {
    let mut out = String::new();
    for (path, pairs) in [
        ("query", vec![("query", AS_TYPED), ("time", "600")]),
        ("query", vec![("query", "1 + 1"), ("time", "4")]),
        ("query", vec![("query", "\"grüße\""), ("time", "1970-01-01T00:00:04.5Z")]),
        ("query", vec![("query", "gone[1m]"), ("time", "60")]),
        ("query", vec![("query", "gone"), ("time", "30")]),
        ("query", vec![("query", "gone"), ("time", "200"), ("lookback_delta", "2m20s")]),
        ("query", vec![("query", "gone"), ("time", "200"), ("lookback_delta", "2m21s")]),
        ("query", vec![("query", "{\"service.up\"}"), ("time", "600.125")]),
        ("query", vec![("query", "sort(istio_requests_total)"), ("time", "450"), ("limit", "1")]),
        (
            "query",
            vec![("query", "histogram_quantile(0.85, rate(request_seconds_bucket[5m]))"), ("time", "600")],
        ),
        ("query", vec![("query", "rate(gone[1m])"), ("time", "60")]),
        ("query", vec![("query", "quantile(2, gone)"), ("time", "60")]),
        ("query_range", vec![("query", "odd"), ("start", "0"), ("end", "105"), ("step", "15s")]),
        ("query_range", vec![("query", "gone"), ("start", "0"), ("end", "60"), ("step", "15")]),
        (
            "query_range",
            vec![
                ("query", "sum by (reporter) (increase(istio_requests_total[1m]))"),
                ("start", "270"),
                ("end", "1970-01-01T00:06:00Z"),
                ("step", "30s"),
                ("timeout", "30s"),
            ],
        ),
        (
            "query_range",
            vec![
                ("query", "istio_requests_total"),
                ("start", "300"),
                ("end", "315"),
                ("step", "15"),
                ("limit", "1"),
            ],
        ),
        ("query_range", vec![("query", "time()"), ("start", "0"), ("end", "1"), ("step", "0.25")]),
        ("labels", vec![]),
        ("labels", vec![("match[]", "gone"), ("match[]", "{\"service.up\"}")]),
        ("label/__name__/values", vec![("limit", "2")]),
        (
            "label/le/values",
            vec![("match[]", "request_seconds_bucket{le!=\"1\"}"), ("start", "0"), ("end", "600")],
        ),
        ("label/U__k8s_2e_pod/values", vec![]),
        ("label/nothing/values", vec![]),
        ("series", vec![("match[]", "odd"), ("match[]", "{__name__=~\"o.*|gone\"}")]),
        ("series", vec![("match[]", "{le=~\".+\"}"), ("limit", "2")]),
        ("metadata", vec![]),
        ("metadata", vec![("metric", "call_seconds")]),
        ("metadata", vec![("limit", "1"), ("limit_per_metric", "1")]),
        ("status/buildinfo", vec![]),
    ] {
        let (status, body) = get(state, path, &pairs).await;
        assert_eq!(status, StatusCode::OK, "{path} {pairs:?}: {body}");
        serde_json::from_str::<Value>(&body).unwrap();
        out.push_str(&format!("{path} {pairs:?}\n    {body}\n"));
    }
    out
}

#[tokio::test]
async fn answers_are_those_of_prometheus_before_and_after_flush_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    write(&storage, LATE).await;
    storage.writer().write(described()).await.unwrap();
    let hot = answers(&over(&storage)).await;
    insta::assert_snapshot!(hot);
    storage.flush().await.unwrap();
    assert_eq!(answers(&over(&storage)).await, hot, "after flush");
    storage.close().await.unwrap();
    let storage = open(&folder).await;
    assert_eq!(answers(&over(&storage)).await, hot, "after reopening");
}

#[tokio::test]
async fn flushed_and_hot_samples_are_one_series() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    storage.flush().await.unwrap();
    write(&storage, LATE).await;
    storage.writer().write(described()).await.unwrap();
    let both = answers(&over(&storage)).await;

    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    write(&storage, LATE).await;
    storage.writer().write(described()).await.unwrap();
    assert_eq!(both, answers(&over(&storage)).await);
}

#[tokio::test]
async fn forms_ask_like_query_strings() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    let state = over(&storage);
    for (path, pairs) in [
        ("query", vec![("query", AS_TYPED), ("time", "300")]),
        (
            "query_range",
            vec![("query", "sum(istio_requests_total)"), ("start", "0"), ("end", "300"), ("step", "60")],
        ),
        ("labels", vec![("match[]", "odd")]),
        ("series", vec![("match[]", "odd"), ("match[]", "gone")]),
    ] {
        let (status, body) = post(&state, path, &pairs).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(get(&state, path, &pairs).await.1, body, "{path}");
    }
    // What the body says goes before the query string.
    let request = Request::post("/api/v1/query?time=4&query=2")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
        .body(Body::from("query=1"))
        .unwrap();
    let (_, body) = send(&state, request).await;
    assert_eq!(body, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"1"]}}"#);
}

#[tokio::test]
async fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    let state = over(&storage);
    let range =
        |query, start, end, step| vec![("query", query), ("start", start), ("end", end), ("step", step)];
    let bad = (StatusCode::BAD_REQUEST, "bad_data");
    for (path, pairs, (status, kind), message) in [
        (
            "query",
            vec![("query", "sum(")],
            bad,
            "invalid parameter \"query\": 1:5: parse error: unexpected end of input, expected an expression",
        ),
        ("query", vec![], bad, "invalid parameter \"query\": 1:1: parse error: no expression found in input"),
        (
            "query",
            vec![("query", "mad_over_time(odd[5m])")],
            bad,
            "invalid parameter \"query\": 1:1: parse error: function \"mad_over_time\" is not enabled",
        ),
        (
            "query",
            vec![("query", "1"), ("time", "soon")],
            bad,
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"soon\" to a valid timestamp",
        ),
        (
            "query",
            vec![("query", "1"), ("timeout", "long")],
            bad,
            "invalid parameter \"timeout\": cannot parse \"long\" to a valid duration",
        ),
        (
            "query",
            vec![("query", "1"), ("limit", "-1")],
            bad,
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        (
            "query",
            vec![("query", "1"), ("limit", "x")],
            bad,
            "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            "query",
            vec![("query", "1"), ("lookback_delta", "x")],
            bad,
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            "query",
            vec![("query", "istio_requests_total * on () request_seconds_bucket"), ("time", "60")],
            (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            "found duplicate series for the match group {} on the right hand-side of the operation: \
             [{__name__=\"request_seconds_bucket\", le=\"0.1\"}, {__name__=\"request_seconds_bucket\", le=\"+Inf\"}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
        ),
        (
            "query",
            vec![("query", "max_over_time(vector(1)[100d:1s])"), ("timeout", "1ms")],
            (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            "query timed out in expression evaluation",
        ),
        (
            "query_range",
            range("1", "", "2", "1"),
            bad,
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            "query_range",
            range("1", "1", "x", "1"),
            bad,
            "invalid parameter \"end\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query_range",
            range("1", "2", "1", "1"),
            bad,
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range",
            range("1", "1", "2", "abc"),
            bad,
            "invalid parameter \"step\": cannot parse \"abc\" to a valid duration",
        ),
        (
            "query_range",
            range("1", "1", "2", "0"),
            bad,
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "query_range",
            range("1", "0", "11001", "1"),
            bad,
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "query_range",
            range("odd[5m]", "1", "2", "1"),
            bad,
            "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            "query_exemplars",
            vec![("query", "sum(")],
            bad,
            "1:5: parse error: unexpected end of input, expected an expression",
        ),
        (
            "query_exemplars",
            vec![("query", "odd"), ("start", "2"), ("end", "1")],
            bad,
            "end timestamp must not be before start timestamp",
        ),
        (
            "query_exemplars",
            vec![("query", "odd"), ("end", "x")],
            bad,
            "invalid parameter \"end\": invalid time value for 'end': cannot parse \"x\" to a valid timestamp",
        ),
        ("series", vec![], bad, "no match[] parameter provided"),
        (
            "series",
            vec![("match[]", "a b")],
            bad,
            "invalid parameter \"match[]\": 1:3: parse error: unexpected identifier \"b\"",
        ),
        ("labels", vec![("match[]", "rate(a[5m])")], bad, "1:5: parse error: unexpected \"(\""),
        ("labels", vec![("match[]", "{a=\"\"}")], bad, "match[] must contain at least one non-empty matcher"),
        (
            "labels",
            vec![("start", "x")],
            bad,
            "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp",
        ),
        (
            "label/job/values",
            vec![("match[]", "a[5m]"), ("limit", "9")],
            bad,
            "1:2: parse error: unexpected \"[\"",
        ),
        (
            "series",
            vec![("match[]", "odd"), ("match[]", "{x=~\".*\"}")],
            bad,
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        (
            "format_query",
            vec![("query", "a +")],
            bad,
            "invalid parameter \"query\": 1:4: parse error: unexpected end of input, expected an expression",
        ),
        (
            "parse_query",
            vec![("query", "a smoothed")],
            bad,
            "invalid parameter \"query\": 1:3: parse error: anchored or smoothed is experimental and not enabled",
        ),
        (
            "query",
            vec![("query", "1"), ("timeout", "1e300")],
            bad,
            "invalid parameter \"timeout\": cannot parse \"1e300\" to a valid duration. It overflows int64",
        ),
        ("status/tsdb", vec![("limit", "0")], bad, "limit must be a positive number"),
        ("status/tsdb", vec![("limit", "10001")], bad, "limit must not exceed 10000"),
        ("label/U__/values", vec![], bad, "invalid label name: \"\""),
        ("metadata", vec![("limit", "x")], bad, "limit must be a number"),
    ] {
        let (got, body) = get(&state, path, &pairs).await;
        let wanted = json!({"status": "error", "errorType": kind, "error": message});
        assert_eq!(
            (got, serde_json::from_str(&body).unwrap_or(json!(body))),
            (status, wanted),
            "{path} {pairs:?}"
        );
    }
}

#[tokio::test]
async fn a_range_may_have_eleven_thousand_steps() {
    let folder = tempfile::tempdir().unwrap();
    let state = over(&open(&folder).await);
    let pairs = [("query", "vector(1)"), ("start", "0"), ("end", "11000"), ("step", "1")];
    let (status, body) = get(&state, "query_range", &pairs).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["data"]["result"][0]["values"].as_array().unwrap().len(), 11_001);
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    let options = EngineOptions { threads: 2, queries: 1, ..EngineOptions::new(testdata::clock()) };
    let engine = Arc::new(Engine::new(storage, options).unwrap());
    let state = State::new(engine, TenantId::default(), testdata::clock());
    // A thousand million samples to look at.
    let endless = "max_over_time(max_over_time(vector(1)[1h:1s])[10d:1s])";
    let (status, _) = get(&state, "query", &[("query", endless), ("timeout", "200ms")]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let pairs = [("query", "1"), ("time", "0")];
    let next = tokio::time::timeout(Duration::from_secs(5), get(&state, "query", &pairs)).await;
    assert_eq!(next.expect("its turn").0, StatusCode::OK);
}

#[tokio::test]
async fn exemplars_of_the_series_that_an_expression_reads_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    let bucket = |le: &str| Labels::new([("__name__", "request_seconds_bucket"), ("le", le)]);
    let row = |labels: Labels, micros: i64, value: f64, trace: u8| {
        json!({"metric": labels.metric(), "series_id": labels.id().to_column(), "time": micros, "time_nanos": 9,
            "value": value, "trace_id": format!("{trace:032x}"), "span_id": format!("{trace:016x}"),
            "attributes_str": {"user": "u\"1"}, "attributes_long": {"n": 3}})
    };
    let rows = [
        row(bucket("0.1"), 1_500_999, 0.05, 1),
        row(bucket("0.1"), 1_500_999, 0.05, 1),
        row(bucket("0.1"), 2_000_000, 0.1, 2),
        row(bucket("1"), 1_000_000, 1.0, 3),
        row(Labels::new([("__name__", "another")]), 1_000_000, 1.0, 4),
    ];
    let parts = vec![(Table::Exemplars, testdata::batch(Table::Exemplars, rows))];
    storage.writer().write(WriteBatch { tenant: TenantId::default(), parts }).await.unwrap();
    let one = |trace: u8, value: &str, time: &str| {
        format!(
            "{{\"labels\":{{\"n\":\"3\",\"span_id\":\"{trace:016x}\",\"trace_id\":\"{trace:032x}\",\"user\":\"u\\\"1\"}},\
             \"value\":\"{value}\",\"timestamp\":{time}}}"
        )
    };
    let series = |le: &str, exemplars: &[String]| {
        format!(
            "{{\"seriesLabels\":{{\"__name__\":\"request_seconds_bucket\",\"le\":\"{le}\"}},\"exemplars\":[{}]}}",
            exemplars.join(",")
        )
    };
    let (first, second, third) = (one(1, "0.05", "1.500"), one(2, "0.1", "2"), one(3, "1", "1"));
    let of_tenth = series("0.1", &[first.clone(), second.clone()]);
    let of_both = format!("{of_tenth},{}", series("1", &[third]));
    let cases = [
        ("histogram_quantile(0.9, sum by (le) (rate(request_seconds_bucket[5m])))", "", "", of_both.clone()),
        ("request_seconds_bucket{le=\"0.1\"} / 2 + (odd)", "", "", of_tenth.clone()),
        ("-max_over_time(request_seconds_bucket{le=\"0.1\"}[1h:1m])", "0", "9", of_tenth),
        ("request_seconds_bucket", "1.5", "1.5", series("0.1", &[first])),
        ("request_seconds_bucket", "1.501", "", series("0.1", &[second])),
        ("topk(scalar(odd), request_seconds_bucket)", "", "1970-01-01T00:16:40Z", of_both),
        ("odd", "", "", String::new()),
        ("1 + 1", "", "", String::new()),
        ("nothing_of_that_name", "", "", String::new()),
    ];
    let check = async |state: &State| {
        for (query, start, end, expected) in &cases {
            let (status, body) =
                get(state, "query_exemplars", &[("query", query), ("start", start), ("end", end)]).await;
            let expected = format!("{{\"status\":\"success\",\"data\":[{expected}]}}");
            assert_eq!((status, body), (StatusCode::OK, expected), "{query}");
        }
    };
    check(&over(&storage)).await;
    storage.flush().await.unwrap();
    check(&over(&storage)).await;
}

use arrow::ipc::reader::StreamReader;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::testdata;

mod graph;

fn state() -> State {
    let engine = testdata::engine(testdata::shop());
    State::new(engine, TenantId::default(), testdata::clock())
}

async fn send(state: &State, request: Request<Body>) -> (StatusCode, String, Vec<u8>) {
    let response = router(state.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .map(|kind| kind.to_str().unwrap().to_owned())
        .unwrap_or_default();
    let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    (status, kind, body.to_vec())
}

async fn get(state: &State, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = send(state, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn sql(body: impl Into<Body>) -> Request<Body> {
    Request::post("/api/sql").body(body.into()).unwrap()
}

async fn ask(state: &State, query: &str) -> Value {
    let (status, _, body) = send(state, sql(json!({ "query": query }).to_string())).await;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::OK, "{query}: {answer}");
    answer
}

/// Without what differs from run to run.
fn steady(mut answer: Value) -> Value {
    answer["stats"]["elapsed_ms"] = json!(0);
    answer
}

const EVERY_TYPE: &str = "
    select cast(1 as smallint) as small, 9223372036854775807 as long, cast(1.5 as real) as real,
           cast('NaN' as double) as nan, cast('inf' as double) as inf, cast('-inf' as double) as minus, 1e300 as big,
           true as yes, null as nothing, 'a \"quoted\"\ntext' as text, X'00ff' as bytes,
           to_timestamp_nanos('2026-11-24T12:00:00.000000001Z') as at, date '2026-11-24' as day,
           interval '1 day' as gap, [1, 2] as list, cast(1.25 as decimal(10,2)) as money,
           map(['k'], [1]) as map, struct(1 as a, 'b' as b) as st, 1 as dup, 2 as \"dup_2\"";

#[tokio::test]
async fn sql_answers_in_json_with_every_type() {
    insta::assert_json_snapshot!(steady(ask(&state(), EVERY_TYPE).await));
}

#[tokio::test]
async fn integers_of_64_bits_are_numbers() {
    let (_, _, body) =
        send(&state(), sql(json!({"query": "select 9223372036854775807 as n"}).to_string())).await;
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains(r#""rows":[{"n":9223372036854775807}]"#), "{body}");
}

#[tokio::test]
async fn csv_and_arrow_are_chosen_by_accept() {
    let state = state();
    let query =
        json!({"query": "select service, name, http_route from spans order by start_time"}).to_string();
    let mut request = sql(query.clone());
    request.headers_mut().insert(ACCEPT, "text/csv".parse().unwrap());
    let (_, kind, body) = send(&state, request).await;
    assert_eq!(kind, "text/csv");
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "service,name,http_route\r\nfrontend,GET /cart,/cart\r\npayments,Pay,\r\nfrontend,GET /,\r\n"
    );
    let (_, _, body) =
        send(&state, sql(json!({"query": "select 'a,\"b' as x", "format": "csv"}).to_string())).await;
    assert_eq!(String::from_utf8(body).unwrap(), "x\r\n\"a,\"\"b\"\r\n");

    let mut request = sql(query);
    request.headers_mut().insert(ACCEPT, "application/vnd.apache.arrow.stream".parse().unwrap());
    let (_, kind, body) = send(&state, request).await;
    assert_eq!(kind, "application/vnd.apache.arrow.stream");
    let rows: usize =
        StreamReader::try_new(body.as_slice(), None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn errors_have_one_shape() {
    let state = state();
    for (body, status, code) in [
        (
            json!({"query": "select nothing from spans"}).to_string(),
            StatusCode::BAD_REQUEST,
            "unknown_column",
        ),
        (json!({"query": "drop table spans"}).to_string(), StatusCode::BAD_REQUEST, "not_read_only"),
        (json!({"query": "select 1", "format": "xml"}).to_string(), StatusCode::BAD_REQUEST, "bad_request"),
        (json!({"sql": "select 1"}).to_string(), StatusCode::BAD_REQUEST, "bad_request"),
        ("{".to_owned(), StatusCode::BAD_REQUEST, "bad_request"),
    ] {
        let (got, kind, answer) = send(&state, sql(body.clone())).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (got, kind.as_str(), &answer["error"]["code"]),
            (status, "application/json", &json!(code)),
            "{body}"
        );
        assert!(answer["error"]["message"].is_string());
    }
    for path in [
        "/api/graph?from=soon",
        "/api/graph?level=planet",
        "/api/traces?sort=size",
        "/api/traces?limit=many",
        "/api/traces?status=bad",
        "/api/traces/xyz",
        "/api/findings?to=-5",
    ] {
        let (status, answer) = get(&state, path).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!("bad_request")),
            "{path}"
        );
    }
    let (status, answer) = get(&state, "/api/traces/000000000000000000000000000000ff").await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
}

#[tokio::test]
async fn traces_are_found_by_what_one_span_did() {
    let state = state();
    let ids = |answer: &Value| -> Vec<String> {
        let traces = answer["traces"].as_array().unwrap();
        traces.iter().map(|trace| trace["trace_id"].as_str().unwrap()[30..].to_owned()).collect()
    };
    let (_, all) = get(&state, "/api/traces").await;
    insta::assert_json_snapshot!(all);
    for (path, found) in [
        ("/api/traces?sort=slow", vec!["a1", "b2"]),
        ("/api/traces?sort=recent&limit=1", vec!["b2"]),
        ("/api/traces?service=payments", vec!["a1"]),
        ("/api/traces?client=frontend&server=payments&endpoint=payments-2&status=error", vec!["a1"]),
        ("/api/traces?service=frontend&status=ok", vec!["b2"]),
        ("/api/traces?min_duration_ms=25", vec!["a1"]),
        ("/api/traces?service=payments&min_duration_ms=25", vec![]),
        ("/api/traces?from=-1s", vec![]),
        ("/api/traces?service=o%27brien", vec![]),
    ] {
        let (status, answer) = get(&state, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        assert_eq!(ids(&answer), found, "{path}");
        let again = ask(&state, answer["sql"].as_str().unwrap()).await;
        let rows = again["rows"].as_array().unwrap();
        let said: Vec<&str> = rows.iter().map(|row| &row["trace_id"].as_str().unwrap()[30..]).collect();
        assert_eq!(said, found, "{path}");
    }
}

#[tokio::test]
async fn a_trace_has_its_spans_once() {
    let rows = testdata::shop();
    let twice = rows.iter().chain(&rows).cloned().collect::<Vec<_>>();
    let state = State { engine: testdata::engine(twice), ..state() };
    let (_, trace) = get(&state, "/api/traces/000000000000000000000000000000A1").await;
    insta::assert_json_snapshot!(trace);
}

#[tokio::test]
async fn findings_hints_and_services_read_as_documented() {
    let state = state();
    let (_, findings) = get(&state, "/api/findings?active=true").await;
    insta::assert_json_snapshot!(findings);
    let (_, hints) = get(&state, "/api/hints?active=true").await;
    insta::assert_json_snapshot!(hints);
    let (_, services) = get(&state, "/api/services").await;
    insta::assert_json_snapshot!(services["services"]);
    let later = State {
        clock: Clock::new(|| weir_model::UnixNanos((testdata::T0 + 70) as u64 * 1_000_000_000)),
        ..state
    };
    let (_, lapsed) = get(&later, "/api/hints?active=true").await;
    assert_eq!(lapsed["hints"], json!([]), "a lease of 15 s renewed at 50 s");
}

#[tokio::test]
async fn the_process_says_that_it_lives_and_serves() {
    let state = state();
    for path in ["/healthz", "/-/healthy"] {
        assert_eq!(get(&state, path).await.0, StatusCode::OK, "{path}");
    }
    for path in ["/readyz", "/-/ready"] {
        assert_eq!(get(&state, path).await, (StatusCode::OK, json!({"status": "ready"})), "{path}");
    }
}

//! What is stored for the comparison, beside a demo's traffic and a load: telemetry that has everything, and spans
//! that come in requests which must be seen whole.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::support::Server;

/// Spans of a request of [`post_batch`].
pub(crate) const BATCH: u64 = 20;

/// Nanoseconds since 1970, not a whole microsecond.
fn now() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    nanos / 1_000 * 1_000 + 789
}

async fn post(server: &Server, signal: &str, request: &Value) {
    let url = format!("http://{}/v1/{signal}", server.otlp_http);
    let answer = reqwest::Client::new().post(url).json(request).send().await.unwrap();
    let status = answer.status();
    let said: Value = answer.json().await.unwrap();
    assert!(status.is_success() && said.get("partialSuccess").is_none(), "{signal}: {status} {said}");
}

/// The request `number` of service `batches`: [`BATCH`] spans, stored and acknowledged at once.
pub(crate) async fn post_batch(server: &Server, number: u64) {
    let now = now();
    let spans: Vec<_> = (1..=BATCH)
        .map(|n| {
            json!({"traceId": format!("{:032x}", number + 1), "spanId": format!("{n:016x}"), "name": format!("batch-{number}"),
                "startTimeUnixNano": (now + n).to_string(), "endTimeUnixNano": (now + 2 * n).to_string()})
        })
        .collect();
    let request =
        json!({"resourceSpans": [{"resource": resource("batches"), "scopeSpans": [{"spans": spans}]}]});
    post(server, "traces", &request).await;
}

/// An attribute of each type.
fn attributes() -> Value {
    json!([
        {"key": "text", "value": {"stringValue": "größe 🦀"}},
        {"key": "long", "value": {"intValue": "9007199254740993"}},
        {"key": "double", "value": {"doubleValue": 0.1}},
        {"key": "bool", "value": {"boolValue": true}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 2}]}}},
        {"key": "bytes", "value": {"bytesValue": "AQID"}},
    ])
}

fn resource(service: &str) -> Value {
    let mut attributes = attributes();
    for (key, value) in [("service.name", service), ("service.version", "1.2.3"), ("team", "checkout")] {
        attributes.as_array_mut().unwrap().push(json!({"key": key, "value": {"stringValue": value}}));
    }
    json!({"attributes": attributes, "droppedAttributesCount": 1})
}

fn scope() -> Value {
    json!({"name": "open", "version": "0.1", "attributes": attributes(), "droppedAttributesCount": 2})
}

/// A request of each signal with a value in every field.
pub(crate) async fn post_one_of_everything(server: &Server) {
    let now = now();
    let ids = json!({"traceId": "0123456789abcdef0123456789abcdef", "spanId": "0123456789abcdef"});
    let mut http = attributes();
    http.as_array_mut().unwrap().extend([
        json!({"key": "http.request.method", "value": {"stringValue": "POST"}}),
        json!({"key": "http.response.status_code", "value": {"intValue": 500}}),
    ]);
    let span = json!({
        "traceId": ids["traceId"], "spanId": ids["spanId"], "parentSpanId": "fedcba9876543210", "traceState": "a=b",
        "flags": 257, "name": "everything", "kind": 2, "status": {"code": 2, "message": "why"},
        "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now - 1_000).to_string(), "attributes": http,
        "droppedAttributesCount": 3, "droppedEventsCount": 4, "droppedLinksCount": 5,
        "events": [{"timeUnixNano": now.to_string(), "name": "first", "attributes": attributes(), "droppedAttributesCount": 6},
            {"timeUnixNano": (now + 1).to_string(), "name": "second"}],
        "links": [{"traceId": ids["traceId"], "spanId": ids["spanId"], "traceState": "c=d", "flags": 1,
            "attributes": attributes(), "droppedAttributesCount": 7}],
    });
    post(
        server,
        "traces",
        &json!({"resourceSpans": [{"resource": resource("everything"), "schemaUrl": "r",
        "scopeSpans": [{"scope": scope(), "schemaUrl": "s", "spans": [span]}]}]}),
    )
    .await;

    let log = |body: Value| {
        json!({"timeUnixNano": now.to_string(), "observedTimeUnixNano": (now + 5).to_string(), "severityNumber": 17,
            "severityText": "ERROR", "body": body, "eventName": "failed", "traceId": ids["traceId"],
            "spanId": ids["spanId"], "flags": 1, "attributes": attributes(), "droppedAttributesCount": 8})
    };
    let records = [
        log(json!({"stringValue": "plain"})),
        log(json!({"kvlistValue": {"values": [{"key": "k", "value": {"intValue": 1}}]}})),
    ];
    post(
        server,
        "logs",
        &json!({"resourceLogs": [{"resource": resource("everything"), "schemaUrl": "r",
        "scopeLogs": [{"scope": scope(), "schemaUrl": "s", "logRecords": records}]}]}),
    )
    .await;

    let exemplar = json!({"timeUnixNano": now.to_string(), "asDouble": 0.25, "traceId": ids["traceId"],
        "spanId": ids["spanId"], "filteredAttributes": attributes()});
    let whole = json!({"timeUnixNano": now.to_string(), "asInt": "3", "filteredAttributes": []});
    let point = |more: Value| {
        let mut point = json!({"timeUnixNano": now.to_string(), "startTimeUnixNano": (now - 1_000_000).to_string(),
            "attributes": attributes(), "exemplars": [exemplar, whole]});
        point.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([point])
    };
    let buckets = json!({"count": "6", "sum": 5.5, "min": 0.5, "max": 4.0});
    let with = |more: Value| {
        let mut all = buckets.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        point(all)
    };
    let metrics = [
        json!({"name": "open.gauge", "gauge": {"dataPoints": point(json!({"asDouble": "NaN"}))}}),
        json!({"name": "open.sum", "unit": "By", "description": "help", "metadata": attributes(), "sum": {
            "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": point(json!({"asInt": "9007199254740993"}))}}),
        json!({"name": "open.histogram", "histogram": {"aggregationTemporality": 2,
            "dataPoints": with(json!({"bucketCounts": [1, 2, 3], "explicitBounds": [1.0, 2.0]}))}}),
        json!({"name": "open.exponential", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints":
            with(json!({"scale": 3, "zeroCount": 1, "zeroThreshold": 0.001, "flags": 2,
                "positive": {"offset": -2, "bucketCounts": [1, 0, 2]}, "negative": {"offset": 1, "bucketCounts": [2]}}))}}),
        json!({"name": "open.summary", "summary": {"dataPoints": [{"timeUnixNano": now.to_string(), "count": "2",
            "sum": 3.0, "quantileValues": [{"quantile": 0.5, "value": 1.5}]}]}}),
    ];
    post(
        server,
        "metrics",
        &json!({"resourceMetrics": [{"resource": resource("everything"), "schemaUrl": "r",
        "scopeMetrics": [{"scope": scope(), "schemaUrl": "s", "metrics": metrics}]}]}),
    )
    .await;
}

//! The calls that Grafana's Prometheus data source makes, with the parameters it sends.

use super::*;

/// What a request of Grafana's must be answered with: a status, and a look at `data`.
struct Call {
    why: &'static str,
    path: &'static str,
    form: bool,
    pairs: Vec<(&'static str, &'static str)>,
    data: fn(&Value) -> bool,
}

#[tokio::test]
async fn every_call_of_the_data_source_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(&folder).await;
    write(&storage, EARLY).await;
    storage.writer().write(described()).await.unwrap();
    let state = over(&storage);
    let calls = [
        Call {
            why: "save and test",
            path: "query",
            form: true,
            pairs: vec![("query", "1+1"), ("time", "4")],
            data: |data| data["resultType"] == "scalar" && data["result"] == json!([4, "2"]),
        },
        Call {
            why: "heuristics of save and test, and the kind of alerts there are",
            path: "status/buildinfo",
            form: false,
            pairs: vec![],
            data: |data| data["version"] == "3.14.0" && data.get("features").is_none(),
        },
        Call {
            why: "a panel over time",
            path: "query_range",
            form: true,
            pairs: vec![
                (
                    "query",
                    "sum by (reporter) (rate(istio_requests_total{reporter=~\"source|destination\"}[1m0s]))",
                ),
                ("start", "60"),
                ("end", "300"),
                ("step", "15"),
            ],
            data: |data| {
                let result = data["result"].as_array().unwrap();
                let order: Vec<&Value> = result.iter().map(|one| &one["metric"]["reporter"]).collect();
                data["resultType"] == "matrix" && order == ["destination", "source"]
            },
        },
        Call {
            why: "a table, and an alert that Grafana evaluates",
            path: "query",
            form: true,
            pairs: vec![("query", "istio_requests_total"), ("time", "300.000")],
            data: |data| data["result"].as_array().unwrap().len() == 2,
        },
        Call {
            why: "metric names for completion",
            path: "label/__name__/values",
            form: false,
            pairs: vec![("start", "0"), ("end", "300"), ("limit", "40000")],
            data: |data| data.as_array().unwrap().contains(&json!("service.up")),
        },
        Call {
            why: "label names for completion",
            path: "labels",
            form: true,
            pairs: vec![
                ("start", "0"),
                ("end", "300"),
                ("limit", "40000"),
                ("match[]", "istio_requests_total{reporter=\"source\"}"),
            ],
            data: |data| *data == json!(["__name__", "destination_service", "reporter", "response_code"]),
        },
        Call {
            why: "values of a label whose name does not fit a path",
            path: "label/U__k8s_2e_pod/values",
            form: false,
            pairs: vec![("start", "0"), ("end", "300"), ("limit", "40000"), ("match[]", "{\"service.up\"}")],
            data: |data| *data == json!(["x"]),
        },
        Call {
            why: "label filters of the query builder",
            path: "series",
            form: true,
            pairs: vec![
                ("start", "0"),
                ("end", "300"),
                ("limit", "40000"),
                ("match[]", "{__name__=\"odd\"}"),
            ],
            data: |data| data[0]["__name__"] == "odd",
        },
        Call {
            why: "kinds and hints of the language provider",
            path: "metadata",
            form: false,
            pairs: vec![("limit", "40000")],
            data: |data| data["calls_total"][0]["type"] == "counter",
        },
        Call {
            why: "whether there are exemplars",
            path: "query_exemplars",
            form: true,
            pairs: vec![("query", "test"), ("start", "0"), ("end", "300")],
            data: |data| *data == json!([]),
        },
        Call {
            why: "the query builder",
            path: "parse_query",
            form: true,
            pairs: vec![("query", "rate(a[5m])")],
            data: |data| data["type"] == "call",
        },
        Call {
            why: "the button that lays a query out",
            path: "format_query",
            form: true,
            pairs: vec![("query", "rate( a [5m])")],
            data: |data| data == "rate(a[5m])",
        },
    ];
    for call in calls {
        let (status, body) = match call.form {
            true => post(&state, call.path, &call.pairs).await,
            false => get(&state, call.path, &call.pairs).await,
        };
        assert_eq!(status, StatusCode::OK, "{}: {body}", call.why);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "success", "{}", call.why);
        assert!((call.data)(&body["data"]), "{}: {body}", call.why);
    }
}

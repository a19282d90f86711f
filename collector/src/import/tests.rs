use std::io::Write as _;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use weir_model::limits;

use super::*;
use crate::decode::tests::{Doubles, logs_request, metrics_request, traces_request};
use crate::encode::text;

/// Everything that reading a file gives.
fn read(file: &[u8]) -> Vec<Result<Piece, Unreadable>> {
    Pieces::new(file).collect()
}

/// What was read, by the name of its only span (or its signal) with its place, and what was not.
fn told(file: &[u8]) -> Vec<String> {
    let told = |piece: Result<Piece, Unreadable>| match piece {
        Ok(piece) if piece.signal == Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(piece.request.as_slice()).unwrap();
            let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
            let names: Vec<_> = spans.map(|span| span.name.clone()).collect();
            format!("{} {}", piece.place, names.join("+"))
        }
        Ok(piece) => format!("{} {}", piece.place, piece.signal.name()),
        Err(unreadable) => format!("! {unreadable}"),
    };
    read(file).into_iter().map(told).collect()
}

/// An entry of `resourceSpans` with one span.
fn entry(name: &str) -> String {
    format!(
        r#"{{"resource":{{"attributes":[]}},"scopeSpans":[{{"spans":[{{"traceId":"01","spanId":"02","name":"{name}"}}]}}]}}"#
    )
}

/// A document in one line.
fn line(names: &[&str]) -> String {
    let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
    format!(r#"{{"resourceSpans":[{}]}}"#, entries.join(","))
}

fn jaeger(name: &str) -> String {
    format!(
        r#"{{"traceID":"1","spans":[{{"traceID":"1","spanID":"2","startTime":1,"operationName":"{name}"}}],"processes":{{}}}}"#
    )
}

#[test]
fn lines_are_read_entry_by_entry_whichever_signal_they_carry() {
    let file = [
        line(&["a", "b"]),
        String::new(),
        r#"{"resourceMetrics":[{"scopeMetrics":[]}]}"#.to_owned(),
        "  ".to_owned(),
        r#"{"resourceLogs":[{}],"resourceSpans":[]}"#.to_owned(),
        "{}".to_owned(),
        r#"{"resourceSpans":null,"x":[{"y":"]}\"{"},1,true]}"#.to_owned(),
        line(&["c"]),
    ];
    let second = 19 + entry("a").len() + 1;
    let expected = [
        "1:19 a".to_owned(),
        format!("1:{second} b"),
        "3:21 metrics".into(),
        "5:18 logs".into(),
        "8:19 c".into(),
    ];
    for newline in ["\n", "\r\n"] {
        assert_eq!(told(file.join(newline).as_bytes()), expected);
        assert_eq!(told(format!("\u{feff}{}{newline}", file.join(newline)).as_bytes())[1..], expected[1..]);
    }
}

#[test]
fn a_document_may_go_on_over_many_lines() {
    let both: serde_json::Value = serde_json::from_str(&line(&["a", "b"])).unwrap();
    let file = format!("{0:#}\n{0:#}\n{1}", both, line(&["c"]));
    let names: Vec<_> =
        told(file.as_bytes()).iter().map(|t| t.rsplit_once(' ').unwrap().1.to_owned()).collect();
    assert_eq!(names, ["a", "b", "a", "b", "c"]);
    let list = format!("{{\"data\":[\n{},\n{}\n],\n\"total\":0,\"errors\":null}}", jaeger("a"), jaeger("b"));
    assert_eq!(told(list.as_bytes()), ["2:1 a", "3:1 b"]);
}

#[test]
fn a_bad_line_says_where_and_does_not_stop_the_others() {
    let cut = &line(&["x"])[..60];
    for (bad, places) in [
        ("garbage", vec!["2:1: expected an object, found `g`"]),
        ("[1]", vec!["2:1: expected an object, found `[`"]),
        (cut, vec!["2:61: the line ends within"]),
        (r#"{"resourceSpans":[]"#, vec!["2:20: the line ends within an object"]),
        (r#"{"resourceSpans":["#, vec!["2:1: the object that begins here is cut short"]),
        (r#"{"resourceSpans":[{"a":1]}"#, vec!["2:25: this bracket closes none of its kind"]),
        (r#"{"resourceSpans":[] {}}"#, vec!["2:21: expected `,` or `}`, found `{`"]),
        (r#"{"resourceSpans":[,]}"#, vec!["2:19: expected a value"]),
        (r#"{"resourceSpans":5}"#, vec!["2:18: expected a list, found `5`"]),
        (r#"{resourceSpans:[]}"#, vec!["2:2: expected a name in quotes"]),
        (r#"{"spans":[{}]}"#, vec!["2:1: this has none of `resourceSpans`"]),
        (r#"{"resourceSpans":[1]}"#, vec!["2:19: ", "expected"]),
        (
            r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}"#,
            vec!["2:59: field `traceId` is no hex"],
        ),
        (r#"{"data":[{"traceID":"1"}]}"#, vec!["2:24: missing field `spans`"]),
        ("{\"resourceSpans\":[\"a\\", vec!["2:22: the line ends within a string"]),
    ] {
        let file = [&line(&["before"]), bad, &line(&["after"]), ""].join("\n");
        let told = told(file.as_bytes());
        assert_eq!(told.len(), 3, "{bad}: {told:#?}");
        assert_eq!((told[0].as_str(), told[2].as_str()), ("1:19 before", "3:19 after"), "{bad}: {told:#?}");
        for part in places {
            assert!(told[1].starts_with("! 2:") && told[1].contains(part), "{bad}: {}", told[1]);
        }
    }
}

#[test]
fn a_bad_element_does_not_stop_the_others_of_its_line() {
    let file = format!(r#"{{"data":[{},{{"spans":7}},{}]}}"#, jaeger("a"), jaeger("b"));
    let told = told(file.as_bytes());
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(
        told[0].ends_with(" a") && told[1].contains("a list of spans") && told[2].ends_with(" b"),
        "{told:#?}"
    );
}

#[test]
fn a_fault_in_a_long_document_loses_only_what_is_behind_it() {
    let both: serde_json::Value = serde_json::from_str(&line(&["a", "b"])).unwrap();
    let broken = format!("{both:#}").replacen("\"name\": \"b\"", "\"name\": \"b", 1);
    let told = told(format!("{broken}\n{}\n", line(&["c"])).as_bytes());
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].ends_with(" a") && told[2].ends_with(" c"), "{told:#?}");
    let at = broken.lines().position(|line| line.contains("\"name\": \"b")).unwrap() + 1;
    assert!(told[1].starts_with(&format!("! {at}:")) && told[1].contains("within a string"), "{told:#?}");
}

#[test]
fn a_file_may_end_anywhere() {
    let file = line(&["a", "b"]);
    for length in 0..file.len() {
        let told = told(&file.as_bytes()[..length]);
        let faults = told.iter().filter(|told| told.starts_with('!')).count();
        assert_eq!(faults, usize::from(length > 0), "{length}: {told:#?}");
        assert!(told.last().is_none_or(|told| told.contains("the file ends within the object")), "{told:#?}");
    }
}

#[test]
fn too_large_an_element_is_stepped_over() {
    let large = "x".repeat(limits::IMPORT_PIECE_BYTES);
    let told = told(line(&["a", &large, "b"]).as_bytes());
    assert_eq!(told.len(), 3, "{:?}", told.iter().map(String::len).collect::<Vec<_>>());
    assert!(told[1].contains("larger than 64 MiB"), "{}", told[1]);
    assert!(told[0].ends_with(" a") && told[2].ends_with(" b"));
}

#[test]
fn too_deep_a_document_is_refused() {
    let told = told(format!(r#"{{"resourceSpans":[{}]}}"#, "[".repeat(100_000)).as_bytes());
    assert!(told.len() == 1 && told[0].contains("nested more than"), "{told:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_files_are_told_by_their_bytes() {
    let plain = format!("{}\n", line(&["a"]));
    let zstd = zstd::encode_all(plain.as_bytes(), 1).unwrap();
    for compressed in [gzip(plain.as_bytes()), zstd] {
        assert_eq!(told(&compressed), ["1:19 a"]);
        // Files that were written in turn and put together.
        assert_eq!(told(&[compressed.clone(), compressed.clone()].concat()), ["1:19 a", "2:19 a"]);
        let cut = told(&compressed[..compressed.len() - 6]);
        assert!(cut.last().unwrap().contains("the file cannot be read further"), "{cut:?}");
    }
}

fn traces(names: &[&str]) -> ExportTraceServiceRequest {
    let span = |name: &&str| Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        start_time_unix_nano: 1,
        name: (*name).to_owned(),
        ..Span::default()
    };
    let scope = ScopeSpans { spans: names.iter().map(span).collect(), ..ScopeSpans::default() };
    let entry = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![entry] }
}

fn metrics(points: usize) -> ExportMetricsServiceRequest {
    let point = |time| NumberDataPoint { time_unix_nano: time, ..NumberDataPoint::default() };
    let gauge = Gauge { data_points: (1..=points as u64).map(point).collect() };
    let metric = Metric { name: "m".to_owned(), data: Some(Data::Gauge(gauge)), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let entry = ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![entry] }
}

fn prefixed(messages: &[&[u8]]) -> Vec<u8> {
    let prefixed = |bytes: &&[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    messages.iter().flat_map(prefixed).collect()
}

#[test]
fn length_prefixed_messages_are_protobuf_or_json_compressed_or_not() {
    let (spans, points) = (traces(&["a"]).encode_to_vec(), metrics(1).encode_to_vec());
    let json = line(&["b", "c"]);
    let zstd = zstd::encode_all(json.as_bytes(), 1).unwrap();
    let file = prefixed(&[&spans, &points, b"", b"\x0a\x00", &zstd, b"{\"x\":1}", b"\xff", &spans]);
    let expected = [
        "message 1 a",
        "message 2 metrics",
        "message 5 b",
        "message 5 c",
        "! message 6: at 1:1: this has none of `resourceSpans`, `resourceMetrics`, `resourceLogs` (OTLP) and `data` (Jaeger)",
        "! message 7: malformed message at byte 0: number is cut short",
        "message 8 a",
    ];
    assert_eq!(told(&file), expected);
    assert_eq!(told(&gzip(&file)), expected);
    for length in [1, 3, 5, spans.len() + 3] {
        let told = told(&prefixed(&[&spans])[..length]);
        assert!(told.len() == 1 && told[0].starts_with("! message 1: the file ends"), "{length}: {told:?}");
    }
    let too_long = [prefixed(&[&spans]), vec![4, 0, 0, 1], vec![0; 10]].concat();
    assert_eq!(told(&too_long)[1], "! message 2: the file ends after 10 of the message's 67108865 bytes");
    let bomb = zstd::encode_all(vec![b' '; limits::IMPORT_PIECE_BYTES + 1].as_slice(), 1).unwrap();
    assert_eq!(
        told(&prefixed(&[&bomb, &spans])),
        ["! message 1: the message is larger than 64 MiB", "message 2 a"]
    );
}

#[test]
fn parts_are_small_and_keep_resource_and_scope() {
    let names: Vec<String> = (0..10_000).map(|n| format!("{n:0200}")).collect();
    let mut request = traces(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let entry = &mut request.resource_spans[0];
    entry.resource =
        Some(Resource { attributes: vec![text("service.name", "s".into())], ..Resource::default() });
    entry.schema_url = "after".to_owned();
    entry.scope_spans[0].scope = Some(InstrumentationScope { name: "scope".into(), ..Default::default() });
    entry.scope_spans.push(ScopeSpans::default());
    request.resource_spans.push(traces(&["last"]).resource_spans.remove(0));
    let parts = split(Signal::Traces, &request.encode_to_vec()).unwrap();
    assert_eq!(parts.len(), 3, "{:?}", parts.iter().map(|part| part.records).collect::<Vec<_>>());
    assert_eq!(parts.iter().map(|part| part.records).sum::<u64>(), 10_001);
    let mut found = vec![];
    for part in &parts {
        assert!(part.request.len() <= limits::IMPORT_BATCH_BYTES + 100, "{}", part.request.len());
        let decoded = ExportTraceServiceRequest::decode(part.request.as_slice()).unwrap();
        let first = &decoded.resource_spans[0];
        assert_eq!(
            (&first.resource, first.schema_url.as_str()),
            (&request.resource_spans[0].resource, "after")
        );
        assert_eq!(
            (first.scope_spans.len(), &first.scope_spans[0].scope),
            (1, &request.resource_spans[0].scope_spans[0].scope)
        );
        found.extend(decoded.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
    }
    let sent: Vec<_> =
        request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect();
    assert_eq!(found, sent);
}

#[test]
fn points_are_counted_and_what_is_large_is_a_part_of_its_own() {
    let records = |signal, request: &[u8]| -> Vec<u64> {
        split(signal, request).unwrap().iter().map(|part| part.records).collect()
    };
    assert_eq!(records(Signal::Metrics, &metrics(5).encode_to_vec()), [5]);
    assert_eq!(records(Signal::Metrics, &metrics(0).encode_to_vec()), [0_u64; 0]);
    let large = "x".repeat(limits::IMPORT_BATCH_BYTES);
    let request = traces(&["a", &large, "b", "c"]).encode_to_vec();
    assert_eq!(records(Signal::Traces, &request), [1, 1, 2]);
    assert_eq!(records(Signal::Traces, &traces(&[""; 9_000]).encode_to_vec()), [8_192, 808]);
    assert!(split(Signal::Traces, b"\x0a\x05").is_err());
}

/// What a request's records are told to be; `None` where it has none that matter.
fn told_signal(request: &[u8]) -> Option<Signal> {
    records::signal(request).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_are_told_apart_by_their_fields(
        spans in traces_request(Doubles::Any),
        points in metrics_request(Doubles::Any),
        records in logs_request(Doubles::Any),
    ) {
        for (signal, request) in [
            (Signal::Traces, spans.encode_to_vec()),
            (Signal::Metrics, points.encode_to_vec()),
            (Signal::Logs, records.encode_to_vec()),
        ] {
            let told = told_signal(&request);
            prop_assert!(told.is_none() || told == Some(signal), "{signal:?} are told to be {told:?}");
        }
    }

    #[test]
    fn a_request_that_fits_is_one_part_with_the_same_records(request in traces_request(Doubles::Any)) {
        let spans = |request: &ExportTraceServiceRequest| -> Vec<Vec<u8>> {
            let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
            spans.map(Message::encode_to_vec).collect()
        };
        let parts = split(Signal::Traces, &request.encode_to_vec()).unwrap();
        let count: u64 = parts.iter().map(|part| part.records).sum();
        let found: Vec<_> = parts
            .iter()
            .flat_map(|part| spans(&ExportTraceServiceRequest::decode(part.request.as_slice()).unwrap()))
            .collect();
        prop_assert!(parts.len() <= 1 && count == found.len() as u64);
        prop_assert_eq!(found, spans(&request));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
        read(&prefixed(&[&bytes]));
        let _ = split(Signal::Metrics, &bytes);
    }

    #[test]
    fn random_texts_end_and_keep_their_neighbours(text in "[\\[\\]{}\",:a1 \\\\]{0,40}") {
        let file = format!("{}\n{{\"resourceSpans\":[{text}\n{}\n", line(&["a"]), line(&["b"]));
        let told = told(file.as_bytes());
        prop_assert!(told[0] == "1:19 a" && told.last().unwrap() == "3:19 b", "{told:#?}");
    }
}

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::*;

fn read(json: &str) -> ExportTraceServiceRequest {
    let request = to_protobuf(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    ExportTraceServiceRequest::decode(request.as_slice()).unwrap()
}

/// A trace of one span with more members.
fn with(members: &str) -> String {
    format!(r#"{{"spans":[{{"traceID":"1","spanID":"2","startTime":1{members}}}]}}"#)
}

fn only_span(json: &str) -> Span {
    let mut request = read(json);
    assert_eq!(request.resource_spans.len(), 1);
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

/// The one span with these tags.
fn tagged(tags: &str) -> Span {
    only_span(&with(&format!(r#","tags":[{tags}]"#)))
}

fn values(attributes: &[KeyValue]) -> Vec<(&str, Value)> {
    let value = |a: &KeyValue| a.value.as_ref().and_then(|any| any.value.clone());
    attributes
        .iter()
        .map(|a| (a.key.as_str(), value(a).unwrap_or(Value::StringValue("none".into()))))
        .collect()
}

fn string(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn every_field_finds_its_place() {
    // As Jaeger answers, shortened: the span before its processes, tags of all types.
    let mut request = read(
        r#"{"traceID":"5982fe77008310cc80f1da5e10147519","spans":[{
        "traceID":"5982fe77008310cc80f1da5e10147519","spanID":"67fae42571535f60","flags":3,
        "operationName":"/charge","references":[
          {"refType":"FOLLOWS_FROM","traceID":"5982fe77008310cc80f1da5e10147519","spanID":"aa"},
          {"refType":"CHILD_OF","traceID":"5982fe77008310cc80f1da5e10147519","spanID":"90394f6bcffb5d13"},
          {"refType":"CHILD_OF","traceID":"bb","spanID":"cc"}],
        "startTime":1516781775726000,"duration":26000,
        "tags":[
          {"key":"otel.scope.name","type":"string","value":"shop"},{"key":"otel.scope.version","type":"string","value":"1.2"},
          {"key":"span.kind","type":"string","value":"server"},{"key":"error","type":"bool","value":true},
          {"key":"otel.status_code","type":"string","value":"ERROR"},
          {"key":"otel.status_description","type":"string","value":"no card"},
          {"key":"w3c.tracestate","type":"string","value":"a=b"},
          {"key":"path","type":"string","value":"/a\"b\u00fc"},{"key":"cached","type":"bool","value":false},
          {"key":"bytes","type":"int64","value":146},{"key":"exact","type":"int64","value":"9007199254740993"},
          {"key":"ratio","type":"float64","value":0.1},{"key":"blob","type":"binary","value":"AQID"}],
        "logs":[{"timestamp":1516781775727000,"fields":[
          {"key":"event","type":"string","value":"cache miss"},{"key":"size","type":"int64","value":7}]}],
        "processID":"p1","warnings":["clock skew"]}],
        "processes":{"p1":{"serviceName":"payments","tags":[
          {"key":"hostname","type":"string","value":"h1"},{"key":"cores","type":"int64","value":4}]}},"warnings":null}"#,
    );
    let mut entry = request.resource_spans.remove(0);
    let resource = entry.resource.unwrap();
    assert_eq!(
        values(&resource.attributes),
        [("service.name", string("payments")), ("host.name", string("h1")), ("cores", Value::IntValue(4))]
    );
    let scope = entry.scope_spans[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("shop", "1.2"));
    let span = entry.scope_spans.remove(0).spans.remove(0);
    assert_eq!((span.trace_id[..2].to_vec(), span.trace_id.len()), (vec![0x59, 0x82], 16));
    assert_eq!((span.span_id[7], span.parent_span_id[0], span.flags), (0x60, 0x90, 1));
    assert_eq!((span.name.as_str(), span.kind), ("/charge", SpanKind::Server as i32));
    assert_eq!(span.trace_state, "a=b");
    let nanos = 1_516_781_775_726_000_000;
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (nanos, nanos + 26_000_000));
    let status = span.status.as_ref().unwrap();
    assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "no card"));
    let warnings = ArrayValue { values: vec![AnyValue { value: Some(string("clock skew")) }] };
    assert_eq!(
        values(&span.attributes),
        [
            ("path", string("/a\"bü")),
            ("cached", Value::BoolValue(false)),
            ("bytes", Value::IntValue(146)),
            ("exact", Value::IntValue(9_007_199_254_740_993)),
            ("ratio", Value::DoubleValue(0.1)),
            ("blob", Value::BytesValue(vec![1, 2, 3])),
            (WARNINGS, Value::ArrayValue(warnings)),
        ]
    );
    let event = &span.events[0];
    assert_eq!((event.name.as_str(), event.time_unix_nano), ("cache miss", nanos + 1_000_000));
    assert_eq!(values(&event.attributes), [("size", Value::IntValue(7))]);
    // The parent is no link; the others are, each with what it was.
    let links: Vec<_> = span
        .links
        .iter()
        .map(|link| (link.trace_id[15], link.span_id[7], values(&link.attributes)[0].1.clone()))
        .collect();
    assert_eq!(links, [(0x19, 0xaa, string("follows_from")), (0xbb, 0xcc, string("child_of"))]);
}

#[test]
fn the_parent_is_what_the_references_say() {
    let parent = |references: &str| {
        let span = only_span(&with(references));
        (span.parent_span_id.last().copied(), span.links.len())
    };
    assert_eq!(parent(""), (None, 0));
    assert_eq!(parent(r#","references":null"#), (None, 0));
    assert_eq!(parent(r#","parentSpanID":"7""#), (Some(7), 0));
    let reference = |kind: &str, trace: &str, span: &str| {
        format!(r#"{{"refType":"{kind}","traceID":"{trace}","spanID":"{span}"}}"#)
    };
    let list = |references: &[String]| format!(r#","references":[{}]"#, references.join(","));
    assert_eq!(parent(&list(&[reference("CHILD_OF", "01", "7")])), (Some(7), 0));
    assert_eq!(parent(&list(&[reference("FOLLOWS_FROM", "1", "8")])), (Some(8), 1));
    assert_eq!(parent(&list(&[reference("CHILD_OF", "2", "7")])), (None, 1));
    let two = [reference("CHILD_OF", "1", "7"), reference("CHILD_OF", "1", "9")];
    assert_eq!(parent(&list(&two)), (Some(7), 1));
}

#[test]
fn tags_become_kind_and_status_where_they_say_so() {
    let tag = |key: &str, value: &str| format!(r#"{{"key":"{key}","type":"string","value":"{value}"}}"#);
    let kinds =
        ["internal", "server", "CLIENT", "producer", "consumer"].map(|k| tagged(&tag("span.kind", k)).kind);
    assert_eq!(kinds, [1, 2, 3, 4, 5]);
    assert_eq!(tagged("").kind, SpanKind::Unspecified as i32);
    let odd = tagged(&tag("span.kind", "odd"));
    assert_eq!((odd.kind, values(&odd.attributes)), (0, vec![("span.kind", string("odd"))]));

    let status = |tags: &str| {
        let span = tagged(tags);
        assert!(span.attributes.is_empty(), "{tags}: {:?}", span.attributes);
        span.status.map(|status| (status.code, status.message))
    };
    let said = |code: StatusCode, message: &str| Some((code as i32, message.to_owned()));
    assert_eq!(status(""), None);
    assert_eq!(status(r#"{"key":"error","type":"bool","value":false}"#), None);
    assert_eq!(status(r#"{"key":"error","type":"bool","value":true}"#), said(StatusCode::Error, ""));
    assert_eq!(status(&tag("error", "true")), said(StatusCode::Error, ""));
    assert_eq!(status(&tag("error", "no card")), said(StatusCode::Error, "no card"));
    assert_eq!(status(&tag("otel.status_code", "OK")), said(StatusCode::Ok, ""));
    assert_eq!(status(&tag("otel.status_code", "unset")), None);
    let both = [tag("otel.status_code", "OK"), tag("error", "true"), tag("otel.status_description", "fine")];
    assert_eq!(status(&both.join(",")), said(StatusCode::Ok, "fine"));
}

#[test]
fn values_keep_their_type_or_become_text() {
    let value = |kind: &str, json: &str| {
        let span = tagged(&format!(r#"{{"key":"k",{kind}"value":{json}}}"#));
        values(&span.attributes)[0].1.clone()
    };
    assert_eq!(value(r#""type":"float64","#, "2.718281828459045"), Value::DoubleValue(std::f64::consts::E));
    assert_eq!(value(r#""type":"float64","#, "\"-Inf\""), Value::DoubleValue(f64::NEG_INFINITY));
    assert_eq!(value(r#""type":"int64","#, "\"-5\""), Value::IntValue(-5));
    assert_eq!(value(r#""type":"int64","#, "\"five\""), string("five"));
    assert_eq!(value(r#""type":"bool","#, "\"true\""), Value::BoolValue(true));
    assert_eq!(value(r#""type":"binary","#, "\"?\""), string("?"));
    assert_eq!(value(r#""type":"string","#, "5"), string("5"));
    assert_eq!(value("", "5"), Value::IntValue(5));
    assert_eq!(value("", "0.5"), Value::DoubleValue(0.5));
    assert_eq!(value("", "true"), Value::BoolValue(true));
    assert_eq!(value("", "\"x\""), string("x"));
    assert_eq!(value("", r#"{"a":[1]}"#), string(r#"{"a":[1]}"#));
    assert_eq!(value("", "null"), string("none"));
}

#[test]
fn spans_are_grouped_by_process_and_scope() {
    let span = |id: u8, process: &str, scope: &str| {
        format!(
            r#"{{"traceID":"1","spanID":"{id}","startTime":1,"processID":"{process}",
            "tags":[{{"key":"otel.library.name","type":"string","value":"{scope}"}}]}}"#
        )
    };
    let spans =
        [span(1, "p2", "a"), span(2, "p1", "a"), span(3, "p2", "b"), span(4, "p2", "a"), span(5, "p9", "")];
    let request = read(&format!(
        r#"{{"processes":{{"p1":{{"serviceName":"one"}},"p2":{{"serviceName":"two","tags":null}}}},"spans":[{}]}}"#,
        spans.join(",")
    ));
    let counts =
        |of: &ResourceSpans| of.scope_spans.iter().map(|scope| scope.spans.len()).collect::<Vec<_>>();
    let found: Vec<_> = request
        .resource_spans
        .iter()
        .map(|of| (values(&of.resource.as_ref().unwrap().attributes).len(), counts(of)))
        .collect();
    // A process that is not described has no name and no tags.
    assert_eq!(found, [(1, vec![1]), (1, vec![2, 1]), (0, vec![1])]);
    assert!(request.resource_spans[2].scope_spans[0].scope.is_none());
}

#[test]
fn what_is_no_trace_says_where() {
    for (json, why) in [
        ("", "EOF"),
        ("[]", "struct Trace"),
        ("{}", "missing field `spans`"),
        (r#"{"spans":{}}"#, "a list of spans"),
        (r#"{"spans":[{"traceID":"1","startTime":1}]}"#, "missing field `spanID`"),
        (r#"{"spans":[{"traceID":"1","spanID":"2","startTime":-1}]}"#, "invalid value"),
        (
            "{\"spans\":[\n{\"traceID\":\"1\",\"spanID\":\"2\",\"startTime\":\"now\"}]}",
            "expected u64 at line 2",
        ),
    ] {
        let error = to_protobuf(json.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(why) && error.line() > 0, "{json}: {error}");
    }
    assert!(read(r#"{"spans":null}"#).resource_spans.is_empty());
}

#[test]
fn many_small_spans_take_about_as_much_room_as_their_text() {
    let span = r#"{"traceID":"","spanID":"","startTime":1}"#;
    let json = format!(r#"{{"spans":[{}]}}"#, vec![span; 10_000].join(","));
    let out = to_protobuf(json.as_bytes()).unwrap();
    assert!(out.len() <= json.len(), "{} of {}", out.len(), json.len());
    let request = ExportTraceServiceRequest::decode(out.as_slice()).unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 10_000);
}

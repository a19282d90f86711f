use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;

use super::*;
use crate::decode::tests::{Doubles, decoded, logs_request, metrics_request, traces_request};

/// Everything that a request becomes.
fn rows(signal: Signal, protobuf: &[u8]) -> (u64, String, Vec<arrow::array::RecordBatch>) {
    let decoded = decoded(signal, protobuf).unwrap();
    let batches = decoded.parts.into_iter().map(|(_, batch)| batch).collect();
    (decoded.accepted, decoded.rejected.message(), batches)
}

fn same_rows<M: prost::Message + Default + serde::Serialize>(signal: Signal, request: &M) {
    let json = serde_json::to_vec(request).unwrap();
    let from_json = to_protobuf(signal, &json).unwrap();
    // Values that are stored as bytes may hold fields that JSON names and protobuf leaves out, such as an
    // empty key.
    let from_json = M::decode(from_json.as_slice()).unwrap().encode_to_vec();
    assert_eq!(rows(signal, &from_json), rows(signal, &request.encode_to_vec()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn spans_in_json_are_those_in_protobuf(request in traces_request(Doubles::Finite)) {
        same_rows(Signal::Traces, &request);
    }

    #[test]
    fn log_records_in_json_are_those_in_protobuf(request in logs_request(Doubles::Finite)) {
        same_rows(Signal::Logs, &request);
    }

    #[test]
    fn metrics_in_json_are_those_in_protobuf(request in metrics_request(Doubles::Finite)) {
        same_rows(Signal::Metrics, &request);
    }

    #[test]
    fn random_texts_never_panic(text in "\\PC{0,80}") {
        let _ = to_protobuf(Signal::Traces, text.as_bytes());
        let _ = to_protobuf(Signal::Traces, format!("{{\"resourceSpans\":[{text}]}}").as_bytes());
    }

    #[test]
    fn a_double_is_read_to_its_last_digit(value in proptest::num::f64::NORMAL) {
        prop_assert_eq!(double(&value.to_string()), Some(value));
        prop_assert_eq!(double(&format!("{value:e}")), Some(value));
        prop_assert_eq!(double(&format!("\"{value}\"")), Some(value));
    }

    #[test]
    fn base64_is_read_with_and_without_padding(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        use base64_of::encode;
        let padded = encode(&bytes);
        prop_assert_eq!(from_base64(&padded), Some(bytes.clone()));
        let plain = padded.trim_end_matches('=');
        prop_assert_eq!(from_base64(plain), Some(bytes.clone()));
        prop_assert_eq!(from_base64(&plain.replace('+', "-").replace('/', "_")), Some(bytes));
    }
}

/// The encoder that is the other side of [`from_base64`]: OTLP's own types.
mod base64_of {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};

    pub(super) fn encode(bytes: &[u8]) -> String {
        let value = AnyValue { value: Some(Value::BytesValue(bytes.to_vec())) };
        serde_json::to_value(value).unwrap()["bytesValue"].as_str().unwrap().to_owned()
    }
}

/// The value of a point whose `asDouble` is `json`.
fn double(json: &str) -> Option<f64> {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
    use prost::Message;
    let point = format!(r#"{{"gauge":{{"dataPoints":[{{"timeUnixNano":"1","asDouble":{json}}}]}}}}"#);
    let request = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{point}]}}]}}]}}"#);
    let bytes = to_protobuf(Signal::Metrics, request.as_bytes()).ok()?;
    let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
    match request.resource_metrics[0].scope_metrics[0].metrics[0].data.as_ref().unwrap() {
        Data::Gauge(gauge) => match gauge.data_points[0] {
            NumberDataPoint { value: Some(Value::AsDouble(value)), .. } => Some(value),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn doubles_that_are_no_numbers_are_strings() {
    assert_eq!(double("\"Infinity\""), Some(f64::INFINITY));
    assert_eq!(double("\"-Infinity\""), Some(f64::NEG_INFINITY));
    assert!(double("\"NaN\"").unwrap().is_nan());
    assert_eq!(double("17"), Some(17.0));
    assert_eq!(double("-0.0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
    for bad in ["true", "\"many\"", "{}", "[1]", "\"\"", "1e400", "\"1e400\"", "\"inf\"", "\"nan\""] {
        assert_eq!(double(bad), None, "{bad}");
    }
}

/// The span that `fields` describe.
fn span(fields: &str) -> Result<Span, String> {
    use prost::Message;
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    let bytes = to_protobuf(Signal::Traces, json.as_bytes()).map_err(|error| error.to_string())?;
    let mut request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    Ok(request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0))
}

#[test]
fn the_forms_that_the_specification_allows_are_read() {
    let id: Vec<u8> = vec![0x5b, 0x8e, 0xfe, 0xf2, 0x98, 0, 0, 0x0a];
    for (fields, expected) in [
        (r#""spanId":"5b8efef29800000a""#, Span { span_id: id.clone(), ..Span::default() }),
        (r#""spanId":"5B8EFEF29800000A""#, Span { span_id: id, ..Span::default() }),
        (r#""startTimeUnixNano":"1795000000123456789""#, at(1_795_000_000_123_456_789)),
        (r#""startTimeUnixNano":1795000000123456789"#, at(1_795_000_000_123_456_789)),
        (r#""startTimeUnixNano":"18446744073709551615""#, at(u64::MAX)),
        (r#""startTimeUnixNano":1.5e3"#, at(1_500)),
        (r#""kind":3,"name":"n""#, Span { kind: 3, name: "n".into(), ..Span::default() }),
        (r#""kind":"3""#, Span { kind: 3, ..Span::default() }),
        (r#""name":null,"kind":null,"attributes":null"#, Span::default()),
        (r#""unknown":{"deep":[1,{"x":null}]},"kind":1"#, Span { kind: 1, ..Span::default() }),
        // Names as in the .proto file are other names.
        (r#""span_id":"00","trace_state":7"#, Span::default()),
        (r#""name":"\u00fc\ud83d\ude00""#, Span { name: "ü😀".into(), ..Span::default() }),
    ] {
        assert_eq!(span(fields), Ok(expected), "{fields}");
    }
}

fn at(start_time_unix_nano: u64) -> Span {
    Span { start_time_unix_nano, ..Span::default() }
}

#[test]
fn null_in_an_array_of_values_is_an_empty_value() {
    let span =
        span(r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[null,{"intValue":"1"}]}}}]"#);
    let value = span.unwrap().attributes.remove(0).value.unwrap();
    assert_eq!(format!("{value:?}").matches("AnyValue {").count(), 3, "{value:?}");
}

#[test]
fn malformed_json_is_refused_with_the_place() {
    for (fields, said) in [
        (r#""kind":"SPAN_KIND_SERVER""#, "field `kind` is a string, expected an integer at line 1 column 69"),
        (r#""kind":1.5"#, "field `kind` is a fraction, expected an integer"),
        (r#""kind":[1]"#, "field `kind` is an array, expected an integer"),
        (r#""kind":99999999999"#, "field `kind` is out of range: 99999999999"),
        (r#""startTimeUnixNano":-1"#, "field `startTimeUnixNano` is out of range: -1"),
        (r#""startTimeUnixNano":"18446744073709551616""#, "field `startTimeUnixNano` is out of range"),
        (r#""spanId":"xyz""#, "field `spanId` is no hex, expected a string of hex digits"),
        (r#""spanId":"abc""#, "field `spanId` is no hex"),
        (r#""name":7"#, "field `name` is a number, expected a string"),
        (r#""name":true"#, "field `name` is a boolean, expected a string"),
        (r#""attributes":{}"#, "field `attributes` is an object, expected an array"),
        (r#""attributes":[7]"#, "field `attributes` is a number, expected an object"),
        (r#""attributes":[{"value":{"bytesValue":"a"}}]"#, "field `bytesValue` is no base64"),
        (r#""attributes":[{"value":{"boolValue":"yes"}}]"#, "field `boolValue` is a string, expected true"),
        (r#""name":"\ud800""#, "at line 1 column"),
        (r#""name""#, "at line 1 column"),
        (r#""name":"x",,"#, "at line 1 column"),
    ] {
        let error = span(fields).unwrap_err();
        assert!(error.contains(said), "{fields}: {error}");
    }
    for json in
        ["", "null", "[]", "7", "{} {}", "{\"resourceSpans\":[", "\u{feff}{}", "{\"resourceSpans\":\"x\"}"]
    {
        let error = to_protobuf(Signal::Traces, json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line"), "{json}: {error}");
    }
    let invalid_utf8 = [&b"{\"resourceSpans\":[{\"schemaUrl\":\""[..], &[0xff], b"\"}]}"].concat();
    assert!(to_protobuf(Signal::Traces, &invalid_utf8).is_err());
}

#[test]
fn deep_json_is_refused_before_the_stack_ends() {
    let deep = "[".repeat(200_000);
    for fields in [format!("\"unknown\":{deep}"), format!("\"attributes\":{deep}")] {
        assert!(span(&fields).is_err());
    }
    let value = "{\"arrayValue\":{\"values\":[".repeat(100_000);
    let error = span(&format!(r#""attributes":[{{"key":"k","value":{value}"#)).unwrap_err();
    assert!(error.contains("recursion limit exceeded at line 1 column"), "{error}");
}

#[test]
fn an_empty_request_is_one() {
    for signal in Signal::ALL {
        assert_eq!(to_protobuf(signal, b" {} ").unwrap(), b"");
    }
}

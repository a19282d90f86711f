//! Log records: every field round-trips, and bad ones are rejected singly.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::prelude::*;
use prost::Message;

use super::read::{Placed, Row, normal, rows};
use super::*;

/// The records of a request as a reader should find them.
fn sent(request: &ExportLogsServiceRequest) -> Vec<Placed<LogRecord>> {
    let mut out = vec![];
    for of_resource in &request.resource_logs {
        let mut resource = of_resource.resource.clone().unwrap_or_default();
        resource.attributes = normal(resource.attributes);
        for of_scope in &of_resource.scope_logs {
            let mut scope = of_scope.scope.clone().unwrap_or_default();
            scope.attributes = normal(scope.attributes);
            out.extend(of_scope.log_records.iter().map(|record| Placed {
                resource: resource.clone(),
                resource_schema_url: of_resource.schema_url.clone(),
                scope: scope.clone(),
                scope_schema_url: of_scope.schema_url.clone(),
                record: as_kept(record.clone()),
            }));
        }
    }
    out
}

/// A record without a time has that of its observation, or of its arrival.
fn as_kept(mut record: LogRecord) -> LogRecord {
    record.attributes = normal(record.attributes);
    if record.time_unix_nano == 0 {
        record.time_unix_nano = record.observed_time_unix_nano;
    }
    if record.time_unix_nano == 0 {
        record.time_unix_nano = NOW.0;
    }
    for id in [&mut record.trace_id, &mut record.span_id] {
        if id.iter().all(|byte| *byte == 0) {
            id.clear();
        }
    }
    record
}

fn read(row: &Row) -> LogRecord {
    let text = row.text("body").map(|text| AnyValue { value: Some(Value::StringValue(text)) });
    let other = row.bytes("body_other").map(|raw| AnyValue::decode(raw.as_slice()).expect("an AnyValue"));
    assert!(text.is_none() || other.is_none(), "a body is held once");
    LogRecord {
        time_unix_nano: row.moment("time"),
        observed_time_unix_nano: row.moment("observed_time"),
        severity_number: row.int("severity_number"),
        severity_text: row.text("severity_text").unwrap_or_default(),
        body: text.or(other),
        attributes: normal(row.attributes("attributes")),
        dropped_attributes_count: row.count("dropped_attributes"),
        flags: row.count("flags"),
        trace_id: row.bytes("trace_id").unwrap_or_default(),
        span_id: row.bytes("span_id").unwrap_or_default(),
        event_name: row.text("event_name").unwrap_or_default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_field_of_a_log_record_round_trips(request in logs_request(Doubles::Any)) {
        let expected = sent(&request);
        let decoded = decoded(Signal::Logs, &request.encode_to_vec()).unwrap();
        prop_assert_eq!(decoded.rejected.total(), 0);
        prop_assert_eq!(decoded.accepted, expected.len() as u64);
        let found: Vec<_> =
            decoded.parts.iter().flat_map(|(_, batch)| rows(batch)).map(|row| row.placed(false, read(&row))).collect();
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
            prop_assert_eq!(found.bytes(), expected.bytes());
        }
        prop_assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn bad_records_are_rejected_singly_with_their_reasons() {
    let ahead = NOW.0 + 3_600_000_000_001;
    let log_records = vec![
        LogRecord::default(),
        LogRecord { time_unix_nano: ahead, ..LogRecord::default() },
        LogRecord { observed_time_unix_nano: ahead, ..LogRecord::default() },
        LogRecord::default(),
    ];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }],
    };
    let decoded = decoded(Signal::Logs, &request.encode_to_vec()).unwrap();
    assert_eq!(decoded.rejected.iter().collect::<Vec<_>>(), [(Reason::Future, 2)]);
    assert_eq!(decoded.accepted, 2);
}

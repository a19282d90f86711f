//! What fuzzing calls: each way in on arbitrary bytes, with what must hold whatever they are.
//!
//! `tests/fuzz` makes the bytes up, as a program of its own outside the workspace; the tests here replay those that
//! are kept in `tests/fuzz/corpus`.

use std::ops::RangeInclusive;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;
use serde::de::IgnoredAny;
use weir_model::prometheus::Otlp;
use weir_model::prometheus::Protocol;
use weir_model::{SeriesId, UnixNanos, limits};
use weir_storage::rows::MetricRows;
use weir_storage::{Known, Labels, SeriesIndex, Table};

use crate::decode::{DecodeError, Decoded, DeltaState, Malformed, Series, Signal, decode};
use crate::exposition::{self, Point};
use crate::import::{Pieces, split};
use crate::remote_write::{RemoteWrite, Version, take};
use crate::{json, zipkin};

/// Takes any bytes; panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their folder in the corpus.
pub const TARGETS: [(&str, Target); 8] = [
    ("otlp_traces", otlp_traces),
    ("otlp_metrics", otlp_metrics),
    ("otlp_logs", otlp_logs),
    ("otlp_json", otlp_json),
    ("zipkin", zipkin),
    ("import", import),
    ("remote_write", remote_write),
    ("exposition", exposition),
];

/// The collector's clock: November 2026.
const NOW: UnixNanos = UnixNanos(1_795_000_000_123_456_789);
/// Bytes of protobuf that a byte of JSON becomes, at most: a double in a list, from a digit and a comma.
const PROTOBUF_GROWTH: usize = 5;

fn otlp_traces(bytes: &[u8]) {
    compare(Signal::Traces, bytes, |request: &ExportTraceServiceRequest| {
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans = scopes.map(|scope| scope.spans.len() as u64).sum();
        spans..=spans
    });
}

fn otlp_logs(bytes: &[u8]) {
    compare(Signal::Logs, bytes, |request: &ExportLogsServiceRequest| {
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        let records = scopes.map(|scope| scope.log_records.len() as u64).sum();
        records..=records
    });
}

fn otlp_metrics(bytes: &[u8]) {
    compare(Signal::Metrics, bytes, |request: &ExportMetricsServiceRequest| {
        let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let points =
            scopes.flat_map(|scope| &scope.metrics).map(|metric| points(metric.data.as_ref()) as u64);
        // A metric without points is refused as one, or not counted.
        let (fewest, most) =
            points.fold((0, 0), |(fewest, most), points| (fewest + points, most + points.max(1)));
        fewest..=most
    });
}

/// Where the generated types read a request of so many records, the decoder accounts for as many.
fn compare<M: Message + Default>(signal: Signal, bytes: &[u8], records: impl Fn(&M) -> RangeInclusive<u64>) {
    let taken = decoded(signal, bytes);
    let Ok(request) = M::decode(bytes) else { return };
    let expected = records(&request);
    match taken {
        // Of two kinds of data in a metric, the generated types drop one and the decoder refuses its points.
        Ok(taken) if signal == Signal::Metrics => assert!(total(&taken) >= *expected.start(), "{taken:?}"),
        Ok(taken) => assert!(expected.contains(&total(&taken)), "{expected:?} records: {taken:?}"),
        Err(malformed) => assert_eq!(malformed.reason, GROUPS, "{malformed}"),
    }
    let again = decoded(signal, &request.encode_to_vec()).expect("the generated types wrote it");
    assert!(expected.contains(&total(&again)), "{expected:?} records, written anew: {again:?}");
}

/// Why the decoder alone refuses a request: OTLP has no groups.
const GROUPS: &str = "groups nested too deeply";

fn total(decoded: &Decoded) -> u64 {
    decoded.accepted + decoded.rejected.total()
}

fn points(data: Option<&Data>) -> usize {
    match data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
        None => 0,
    }
}

/// Decodes with an index that knows no series. Whatever is taken fits the tables.
fn decoded(signal: Signal, bytes: &[u8]) -> Result<Decoded, Malformed> {
    let known = |_: SeriesId, _: &Labels, _: i32| Known::New;
    let decoded = match decode(
        signal,
        bytes,
        NOW,
        &Series { known: &known, deltas: &DeltaState::default(), naming: &Otlp::default() },
    ) {
        Ok(decoded) => decoded,
        Err(DecodeError::Malformed(malformed)) => {
            assert!(malformed.at <= bytes.len(), "{malformed}, of {} bytes", bytes.len());
            return Err(malformed);
        }
        Err(DecodeError::Columns(error)) => panic!("{error}"),
    };
    let mut rows = 0;
    for (table, batch) in &decoded.parts {
        assert_eq!(batch.schema(), table.schema());
        rows += batch.num_rows() as u64;
    }
    match signal {
        Signal::Traces | Signal::Logs => assert_eq!(rows, decoded.accepted),
        // A histogram is a row for each bucket.
        Signal::Metrics => assert!(rows >= decoded.accepted, "{rows} rows: {decoded:?}"),
    }
    Ok(decoded)
}

fn otlp_json(bytes: &[u8]) {
    for signal in Signal::ALL {
        let Ok(request) = json::to_protobuf(signal, bytes) else { continue };
        assert!(
            request.len() <= PROTOBUF_GROWTH * bytes.len(),
            "{} bytes become {}",
            bytes.len(),
            request.len()
        );
        decoded(signal, &request).expect("what is written is well-formed");
        match signal {
            Signal::Traces => otlp_traces(&request),
            Signal::Metrics => otlp_metrics(&request),
            Signal::Logs => otlp_logs(&request),
        }
    }
}

fn zipkin(bytes: &[u8]) {
    let Ok(spans) = zipkin::to_protobuf(bytes, NOW) else { return };
    let elements: Vec<IgnoredAny> = serde_json::from_slice(bytes).expect("it was read as a list");
    let decoded = decoded(Signal::Traces, &spans.protobuf).expect("what is written is well-formed");
    assert_eq!(total(&decoded) + spans.rejected, elements.len() as u64, "spans in a list");
    otlp_traces(&spans.protobuf);
}

/// The bytes as a request of either version: what is taken fits the tables and is taken again from a series that is known.
fn remote_write(bytes: &[u8]) {
    for version in [Version::First, Version::Second] {
        let (state, index) = (RemoteWrite::default(), SeriesIndex::default());
        let read = || {
            let mut rows = MetricRows::new(&index);
            let taken = take(version, bytes, NOW, &state, &mut rows)?;
            Ok::<_, Malformed>((taken, rows.finish().expect("rows fit their tables")))
        };
        let (first, again) = (read(), read());
        let (Ok((first, parts)), Ok((again, same))) = (&first, &again) else {
            assert!(first.is_err() && again.is_err(), "{version:?}");
            continue;
        };
        let rows = |table: Table| {
            let of = parts.iter().filter(|(of, _)| *of == table);
            of.map(|(_, rows)| rows.num_rows() as u64).sum::<u64>()
        };
        assert_eq!(rows(Table::Samples), first.samples);
        assert_eq!(rows(Table::Histograms), first.histograms);
        assert_eq!(rows(Table::Exemplars), first.exemplars);
        assert_eq!((first.samples, &first.rejected), (again.samples, &again.rejected));
        assert_eq!(parts.len(), same.len());
        for ((table, rows), (_, same)) in parts.iter().zip(same) {
            assert_eq!(rows.schema(), table.schema());
            assert_eq!(rows.num_rows(), same.num_rows(), "{table:?}");
        }
    }
}

/// Every format reads any bytes or refuses them, and what it has read it reads alike again.
fn exposition(bytes: &[u8]) {
    #[derive(Default, PartialEq, Debug)]
    struct Points(Vec<(Vec<u8>, Option<Labels>)>);
    impl exposition::Sink for Points {
        fn describe(&mut self, _: &str, _: exposition::Told<'_>) {}

        fn point(
            &mut self,
            series: &dyn exposition::Series,
            point: Point<'_>,
        ) -> Result<(), exposition::Stop> {
            let labels = series.labels().ok().map(Labels::new);
            assert!(
                labels.as_ref().is_none_or(|labels| !labels.metric().is_empty()),
                "a point without a name"
            );
            if let exposition::Value::Native(native) = point.value {
                let mut coarse = native.clone();
                coarse.fit(4);
                // Counts of a bucket end at what 64 bits hold.
                if sum(native) <= u128::from(u64::MAX) {
                    assert_eq!(sum(native), sum(&coarse), "merging buckets loses nothing");
                }
            }
            self.0.push((series.key().to_vec(), labels));
            Ok(())
        }
    }
    fn sum(native: &exposition::Native) -> u128 {
        [&native.positive, &native.negative].iter().flat_map(|side| &side.whole).map(|c| u128::from(*c)).sum()
    }
    for protocol in [Protocol::Text004, Protocol::OpenMetrics100, Protocol::Protobuf] {
        let custom = bytes.len() % 2 == 1;
        let options = exposition::Options { native: true, classic_too: true, custom };
        let (mut once, mut twice) = (Points::default(), Points::default());
        let result = exposition::parse(protocol, bytes, options, &mut once);
        assert_eq!(exposition::parse(protocol, bytes, options, &mut twice), result);
        assert_eq!(once, twice);
    }
}

/// Pieces of one file that are looked at: a few bytes can be compressed megabytes.
const PIECES: usize = 1_000;

fn import(bytes: &[u8]) {
    for piece in Pieces::new(bytes).take(PIECES) {
        let Ok(piece) = piece else { continue };
        let Ok(parts) = split(piece.signal, &piece.request) else { continue };
        for part in parts {
            assert!(part.records > 0, "a part without records");
            let fits = part.records <= limits::IMPORT_BATCH_RECORDS as u64;
            assert!(fits || piece.signal == Signal::Metrics, "a part of {} records", part.records);
            let Ok(decoded) = decoded(piece.signal, &part.request) else { continue };
            assert_eq!(total(&decoded), part.records, "records of a part of {:?}", piece.signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpus_keeps_every_promise() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
            let mut count = 0;
            for file in fs::read_dir(&folder).unwrap() {
                let path = file.unwrap().path();
                println!("{}", path.display());
                target(&fs::read(path).unwrap());
                count += 1;
            }
            assert!(count >= 3, "{count} files for {name}");
        }
    }
}

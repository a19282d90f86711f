use std::sync::Arc;

use axum::body::{Body, to_bytes};
use http::Request;
use prost::encoding::decode_varint;
use tower::ServiceExt;
use weir_model::TenantId;

use super::super::settings::Settings;
use super::wire::{ChunkedReadResponse, Matcher};
use super::xor::tests::decoded;
use super::*;
use crate::promql::number::stale;
use crate::{api, testdata};

fn seconds(at: i64) -> i64 {
    (testdata::T0 + at) * 1000
}

/// Two series of 1,000 samples a second apart, and one that ends.
fn state() -> State {
    use serde_json::json;
    use weir_storage::Table;

    let labels = |job: &str| Labels::new([("__name__", "up"), ("job", job)]);
    let mut rows = Vec::new();
    for job in ["a", "b"] {
        for at in 0..1_000 {
            rows.push(json!({"metric": "up", "series_id": labels(job).id().to_column(),
                "time": seconds(at) * 1000, "value": at as f64 / 2.0}));
        }
    }
    let series = ["a", "b"].map(|job| {
        json!({"metric": "up", "series_id": labels(job).id().to_column(), "time": seconds(0) * 1000,
            "labels": {"__name__": "up", "job": job}})
    });
    let tables = [(Table::Samples, rows), (Table::Series, series.to_vec())];
    State::new(testdata::engine(tables), TenantId::default(), testdata::clock())
}

fn query(start: i64, end: i64, matchers: &[(i32, &str, &str)]) -> Query {
    let matcher = |(kind, name, value): &(i32, &str, &str)| Matcher {
        kind: *kind,
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    Query {
        start_timestamp_ms: seconds(start),
        end_timestamp_ms: seconds(end),
        matchers: matchers.iter().map(matcher).collect(),
    }
}

async fn ask(state: &State, queries: Vec<Query>, kinds: &[i32]) -> (StatusCode, String, Vec<u8>) {
    let request = ReadRequest { queries, accepted_response_types: kinds.to_vec() };
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    send(state, body).await
}

async fn send(state: &State, body: Vec<u8>) -> (StatusCode, String, Vec<u8>) {
    let request = Request::post("/api/v1/read").body(Body::from(body)).unwrap();
    let response = api::router(state.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let body = to_bytes(response.into_body(), 1 << 26).await.unwrap();
    (status, kind.unwrap_or_default(), body.to_vec())
}

fn names(labels: &[wire::Label]) -> Vec<(&str, &str)> {
    labels.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect()
}

#[tokio::test]
async fn samples_come_in_one_message() {
    let state = state();
    let queries = vec![
        query(10, 12, &[(0, "__name__", "up"), (2, "job", "a|c")]),
        query(0, 5, &[(0, "__name__", "nothing")]),
        query(998, 5_000, &[(0, "__name__", "up"), (1, "job", "a")]),
    ];
    for kinds in [&[][..], &[0], &[7, 0, 1]] {
        let (status, kind, body) = ask(&state, queries.clone(), kinds).await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/x-protobuf"));
        let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let results = ReadResponse::decode(plain.as_slice()).unwrap().results;
        assert_eq!(results.iter().map(|result| result.timeseries.len()).collect::<Vec<_>>(), [1, 0, 1]);
        let of_first = &results[0].timeseries[0];
        assert_eq!(names(&of_first.labels), [("__name__", "up"), ("job", "a")]);
        let samples: Vec<(i64, f64)> = of_first.samples.iter().map(|s| (s.timestamp, s.value)).collect();
        assert_eq!(samples, [(seconds(10), 5.0), (seconds(11), 5.5), (seconds(12), 6.0)]);
        assert_eq!(results[2].timeseries[0].samples.len(), 2);
    }
}

/// The messages of a streamed answer, their checksums compared.
fn messages(mut body: &[u8]) -> Vec<ChunkedReadResponse> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let len = decode_varint(&mut body).unwrap() as usize;
        let (sum, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(len);
        assert_eq!(sum, crc(message).to_be_bytes());
        out.push(ChunkedReadResponse::decode(message).unwrap());
        body = rest;
    }
    out
}

/// CRC-32C bit by bit, as its definition says.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[tokio::test]
async fn chunks_come_as_a_stream() {
    let queries =
        vec![query(0, 999, &[(0, "__name__", "up")]), query(5, 5, &[(0, "__name__", "up"), (3, "job", "b")])];
    let (status, kind, body) = ask(&state(), queries, &[1, 0]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(kind, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse");
    let messages = messages(&body);
    assert_eq!(messages.iter().map(|message| message.query_index).collect::<Vec<_>>(), [0, 0, 1]);
    let series: Vec<_> = messages.iter().flat_map(|message| &message.chunked_series).collect();
    assert_eq!(names(&series[1].labels), [("__name__", "up"), ("job", "b")]);
    for one in &series[..2] {
        assert_eq!(one.chunks.len(), 1_000_usize.div_ceil(120));
        let samples: Vec<(i64, u64)> = one.chunks.iter().flat_map(|chunk| decoded(&chunk.data)).collect();
        let expected: Vec<(i64, u64)> =
            (0..1_000).map(|at| (seconds(at), (at as f64 / 2.0).to_bits())).collect();
        assert_eq!(samples, expected);
        let ends = |chunk: &wire::Chunk| (chunk.min_time_ms, chunk.max_time_ms);
        assert_eq!(ends(&one.chunks[0]), (seconds(0), seconds(119)));
        assert_eq!(ends(&one.chunks[8]), (seconds(960), seconds(999)));
    }
    assert_eq!(decoded(&series[2].chunks[0].data), [(seconds(5), 2.5_f64.to_bits())]);
}

#[test]
fn no_frame_is_larger_than_others_take() {
    let mut series = SeriesSamples { labels: Labels::new([("__name__", "x")]), ..SeriesSamples::default() };
    // Values that no encoding makes small.
    let mut bits = 1_u64;
    for time in 0..400_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        series.floats.push(time, f64::from_bits(bits), 0);
    }
    series.floats.push(400_000, stale(), 0);
    let frames = chunks::frames(&[vec![series.clone()]], &Labels::new([("region", "eu")]));
    assert!(frames.len() > 2, "{}", frames.len());
    assert!(
        frames.iter().all(|frame| frame.len() <= FRAME_BYTES),
        "{:?}",
        frames.iter().map(Bytes::len).max()
    );
    let messages = messages(&frames.concat());
    assert!(messages.iter().all(|message| {
        names(&message.chunked_series[0].labels) == [("__name__", "x"), ("region", "eu")]
    }));
    let samples: Vec<(i64, u64)> = messages
        .iter()
        .flat_map(|message| &message.chunked_series[0].chunks)
        .flat_map(|chunk| decoded(&chunk.data))
        .collect();
    let expected = series.floats.times.iter().copied().zip(series.floats.values.iter().map(|v| v.to_bits()));
    assert!(samples.into_iter().eq(expected));
}

#[tokio::test]
async fn external_labels_are_added_and_asked_for() {
    let mut state = state();
    let text = "global: {external_labels: {region: eu, job: other}}";
    let config = Arc::new(weir_model::prometheus::Config::parse(text).unwrap().0);
    let config = tokio::sync::watch::channel(config).1;
    state.prometheus = Arc::new(Settings { config, ..Settings::new(&state.clock) });
    for (value, found) in [("eu", 1), ("us", 0)] {
        let matchers = [(0, "__name__", "up"), (0, "job", "a"), (0, "region", value)];
        let (_, _, body) = ask(&state, vec![query(0, 1, &matchers)], &[1]).await;
        let messages = messages(&body);
        assert_eq!(messages.len(), found);
        for message in messages {
            let expected = [("__name__", "up"), ("job", "a"), ("region", "eu")];
            assert_eq!(names(&message.chunked_series[0].labels), expected);
        }
    }
}

#[tokio::test]
async fn mistakes_are_told_in_plain_text() {
    let mut state = state();
    let up = [(0, "__name__", "up")];
    let text = |body: Vec<u8>| String::from_utf8(body).unwrap();
    let (status, _, body) = send(&state, b"no snappy".to_vec()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text(body.clone()).starts_with("cannot read the request: snappy: "), "{}", text(body));
    let large = snap::raw::Encoder::new().compress_vec(&vec![0; REMOTE_READ_REQUEST_BYTES + 1]).unwrap();
    let (status, _, body) = send(&state, large).await;
    let message = "cannot read the request: it has 1048577 bytes, at most 1048576 are taken\n";
    assert_eq!((status, text(body).as_str()), (StatusCode::BAD_REQUEST, message));
    let (status, _, body) = ask(&state, vec![query(0, 1, &[(9, "a", "b")])], &[]).await;
    assert_eq!((status, text(body).as_str()), (StatusCode::BAD_REQUEST, "invalid matcher type\n"));
    let (status, _, body) = ask(&state, vec![query(0, 1, &up)], &[5]).await;
    let message =
        "none of the requested response types is supported; supported are SAMPLES and STREAMED_XOR_CHUNKS\n";
    assert_eq!((status, text(body).as_str()), (StatusCode::BAD_REQUEST, message));
    let options = crate::promql::Options { samples: 100, ..Default::default() };
    state.prometheus = Arc::new(Settings { options, ..Settings::new(&state.clock) });
    let (status, _, body) = ask(&state, vec![query(0, 999, &up)], &[1]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text(body.clone()).contains("(limit 100)"), "{}", text(body));
}

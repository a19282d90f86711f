//! Real traces: two days of a shop of ten services (Nezha, OnlineBoutique), imported and asked about, against the
//! same questions put to the Parquet file they come from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::Server;
use crate::{import_stdin, imported};

/// As the file's description says.
const SPANS: usize = 2_033_385;
const TRACES: usize = 46_874;
const SERVICES: usize = 10;
const EDGES: usize = 13;

/// Spans of one line of the import.
const LINE: usize = 1_000;

/// A span of the file; names are numbers in [`Traces::names`].
struct Span {
    trace: u128,
    id: u64,
    parent: Option<u64>,
    pod: u32,
    service: u32,
    operation: u32,
    start: u64,
    end: u64,
}

/// The whole file.
#[derive(Default)]
struct Traces {
    spans: Vec<Span>,
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Where a span is in `spans`.
    by_id: HashMap<(u128, u64), usize>,
}

impl Traces {
    fn read(path: &Path) -> Self {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let mut traces = Self::default();
        for batch in reader.with_batch_size(8_192).build().unwrap() {
            traces.add(&batch.unwrap());
        }
        traces.by_id =
            traces.spans.iter().enumerate().map(|(at, span)| ((span.trace, span.id), at)).collect();
        traces
    }

    fn add(&mut self, batch: &RecordBatch) {
        let texts = |name: &str| -> StringArray {
            let column = arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
            column.as_string::<i32>().clone()
        };
        let times = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let [trace, id, parent, pod, service, operation] =
            ["trace_id", "span_id", "parent_span_id", "pod", "service", "operation"].map(texts);
        let [start, end] = ["start_unix_nano", "end_unix_nano"].map(times);
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        for row in 0..batch.num_rows() {
            let span = Span {
                trace: u128::from_str_radix(trace.value(row), 16).unwrap(),
                id: hex(id.value(row)),
                parent: parent.is_valid(row).then(|| hex(parent.value(row))),
                pod: self.number(pod.value(row)),
                service: self.number(service.value(row)),
                operation: self.number(operation.value(row)),
                start: start.value(row) as u64,
                end: end.value(row) as u64,
            };
            self.spans.push(span);
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    fn parent(&self, span: &Span) -> Option<&Span> {
        let at = self.by_id.get(&(span.trace, span.parent?))?;
        Some(&self.spans[*at])
    }

    /// Span kinds, which the file does not have: a child in another pod is the server of its parent, the client.
    fn kinds(&self) -> Vec<u8> {
        let (internal, server, client) = (1, 2, 3);
        let mut kinds = vec![internal; self.spans.len()];
        for span in &self.spans {
            if let Some(parent) = self.parent(span).filter(|parent| parent.pod != span.pod) {
                kinds[self.by_id[&(parent.trace, parent.id)]] = client;
            }
        }
        for (span, kind) in self.spans.iter().zip(&mut kinds) {
            if self.parent(span).is_none_or(|parent| parent.pod != span.pod) {
                *kind = server;
            }
        }
        kinds
    }

    /// Writes OTLP JSON lines as the file exporter of OpenTelemetry's Collector does.
    fn write(&self, out: &mut impl Write) {
        let kinds = self.kinds();
        let mut from = 0;
        let mut line = String::new();
        while from < self.spans.len() {
            let first = &self.spans[from];
            let same = self.spans[from..].iter().take(LINE).take_while(|span| span.pod == first.pod).count();
            line.clear();
            let (service, pod) = (json!(self.name(first.service)), json!(self.name(first.pod)));
            let _ = write!(
                line,
                r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":{service}}}}},{{"key":"k8s.pod.name","value":{{"stringValue":{pod}}}}}]}},"scopeSpans":[{{"scope":{{}},"spans":["#
            );
            for (at, (span, kind)) in self.spans.iter().zip(&kinds).enumerate().skip(from).take(same) {
                let parent = span.parent.map_or(String::new(), |parent| format!("{parent:016x}"));
                let comma = if at > from { "," } else { "" };
                let _ = write!(
                    line,
                    r#"{comma}{{"traceId":"{:032x}","spanId":"{:016x}","parentSpanId":"{parent}","name":{},"kind":{},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","status":{{}}}}"#,
                    span.trace,
                    span.id,
                    json!(self.name(span.operation)),
                    kind,
                    span.start,
                    span.end,
                );
            }
            line.push_str("]}]}]}\n");
            out.write_all(line.as_bytes()).unwrap();
            from += same;
        }
    }

    /// Service, spans, traces, nanoseconds in all, and the first start and last end.
    fn by_service(&self) -> Vec<Value> {
        let mut sums: BTreeMap<&str, (u64, BTreeSet<u128>, u64, u64, u64)> = BTreeMap::new();
        for span in &self.spans {
            let new = || (0, BTreeSet::new(), 0, u64::MAX, 0);
            let sum = sums.entry(self.name(span.service)).or_insert_with(new);
            sum.0 += 1;
            sum.1.insert(span.trace);
            sum.2 += span.end - span.start;
            sum.3 = sum.3.min(span.start);
            sum.4 = sum.4.max(span.end);
        }
        let row = |(service, (spans, traces, took, first, last)): (&str, (_, BTreeSet<_>, _, _, _))| json!({"service": service, "spans": spans, "traces": traces.len(), "took": took, "first": first, "last": last});
        sums.into_iter().map(row).collect()
    }

    /// Caller, callee, calls, and the longest of them.
    fn edges(&self) -> Vec<Value> {
        let mut sums: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        for span in &self.spans {
            let Some(parent) = self.parent(span).filter(|parent| parent.service != span.service) else {
                continue;
            };
            let sum = sums.entry((self.name(parent.service), self.name(span.service))).or_default();
            sum.0 += 1;
            sum.1 = sum.1.max(span.end - span.start);
        }
        let row = |((client, server), (calls, longest)): (_, (u64, u64))| json!({"client": client, "server": server, "calls": calls, "longest": longest});
        sums.into_iter().map(row).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_days_of_a_real_shop_are_imported_and_answer_as_their_file_does() {
    let Some(folder) = std::env::var_os("WEIR_SHARED").map(PathBuf::from) else {
        println!("skipped: WEIR_SHARED does not name the folder with `data/nezha-onlineboutique`");
        return;
    };
    let path = folder.join("data/nezha-onlineboutique/spans.parquet");
    let traces = Traces::read(&path);
    let (by_service, edges) = (traces.by_service(), traces.edges());
    assert_eq!((traces.spans.len(), by_service.len(), edges.len()), (SPANS, SERVICES, EDGES));

    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut child = import_stdin(&["--data-dir", data_dir.to_str().unwrap()]);
    let mut stdin = child.stdin.take().unwrap();
    let (done, traces) = tokio::task::spawn_blocking(move || {
        traces.write(&mut stdin);
        drop(stdin);
        (imported(&child.wait_with_output().unwrap()), traces)
    })
    .await
    .unwrap();
    let all = format!("spans: {SPANS} accepted, 0 rejected");
    assert!(done.code == 0 && done.said.contains(&all), "{}{}", done.said, done.faults);
    print!("{}", done.said);

    let server = Server::start(&data_dir, &[]);
    let rows = server
        .sql(
            "select service, count(*) as spans, count(distinct trace_id) as traces, sum(duration_ns) as took, \
             min(cast(start_time as bigint)) as first, max(cast(start_time as bigint) + duration_ns) as last \
             from spans group by service order by service",
        )
        .await;
    assert_eq!(rows, by_service);
    let whole = "select count(distinct trace_id) as traces, count(*) filter (where parent_span_id is null) as roots from spans";
    assert_eq!(server.sql(whole).await, [json!({"traces": TRACES, "roots": TRACES})]);
    check_edges(&server, &edges).await;
    check_a_trace(&server, &traces).await;
    server.process.stop();
}

/// Every parent is there, and the calls between services are those of the file.
async fn check_edges(server: &Server, edges: &[Value]) {
    let rows = server
        .sql(
            "select p.service as client, c.service as server, count(*) as calls, max(c.duration_ns) as longest \
             from spans c join spans p on p.trace_id = c.trace_id and p.span_id = c.parent_span_id \
             where p.service <> c.service group by 1, 2 order by 1, 2",
        )
        .await;
    assert_eq!(rows, edges);
    let orphans = "select count(*) from spans c left join spans p on p.trace_id = c.trace_id and \
        p.span_id = c.parent_span_id where c.parent_span_id is not null and p.span_id is null";
    assert_eq!(server.sql_value(orphans).await, 0);
}

/// The trace of the longest root, span by span.
async fn check_a_trace(server: &Server, traces: &Traces) {
    let roots = traces.spans.iter().filter(|span| span.parent.is_none());
    let root = roots.max_by_key(|span| (span.end - span.start, span.trace)).unwrap();
    let trace = server.get(&format!("/api/traces/{:032x}", root.trace)).await;
    let id = |value: &Value| value.as_str().map(|id| u64::from_str_radix(id, 16).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: BTreeSet<_> = trace["spans"]
        .as_array()
        .unwrap_or_else(|| panic!("{trace}"))
        .iter()
        .map(|span| {
            let pod = text(&span["resource_attributes"]["k8s.pod.name"]);
            let names = (text(&span["service"]), text(&span["name"]), pod);
            (id(&span["span_id"]), id(&span["parent_span_id"]), names, span["duration_ns"].as_u64().unwrap())
        })
        .collect();
    let of_trace = traces.spans.iter().filter(|span| span.trace == root.trace);
    let expected: BTreeSet<_> = of_trace
        .map(|span| {
            let names = [span.service, span.operation, span.pod].map(|number| traces.name(number).to_owned());
            (Some(span.id), span.parent, names.into(), span.end - span.start)
        })
        .collect();
    assert!(expected.len() > 1);
    assert_eq!(found, expected);
}

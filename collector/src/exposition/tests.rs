//! Expositions as exporters write them, and as they should not.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

mod protobuf;

/// Writes down what it is handed, a line each.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<String>,
    /// How many points it takes.
    pub(crate) most: Option<usize>,
}

impl Sink for Lines {
    fn describe(&mut self, family: &str, told: Told<'_>) {
        self.lines.push(match told {
            Told::Kind(kind) => format!("TYPE {family} {}", kind.name()),
            Told::Unit(unit) => format!("UNIT {family} {unit}"),
            Told::Help(help) => format!("HELP {family} {help:?}"),
        });
    }

    fn point(&mut self, series: &dyn Series, point: Point<'_>) -> Result<(), Stop> {
        if self.most.is_some_and(|most| self.lines.len() >= most) {
            return Err(Stop);
        }
        let mut line = match series.labels() {
            Ok(mut labels) => {
                let name = labels.remove("__name__").unwrap_or_default();
                let pairs: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
                format!("{name}{{{}}}", pairs.join(","))
            }
            Err(error) => format!("ERROR {error}"),
        };
        match point.value {
            Value::Float(value) => write!(line, " {value:?}").unwrap(),
            Value::Native(native) => {
                let of = |side: &[u64], floats: &[f64], first: i32| format!("{first}:{side:?}{floats:?}");
                let positive = &native.positive;
                let negative = &native.negative;
                write!(
                    line,
                    " schema={} count={} zero={} sum={} +{} -{}",
                    native.schema,
                    native.count,
                    native.zero,
                    native.sum,
                    of(&positive.whole, &positive.counts, positive.first),
                    of(&negative.whole, &negative.counts, negative.first)
                )
                .unwrap();
            }
        }
        if let Some(time) = point.time {
            write!(line, " @{time}").unwrap();
        }
        if let Some(start) = point.start {
            write!(line, " from {start}").unwrap();
        }
        for exemplar in point.exemplars {
            let labels: Vec<String> = exemplar.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            write!(line, " # {} {} {:?}", labels.join(","), exemplar.value, exemplar.time).unwrap();
        }
        self.lines.push(line);
        Ok(())
    }
}

fn lines(protocol: Protocol, text: &str) -> Result<Vec<String>, String> {
    let mut sink = Lines::default();
    let read = parse(protocol, text.as_bytes(), Options::default(), &mut sink);
    read.map(|()| sink.lines).map_err(|error| error.to_string())
}

#[test]
fn the_text_format_is_read_as_exporters_write_it() {
    let text = "# HELP http_requests_total The total, with \\\\ and\\na break.\n\
                # TYPE http_requests_total counter\n\
                http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
                http_requests_total{method=\"post\",code=\"400\",}    3 1395066363000\n\n\
                # a comment\n#and another\n\
                msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot \\\"find\\\"\\nit\"} 1.458255915e9\n\
                metric_without_timestamp_and_labels 12.47\r\n\
                something_weird{problem=\"division by zero\"} +Inf -3982045\n\
                \t spaced { a = \"b\" , c = \"}{\" }  NaN\n\
                # TYPE rpc_duration_seconds summary\n\
                rpc_duration_seconds{quantile=\"0.5\"} 4773\n\
                rpc_duration_seconds{quantile=\"1\"} 1\n\
                rpc_duration_seconds_count 2693\n\
                # TYPE h histogram\n\
                h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 5\nlast{le=\"1\"} 0x1p1\n";
    assert!(lines(Protocol::Text004, text).unwrap_err().contains("line 20"), "hexadecimal is no value");
    let read = lines(Protocol::Text004, &text.replace(" 0x1p1", " 2")).unwrap();
    let expected = [
        "HELP http_requests_total \"The total, with \\\\ and\\na break.\"",
        "TYPE http_requests_total counter",
        "http_requests_total{code=\"200\",method=\"post\"} 1027.0 @1395066363000",
        "http_requests_total{code=\"400\",method=\"post\"} 3.0 @1395066363000",
        "msdos_file_access_time_seconds{error=\"Cannot \\\"find\\\"\\nit\",path=\"C:\\\\DIR\\\\FILE.TXT\"} 1458255915.0",
        "metric_without_timestamp_and_labels{} 12.47",
        "something_weird{problem=\"division by zero\"} inf @-3982045",
        "spaced{a=\"b\",c=\"}{\"} NaN",
        "TYPE rpc_duration_seconds summary",
        "rpc_duration_seconds{quantile=\"0.5\"} 4773.0",
        "rpc_duration_seconds{quantile=\"1.0\"} 1.0",
        "rpc_duration_seconds_count{} 2693.0",
        "TYPE h histogram",
        "h_bucket{le=\"1.0\"} 3.0",
        "h_bucket{le=\"+Inf\"} 4.0",
        "h_sum{} 5.0",
        "last{le=\"1\"} 2.0",
    ];
    assert_eq!(read, expected);
}

#[test]
fn names_in_utf8_are_in_quotes() {
    let text = "# HELP \"my.metric\" dots\n# TYPE \"my.metric\" gauge\n{\"my.metric\",\"a.b\"=\"c\",d=\"e\"} 1\n{\"x y\"} 2\n";
    let read = lines(Protocol::Text100, text).unwrap();
    let expected =
        ["HELP my.metric \"dots\"", "TYPE my.metric gauge", "my.metric{a.b=\"c\",d=\"e\"} 1.0", "x y{} 2.0"];
    assert_eq!(read, expected);
}

#[test]
fn what_is_no_exposition_says_in_which_line() {
    for (text, line, problem) in [
        ("a 1\nb\n", 2, "expected a value"),
        ("a 1\nb x\n", 2, "`x` is no value"),
        ("a{b=\"c} 1\n", 1, "does not end"),
        ("a{b=c} 1\n", 1, "expected a text in quotes"),
        ("a{b} 1\n", 1, "expected `=`"),
        ("a{\"x\",\"y\"} 1\n", 1, "twice"),
        ("1a 2\n", 1, "begins with a digit"),
        ("a 1 2 3\n", 1, "expected the end of the line"),
        ("a 1 now\n", 1, "`now` is no time"),
        ("# TYPE a nonsense\n", 1, "`nonsense` is no type"),
        ("= 1\n", 1, "expected the name"),
        ("<html>\n", 1, "expected the name"),
        ("a{b=\"1\" c=\"2\"} 1\n", 1, "expected `,` or `}`"),
    ] {
        let error = lines(Protocol::Text004, text).unwrap_err();
        assert!(error.starts_with(&format!("line {line}: ")) && error.contains(problem), "{text:?}: {error}");
    }
    let mut sink = Lines::default();
    let error = parse(Protocol::Text004, b"a 1\nb\xff 2\n", Options::default(), &mut sink).unwrap_err();
    assert_eq!(error.to_string(), "line 2: not valid UTF-8");
}

#[test]
fn a_label_twice_is_no_label_set() {
    let read = lines(Protocol::Text004, "a{b=\"1\",b=\"2\"} 1\n").unwrap();
    assert_eq!(read, ["ERROR a label is there twice 1.0"]);
}

#[test]
fn openmetrics_has_units_exemplars_times_of_creation_and_an_end() {
    let text = "# TYPE foo_seconds counter\n# UNIT foo_seconds seconds\n# HELP foo_seconds All \\\"of\\\" it\n\
                foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"KOO5S4vxi0o\"} 0.67 1520879607.5\n\
                foo_seconds_created{a=\"b\"} 1520430000.123\n\
                # TYPE h histogram\n\
                h_bucket{le=\"0.1\",x=\"y\"} 8 # {} 0.054\n\
                h_bucket{x=\"y\",le=\"+Inf\"} 17\nh_count{x=\"y\"} 17\nh_created{x=\"y\"} 1\n\
                # TYPE up gauge\nup 1\nup_created 5\n# EOF\n";
    let read = lines(Protocol::OpenMetrics100, text).unwrap();
    let expected = [
        "TYPE foo_seconds counter",
        "UNIT foo_seconds seconds",
        "HELP foo_seconds \"All \\\"of\\\" it\"",
        "foo_seconds_total{a=\"b\"} 17.0 @1520879607789 from 1520430000123 # trace_id=KOO5S4vxi0o 0.67 Some(1520879607500)",
        "foo_seconds_created{a=\"b\"} 1520430000.123",
        "TYPE h histogram",
        "h_bucket{le=\"0.1\",x=\"y\"} 8.0 from 1000 #  0.054 None",
        "h_bucket{le=\"+Inf\",x=\"y\"} 17.0 from 1000",
        "h_count{x=\"y\"} 17.0 from 1000",
        "h_created{x=\"y\"} 1.0",
        "TYPE up gauge",
        "up{} 1.0",
        "up_created{} 5.0",
    ];
    assert_eq!(read, expected);
}

#[test]
fn openmetrics_is_strict() {
    for (text, problem) in [
        ("a 1\n", "ends without `# EOF`"),
        ("a 1\n\n# EOF\n", "an empty line"),
        ("# EOF\na 1\n", "something follows"),
        ("# comment\n# EOF\n", "expected `# HELP`"),
        ("# TYPE a_b gauge\n# UNIT a_b seconds\n# EOF\n", "is no suffix"),
        ("a 1 # {x=\"y\"}\n# EOF\n", "behind the labels of an exemplar"),
        ("a 1 # 5\n# EOF\n", "expected labels in braces"),
    ] {
        let error = lines(Protocol::OpenMetrics100, text).unwrap_err();
        assert!(error.contains(problem), "{text:?}: {error}");
    }
    assert_eq!(lines(Protocol::OpenMetrics100, "a 1\n# EOF").unwrap(), ["a{} 1.0"]);
}

#[test]
fn classic_histograms_become_native_ones_with_custom_buckets() {
    let text = "# TYPE h histogram\nh_bucket{le=\"0.5\",a=\"b\"} 2\nh_bucket{a=\"b\",le=\"1\"} 5\n\
                h_bucket{le=\"+Inf\",a=\"b\"} 6\nh_sum{a=\"b\"} 7.5\nh_count{a=\"b\"} 6\n\
                # TYPE g gauge\ng 1\n";
    let read = |classic_too| {
        let mut sink = Lines::default();
        let options = Options { custom: true, classic_too, ..Options::default() };
        parse(Protocol::Text004, text.as_bytes(), options, &mut sink).unwrap();
        sink.lines
    };
    let native = "h{a=\"b\"} schema=-53 count=6 zero=0 sum=7.5 +0:[2, 3, 1][] -0:[][]";
    assert_eq!(read(false), ["TYPE h histogram", native, "TYPE g gauge", "g{} 1.0"]);
    let both = read(true);
    assert_eq!((both.len(), both[6].as_str()), (9, native), "{both:?}");
}

#[test]
fn a_sink_that_has_enough_is_handed_no_more() {
    let mut sink = Lines { most: Some(1), ..Lines::default() };
    parse(Protocol::Text004, b"a 1\nb 2\n!!!\n", Options::default(), &mut sink).unwrap();
    assert_eq!(sink.lines, ["a{} 1.0"]);
}

#[test]
fn content_types_name_formats() {
    for (content_type, protocol) in [
        ("text/plain; version=0.0.4; charset=utf-8; escaping=values", Some(Protocol::Text004)),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", Some(Protocol::Text100)),
        ("text/plain", Some(Protocol::Text004)),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(Protocol::OpenMetrics100)),
        ("application/openmetrics-text; version=0.0.1", Some(Protocol::OpenMetrics001)),
        (
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
            Some(Protocol::Protobuf),
        ),
        ("application/vnd.google.protobuf; proto=x.Y; encoding=delimited", None),
        ("text/html", None),
        ("", None),
    ] {
        assert_eq!(protocol_of(content_type), protocol, "{content_type}");
    }
}

/// A sample as text, and as it should be read.
fn sample() -> impl Strategy<Value = (String, String)> {
    let pairs = proptest::collection::btree_map("[a-z_][a-z0-9_]{0,5}", "\\PC{0,8}|[\\\\\"\n]{0,3}", 0..4);
    ("[a-z_:][a-z0-9_:]{0,8}", pairs, any::<f64>(), proptest::option::of(any::<i64>())).prop_map(
        |(name, pairs, value, time)| {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let written: Vec<String> =
                pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
            let read: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let (mut line, mut expected) = (
                format!("{name}{{{}}} {value}", written.join(",")),
                format!("{name}{{{}}} {value:?}", read.join(",")),
            );
            if let Some(time) = time {
                write!(line, " {time}").unwrap();
                write!(expected, " @{time}").unwrap();
            }
            (line, expected)
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(samples in proptest::collection::vec(sample(), 0..8)) {
        let text: String = samples.iter().map(|(line, _)| format!("{line}\n")).collect();
        let expected: Vec<&str> = samples.iter().map(|(_, read)| read.as_str()).collect();
        prop_assert_eq!(lines(Protocol::Text004, &text).unwrap(), expected);
    }
}

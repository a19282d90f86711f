//! What scrapes leave in tables.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use weir_model::prometheus::Config;
use weir_storage::Table;

use super::*;

/// A target that is scraped, and what is stored of it.
struct Scraped {
    job: ScrapeConfig,
    target: Labels,
    index: Arc<SeriesIndex>,
    memory: Memory,
    names: HashMap<i64, String>,
}

impl Scraped {
    fn new(rest: &str) -> Self {
        let text = format!("scrape_configs:\n- job_name: shop\n{rest}");
        let (config, _) = Config::parse(&text).unwrap();
        Self {
            job: config.scrape_configs.into_iter().next().unwrap(),
            target: labels(&[("job", "shop"), ("instance", "a:1")]),
            index: Arc::default(),
            memory: Memory::default(),
            names: HashMap::new(),
        }
    }

    /// Scrapes `text` at `now` and gives the rows, or why it failed.
    fn scrape(&mut self, text: &str, now: i64) -> Result<Vec<String>, String> {
        let mut rows = rows(&self.index);
        let from = (Protocol::Text004, text.as_bytes());
        let (_, result) = self.memory.append(&self.job, &self.target, from, now, &mut rows);
        match result {
            Ok(()) => self.memory.end_vanished(now, &mut rows),
            Err(error) => return Err(error),
        }
        let parts = rows.finish().unwrap();
        Ok(Self::read(&mut self.names, parts))
    }

    fn read(
        names: &mut HashMap<i64, String>,
        parts: Vec<(Table, arrow::record_batch::RecordBatch)>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, batch) in &parts {
            let ids = batch["series_id"].as_primitive::<Int64Type>();
            match table {
                Table::Series => {
                    let maps = batch["labels"].as_map();
                    for row in 0..batch.num_rows() {
                        let entry = maps.value(row);
                        let (keys, values) =
                            (entry.column(0).as_string::<i32>(), entry.column(1).as_string::<i32>());
                        let pairs: Vec<String> = (0..entry.len())
                            .filter(|at| keys.value(*at) != "__name__")
                            .map(|at| format!("{}={}", keys.value(at), values.value(at)))
                            .collect();
                        let name = batch["metric"].as_string::<i32>().value(row);
                        names.insert(ids.value(row), format!("{name}{{{}}}", pairs.join(",")));
                    }
                }
                Table::Samples => {
                    let values = batch["value"].as_primitive::<Float64Type>();
                    let times = batch["time"].as_primitive::<TimestampMicrosecondType>();
                    for row in 0..batch.num_rows() {
                        let value = values.value(row);
                        let value =
                            if value.to_bits() == STALE_BITS { "stale".into() } else { value.to_string() };
                        let series = &names[&ids.value(row)];
                        lines.push(format!("{series} {value} @{}", times.value(row) / 1_000));
                    }
                }
                _ => lines.push(format!("{} rows of {}", batch.num_rows(), table.name())),
            }
        }
        lines
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

const NOW: i64 = 1_795_000_000_000;

#[test]
fn samples_get_the_labels_of_their_target_and_keep_their_own_under_another_name() {
    let mut scraped = Scraped::new("");
    let rows = scraped.scrape("a{job=\"mine\",exported_job=\"theirs\",x=\"\"} 1\n", NOW).unwrap();
    assert_eq!(
        rows,
        [format!("a{{exported_exported_job=mine,exported_job=theirs,instance=a:1,job=shop}} 1 @{NOW}")]
    );
    let mut scraped = Scraped::new("  honor_labels: true\n");
    let rows = scraped.scrape("a{job=\"mine\"} 1\nb 2\n", NOW).unwrap();
    assert_eq!(
        rows,
        [format!("a{{instance=a:1,job=mine}} 1 @{NOW}"), format!("b{{instance=a:1,job=shop}} 2 @{NOW}")]
    );
}

#[test]
fn a_series_that_vanishes_ends_once() {
    let mut scraped = Scraped::new("");
    let series = |name: &str| format!("{name}{{instance=a:1,job=shop}}");
    scraped.scrape("a 1\nb 2\nc 3\n", NOW).unwrap();
    let rows = scraped.scrape("b 2\n", NOW + 1_000).unwrap();
    let at = NOW + 1_000;
    let expected = [
        format!("{} 2 @{at}", series("b")),
        format!("{} stale @{at}", series("a")),
        format!("{} stale @{at}", series("c")),
    ];
    assert_eq!(rows, expected);
    // Places of those that are gone are taken anew, and nothing of theirs is left.
    let at = NOW + 2_000;
    let rows = scraped.scrape("b 4\nd 5\na 6\n", at).unwrap();
    assert_eq!(
        rows,
        [
            format!("{} 4 @{at}", series("b")),
            format!("{} 5 @{at}", series("d")),
            format!("{} 6 @{at}", series("a"))
        ]
    );
}

#[test]
fn labels_in_another_order_are_the_same_series() {
    let mut scraped = Scraped::new("");
    scraped.scrape("a{x=\"1\",y=\"2\"} 1\n", NOW).unwrap();
    let rows = scraped.scrape("a{y=\"2\",x=\"1\"} 3\n", NOW + 1_000).unwrap();
    assert_eq!(rows, [format!("a{{instance=a:1,job=shop,x=1,y=2}} 3 @{}", NOW + 1_000)]);
    let rows = scraped.scrape("", NOW + 2_000).unwrap();
    assert_eq!(rows, [format!("a{{instance=a:1,job=shop,x=1,y=2}} stale @{}", NOW + 2_000)]);
}

#[test]
fn a_failed_scrape_ends_everything_and_the_next_goes_on() {
    let mut scraped = Scraped::new("");
    scraped.scrape("a 1\n", NOW).unwrap();
    assert!(scraped.scrape("a 1\nb b b\n", NOW + 1_000).is_err());
    let mut ended = rows(&scraped.index);
    scraped.memory.end_all(NOW + 1_000, &mut ended);
    let lines = Scraped::read(&mut scraped.names, ended.finish().unwrap());
    assert_eq!(lines, [format!("a{{instance=a:1,job=shop}} stale @{}", NOW + 1_000)]);
    let rows = scraped.scrape("a 2\n", NOW + 2_000).unwrap();
    assert_eq!(rows, [format!("a{{instance=a:1,job=shop}} 2 @{}", NOW + 2_000)]);
}

#[test]
fn times_of_samples_are_honored_and_their_series_do_not_go_stale() {
    let text = "a 1 1794999999000\nb 2 1795999999000\n";
    let mut scraped = Scraped::new("");
    let rows = scraped.scrape(text, NOW).unwrap();
    assert_eq!(rows, ["a{instance=a:1,job=shop} 1 @1794999999000"], "what is too far ahead is not stored");
    assert_eq!(scraped.scrape("", NOW + 1_000).unwrap(), [""; 0]);
    let mut scraped = Scraped::new("  track_timestamps_staleness: true\n");
    scraped.scrape("a 1 1794999999000\n", NOW).unwrap();
    assert_eq!(scraped.scrape("", NOW + 1_000).unwrap().len(), 1);
    let mut scraped = Scraped::new("  honor_timestamps: false\n");
    let rows = scraped.scrape("a 1 1794999999000\n", NOW).unwrap();
    assert_eq!(rows, [format!("a{{instance=a:1,job=shop}} 1 @{NOW}")]);
}

#[test]
fn rules_for_samples_rename_and_drop() {
    let mut scraped = Scraped::new(
        "  metric_relabel_configs:\n  - {source_labels: [__name__], regex: 'go_.*', action: drop}\n  \
         - {source_labels: [__name__], regex: 'old_(.*)', target_label: __name__, replacement: 'new_$1'}\n  \
         - {regex: pod, action: labeldrop}\n",
    );
    let rows = scraped.scrape("go_gc 1\nold_x{pod=\"p\",a=\"b\"} 2\n", NOW).unwrap();
    assert_eq!(rows, [format!("new_x{{a=b,instance=a:1,job=shop}} 2 @{NOW}")]);
}

#[test]
fn bounds_fail_the_scrape() {
    for (bound, text, problem) in [
        ("sample_limit: 2", "a 1\nb 2\nc 3\n", "sample limit exceeded"),
        ("label_limit: 3", "a{x=\"1\"} 1\n", "label limit exceeded"),
        ("label_name_length_limit: 8", "a{a_long_name=\"1\"} 1\n", "label name length limit"),
        ("label_value_length_limit: 4", "a{x=\"12345\"} 1\n", "label value length limit"),
        ("metric_name_validation_scheme: legacy", "{\"a.b\"} 1\n", "no valid name"),
    ] {
        let error = Scraped::new(&format!("  {bound}\n")).scrape(text, NOW).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }
    let mut scraped = Scraped::new("  sample_limit: 2\n");
    let mut rows = rows(&scraped.index);
    let from = (Protocol::Text004, b"a 1\nb 2\nc 3\nd 4\n".as_slice());
    let (counted, _) = scraped.memory.append(&scraped.job, &scraped.target, from, NOW, &mut rows);
    assert_eq!((counted.scraped, counted.kept), (4, 4), "all are counted, so that a bound can be chosen");
}

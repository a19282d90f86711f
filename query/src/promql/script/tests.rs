use std::path::PathBuf;
use std::time::Duration;

use weir_storage::Storage;

use super::{MemorySource, Options, Report, Stored, options, run, run_on};
use crate::engine::{Engine, EngineOptions};
use crate::testdata;

/// Cases of each shared script that passed in a store when this was written: counts must not fall.
const FLOORS: &[(&str, usize)] = &[
    ("duration_expression", 58),
    ("extended_vectors", 106),
    ("fill-modifier", 34),
    ("functions", 318),
    ("histograms", 175),
    ("info", 35),
    ("limit", 37),
    ("literals", 25),
    ("native_histograms", 317),
    ("operators", 186),
    ("selectors", 31),
    ("staleness", 17),
    ("start_timestamps", 19),
    ("type_and_unit", 58),
];

/// The shared scripts by name, if there are any.
fn scripts() -> Vec<(String, String)> {
    let Some(folder) = std::env::var_os("WEIR_SHARED").map(PathBuf::from) else {
        println!("skipped: WEIR_SHARED does not name the folder with `conformance/promqltest`");
        return Vec::new();
    };
    let only = std::env::var("WEIR_PROMQL_SHOW").unwrap_or_default();
    let folder = folder.join("conformance/promqltest");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "test"));
    files.sort();
    let named = files.into_iter().map(|path| {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("script"))
    });
    named.filter(|(name, _)| only.is_empty() || only == "all" || only == *name).collect()
}

/// The project's own scripts.
fn own_scripts() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/promql");
    let files = std::fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    let scripts = files.filter(|path| path.extension().is_some_and(|e| e == "test"));
    scripts
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("script")))
        .collect()
}

/// Prints what came of a script; its failures, too, where the environment asks for them.
fn show(name: &str, how: &str, report: &Report) {
    println!("{name} {how}: {} passed, {} failed", report.passed, report.failed.len());
    if std::env::var_os("WEIR_PROMQL_SHOW").is_some() {
        report.failed.iter().for_each(|failure| println!("  {failure}"));
    }
}

fn floor(name: &str) -> usize {
    FLOORS.iter().find(|(file, _)| *file == name).map_or(0, |(_, stored)| *stored)
}

#[test]
fn shared_scripts_pass_in_memory() {
    for (name, text) in scripts() {
        let report = run(&text, &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
        show(&name, "in memory", &report);
        assert!(report.passed > 0 && report.failed.is_empty(), "{name}: {:#?}", report.failed);
    }
}

#[test]
fn own_scripts_pass_whole_and_in_parts() {
    for (name, text) in own_scripts() {
        for source in [MemorySource::default(), MemorySource::in_parts_of(1)] {
            let options = Options { threads: 2, ..options() };
            let report = run_on(source, &text, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(report.passed > 10 && report.failed.is_empty(), "{name}: {:#?}", report.failed);
        }
    }
}

#[test]
fn shared_scripts_pass_in_parts_on_two_threads() {
    for (name, text) in scripts() {
        let options = Options { threads: 2, ..options() };
        let report =
            run_on(MemorySource::in_parts_of(2), &text, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        show(&name, "in parts", &report);
        assert!(report.passed > 0 && report.failed.is_empty(), "{name}: {:#?}", report.failed);
    }
}

fn engine(storage: &Storage) -> Engine {
    let options = EngineOptions { threads: 2, ..EngineOptions::new(testdata::clock()) };
    Engine::new(storage.clone(), options).expect("engine")
}

async fn open(folder: &tempfile::TempDir) -> Storage {
    let options = weir_storage::Options {
        flush_age: Duration::from_secs(3600),
        flush_bytes: 1 << 30,
        ..weir_storage::Options::new(folder.path().to_owned(), testdata::clock())
    };
    Storage::open(options).await.expect("storage")
}

#[tokio::test]
async fn shared_scripts_pass_on_hot_rows_and_after_flush_and_reopening() {
    let mut fallen = Vec::new();
    for (name, text) in scripts() {
        let script = Stored::new(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let folder = tempfile::tempdir().expect("folder");
        let storage = open(&folder).await;
        for write in script.writes() {
            storage.writer().write(write.expect("rows")).await.expect("write");
        }
        let hot = script.run(&engine(&storage), &options()).await;
        show(&name, "on hot rows", &hot);
        storage.close().await.expect("flush");
        let storage = open(&folder).await;
        assert_eq!(storage.status().hot_rows, 0);
        let flushed = script.run(&engine(&storage), &options()).await;
        show(&name, "after flush and reopening", &flushed);
        for report in [hot, flushed] {
            if report.passed < floor(&name) {
                fallen.push(format!("{name}: {} < {}", report.passed, floor(&name)));
            }
        }
    }
    assert!(fallen.is_empty(), "{fallen:?}");
}

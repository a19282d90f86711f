use std::path::PathBuf;

use super::{MemorySource, Options, Report, options, run, run_on, run_twice};
use crate::testdata;

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
            assert!(report.passed > 5 && report.failed.is_empty(), "{name}: {:#?}", report.failed);
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

#[tokio::test]
async fn every_script_passes_on_hot_rows_and_after_flush_reopening_and_compaction() {
    for (name, text) in scripts().into_iter().chain(own_scripts()) {
        let folder = tempfile::tempdir().expect("folder");
        let report = run_twice(&text, folder.path(), &testdata::clock(), &options()).await;
        let report = report.unwrap_or_else(|e| panic!("{name}: {e}"));
        show(&name, "in a store", &report);
        assert!(report.passed > 0 && report.failed.is_empty(), "{name}: {:#?}", report.failed);
    }
}

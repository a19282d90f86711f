use super::{options, run};

/// Cases of each shared script that passed when this was written: counts must not fall.
const FLOORS: &[(&str, usize)] = &[];

/// The folder of shared test data, if there is one.
fn shared() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("WEIR_SHARED").map(std::path::PathBuf::from);
    if folder.is_none() {
        println!("skipped: WEIR_SHARED is not set");
    }
    folder
}

#[test]
fn shared_scripts_pass_as_many_cases_as_before() {
    let Some(folder) = shared() else { return };
    let folder = folder.join("conformance/promqltest");
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "test"));
    files.sort();
    let (mut passed, mut cases) = (0, 0);
    let mut fallen = Vec::new();
    for path in files {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("script");
        let report = run(&text, &options()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let total = report.passed + report.failed.len();
        println!("{name}: {} of {total}", report.passed);
        if std::env::var("WEIR_PROMQL_SHOW").is_ok_and(|only| only == name || only == "all") {
            report.failed.iter().for_each(|failure| println!("  {failure}"));
        }
        passed += report.passed;
        cases += total;
        let floor = FLOORS.iter().find(|(file, _)| *file == name).map_or(0, |(_, floor)| *floor);
        if report.passed < floor {
            fallen.push(format!("{name}: {} < {floor}", report.passed));
        }
    }
    println!("all: {passed} of {cases}");
    assert!(fallen.is_empty(), "{fallen:?}");
}

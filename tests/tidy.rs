//! Keeps the architecture's invariants: who may depend on whom, what must not be where, how long a file is.
//! ARCHITECTURE.md lists them; a number here is the number there.

#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 6] = ["model", "proxy-tap", "storage", "collector", "query", "ui"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Everything a manifest asks for, development and build dependencies included.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

/// The files below `folder` with one of the extensions, build products aside.
fn sources(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "node_modules", "dist", ".git"].contains(&name.as_str()) {
                found.extend(sources(&path, extensions));
            }
        } else if extensions.iter().any(|extension| name.ends_with(extension)) {
            found.push(path);
        }
    }
    found
}

fn is_test(path: &Path) -> bool {
    let relative = path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned();
    relative.starts_with("tests/")
        || relative.contains("/tests/")
        || relative.ends_with("tests.rs")
        || relative.ends_with("testdata.rs")
        || relative.contains(".test.")
}

#[test]
fn invariant_1_model_stands_alone_and_does_no_io() {
    let ours: Vec<_> = dependencies("model").into_iter().filter(|name| name.starts_with("weir")).collect();
    assert!(ours.is_empty(), "model depends on {ours:?}");
    for file in sources(&root().join("model/src"), &[".rs"]) {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["std::fs", "std::net", "tokio::", "SystemTime", "Instant::now", "std::env"] {
            assert!(!text.contains(word), "{} uses `{word}`", file.display());
        }
    }
}

#[test]
fn invariant_1_the_proxy_compiles_neither_arrow_nor_datafusion() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "weir-proxy-tap", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("hyper v"), "the listing is not what was expected:\n{tree}");
    for heavy in ["arrow", "parquet", "datafusion", "deltalake"] {
        let culprit = tree.lines().find(|line| line.starts_with(heavy));
        assert_eq!(culprit, None);
    }
}

#[test]
fn invariant_2_dependencies_run_one_way() {
    let forbidden = [
        ("storage", vec!["weir-query", "weir-collector", "weir-proxy-tap", "weir-ui"]),
        ("collector", vec!["weir-query", "weir-proxy-tap", "weir-ui"]),
        ("query", vec!["weir-collector", "weir-proxy-tap", "weir-ui"]),
        ("proxy-tap", vec!["weir-storage", "weir-collector", "weir-query", "weir-ui"]),
        ("ui", vec!["weir-model", "weir-storage", "weir-collector", "weir-query", "weir-proxy-tap"]),
    ];
    for (folder, names) in forbidden {
        let found = dependencies(folder);
        for name in names {
            assert!(!found.contains(name), "`{folder}` depends on `{name}`");
        }
    }
}

#[test]
fn invariant_3_datafusion_stays_in_query_and_file_writing_in_storage() {
    for folder in CRATES {
        for name in dependencies(folder) {
            assert!(!name.starts_with("datafusion") || folder == "query", "`{folder}` depends on `{name}`");
            let writes_files = name == "parquet" || name.starts_with("deltalake");
            assert!(!writes_files || folder == "storage", "`{folder}` depends on `{name}`");
        }
    }
    let delta = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "deltalake-core", "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(delta.stdout).unwrap();
    assert!(tree.contains("parquet v"), "the listing is not what was expected:\n{tree}");
    assert!(!tree.contains("datafusion"), "deltalake-core brings DataFusion in");
}

#[test]
fn invariant_4_the_analysis_has_no_clock_and_no_runtime() {
    let mut files = sources(&root().join("query/src/analysis"), &[".rs"]);
    files.push(root().join("query/src/analysis.rs"));
    for file in files.into_iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(&file).unwrap();
        for word in ["async fn", ".await", "tokio::", "SystemTime", "Instant", "Clock", "fastrand", "HashMap"]
        {
            // HashMap iterates in a random order, which would make two runs differ.
            assert!(!text.contains(word), "{} uses `{word}`", file.display());
        }
    }
}

#[test]
fn invariant_9_only_program_roots_read_clock_environment_and_signals() {
    for folder in CRATES {
        for file in sources(&root().join(folder).join("src"), &[".rs"]) {
            if is_test(&file) || file.ends_with("proxy-tap/src/main.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            for word in ["SystemTime::now", "std::env::var", "tokio::signal"] {
                assert!(!code.contains(word), "{} uses `{word}`", file.display());
            }
        }
    }
}

#[test]
fn invariant_10_files_are_short_and_say_why_they_exist() {
    for file in sources(&root(), &[".rs", ".ts", ".tsx"]) {
        if is_test(&file) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.display());
        if file.extension().is_some_and(|extension| extension == "rs") {
            assert!(text.starts_with("//!"), "{} does not open with why it exists", file.display());
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for folder in CRATES.iter().copied().chain(["."]) {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(inherits, Some(true), "`{folder}` sets lints of its own");
    }
}

/// What is compiled into Weir, as cargo resolved it.
fn packages() -> Vec<serde_json::Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(["--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn large_dependencies_come_in_one_version() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    for name in [
        "arrow",
        "parquet",
        "datafusion",
        "object_store",
        "deltalake-core",
        "sqlparser",
        "hyper",
        "h2",
        "tonic",
        "prost",
        "axum",
        "rustls",
        "tokio",
        "tower-http",
        "http",
        "clap",
    ] {
        if let Some(found) = versions.get(name) {
            assert_eq!(found.len(), 1, "`{name}` is compiled in several versions: {found:?}");
        }
    }
    assert!(versions.contains_key("datafusion"), "the listing is not what was expected");
}

#[test]
fn every_dependency_may_be_shipped_under_our_licence() {
    // Names of the SPDX list; an expression needs one alternative whose parts are all here.
    const FINE: [&str; 13] = [
        "Apache-2.0",
        "MIT",
        "MIT-0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "CC0-1.0",
        "Unicode-3.0",
        "Unlicense",
        "CDLA-Permissive-2.0",
        "BSL-1.0",
    ];
    let fine = |expression: &str| {
        let plain =
            expression.replace(['(', ')'], "").replace(" WITH LLVM-exception", "").replace('/', " OR ");
        plain.split(" AND ").all(|part| part.split(" OR ").any(|name| FINE.contains(&name.trim())))
    };
    let found = packages();
    assert!(found.len() > 100, "the listing is not what was expected");
    for package in found {
        let licence = package["license"].as_str().unwrap_or("none");
        // MPL-2.0 asks only that changes to its own files stay open; deltalake-core brings it.
        assert!(
            fine(licence) || package["name"] == "option-ext",
            "`{}` is under `{licence}`",
            package["name"]
        );
    }
}

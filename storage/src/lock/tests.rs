//! Directories that may not be opened, and that they are left as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{DirLock, FORMAT, STAGING};
use crate::OpenError;
use crate::tests::{open, options};

/// Every file below `dir` with what it holds.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

#[test]
fn a_new_directory_gets_a_format_and_each_run_a_higher_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/yet");
    for run in 1..4 {
        let lock = DirLock::acquire(&path).unwrap();
        assert_eq!(lock.epoch, run);
        assert_eq!(fs::read_to_string(path.join("FORMAT")).unwrap(), format!("weir {FORMAT}\n"));
        fs::write(path.join(STAGING).join("unfinished"), "x").unwrap();
    }
    let _lock = DirLock::acquire(&path).unwrap();
    assert_eq!(fs::read_dir(path.join(STAGING)).unwrap().count(), 0, "what was unfinished is gone");
}

#[tokio::test]
async fn another_format_is_refused_in_one_sentence_and_nothing_is_touched() {
    for (found, told) in [
        (FORMAT + 1, format!("this program reads up to {FORMAT}: run the newer program")),
        (1, format!("this program reads {FORMAT} alone: run the older program")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.close().await.unwrap();
        fs::write(dir.path().join("FORMAT"), format!("weir {found}\n")).unwrap();
        fs::write(dir.path().join(STAGING).join("of-the-other-program"), "x").unwrap();
        let before = contents(dir.path());
        let refused = crate::Storage::open(options(dir.path())).await.unwrap_err();
        let is_newer = matches!(refused, OpenError::Newer { .. });
        assert!(is_newer == (found > FORMAT) && is_newer != matches!(refused, OpenError::Older { .. }));
        assert_eq!(
            refused.to_string(),
            format!(
                "the data directory `{}` has format {found}, {told}, or choose another directory with --data-dir",
                dir.path().display()
            )
        );
        assert_eq!(contents(dir.path()), before);
    }
}

#[tokio::test]
async fn a_damaged_or_missing_format_is_refused() {
    for (name, text, told) in [
        ("FORMAT", Some("wier 2"), "it must read `weir <number>`"),
        ("FORMAT", Some(""), "it must read `weir <number>`"),
        ("FORMAT", None, "it is missing beside a write-ahead log"),
        ("EPOCH", Some("eleven"), "it must hold one number"),
        ("EPOCH", Some("18446744073709551615"), "it must hold one number"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.close().await.unwrap();
        let path = dir.path().join(name);
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        match DirLock::acquire(dir.path()) {
            Err(OpenError::Corrupt { reason, .. }) => assert_eq!(reason, told),
            other => panic!("{name} {text:?}: {other:?}"),
        }
    }
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    let before = contents(dir.path());
    let refused = DirLock::acquire(dir.path()).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Locked { pid, .. } if *pid == Some(std::process::id())),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains(&format!("is in use by process {}", std::process::id())),
        "{refused}"
    );
    assert_eq!(contents(dir.path()), before);
    drop(lock);
    DirLock::acquire(dir.path()).unwrap();
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below"), PathBuf::from("/proc/weir")] {
        let refused = crate::Storage::open(options(&path)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Unwritable { .. }), "{refused:?}");
        let told = format!("cannot write to the data directory `{}`: ", path.display());
        assert!(refused.to_string().starts_with(&told), "{refused}");
        assert!(refused.to_string().ends_with("; choose another with --data-dir"), "{refused}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}

//! Files that change behind the back of their table.

use weir_model::TenantId;

use super::*;
use crate::tests::{one, open, rows_of, samples, seen, values};
use crate::{Storage, TableSnapshot};

async fn flush(storage: &Storage, numbers: std::ops::Range<u64>) {
    storage.writer().write(one(Table::Samples, samples(numbers))).await.unwrap();
    storage.flush().await.unwrap();
}

fn view(storage: &Storage) -> TableSnapshot {
    storage.snapshot(&TenantId::default()).table(Table::Samples)
}

fn reasons(damaged: &[Damaged]) -> Vec<&str> {
    damaged.iter().map(|damaged| damaged.reason.as_str()).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Three files with ten rows each, closed, and how they were called.
async fn three(dir: &Path) -> Vec<PathBuf> {
    let storage = open(dir).await;
    for n in 0..3 {
        flush(&storage, n * 10..n * 10 + 10).await;
    }
    let paths = view(&storage).files.iter().map(|file| file.path.clone()).collect();
    storage.close().await.unwrap();
    paths
}

#[tokio::test]
async fn damage_is_found_at_the_first_read_and_set_aside_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let paths = three(dir.path()).await;
    flip(&paths[0], fs::metadata(&paths[0]).unwrap().len() as usize / 2);
    let size = fs::metadata(&paths[1]).unwrap().len();
    fs::OpenOptions::new().write(true).open(&paths[1]).unwrap().set_len(size - 1).unwrap();

    let storage = open(dir.path()).await;
    let before = view(&storage);
    let checked = before.check(before.files.to_vec()).await.unwrap();
    assert_eq!(checked.sound.iter().map(|file| &file.path).collect::<Vec<_>>(), [&paths[2]]);
    let [flipped, cut] = reasons(&checked.damaged)[..] else { panic!("{checked:?}") };
    assert!(
        flipped.starts_with("its checksum is ")
            && cut == format!("it has {} bytes instead of {size}", size - 1)
    );
    while !view(&storage).damaged.iter().map(|damaged| &damaged.file.path).eq(&paths[..2]) {
        tokio::task::yield_now().await;
    }
    assert_eq!(set_aside(storage.shared()).await.unwrap(), 0, "it was done already");
    assert_eq!(seen(&storage), (20..30).collect::<Vec<_>>());
    assert_eq!(reasons(&view(&storage).damaged), [flipped, cut]);
    assert!(!paths[0].exists() && place(&dir.path().join("default/samples"), &paths[0]).exists());
    let mut text = String::new();
    storage.write_prometheus(&mut text);
    assert!(text.contains("weir_storage_quarantined_files 2\n"), "{text}");
    storage.close().await.unwrap();

    let storage = open(dir.path()).await;
    assert_eq!(seen(&storage), (20..30).collect::<Vec<_>>());
    let aside = view(&storage).damaged;
    assert_eq!(reasons(&aside), [flipped, cut], "later runs know it, too");
    let of_before = &before.files[0];
    assert_eq!((aside[0].file.rows, aside[0].file.date), (10, of_before.date));
    assert_eq!(aside[0].file.bounds, of_before.bounds, "they tell which answers lack its rows");
    assert_eq!(storage.damaged().len(), 2);
}

#[tokio::test]
async fn what_was_written_or_read_before_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    flush(&storage, 0..10).await;
    let written = view(&storage);
    flip(&written.files[0].path, 100);
    assert_eq!(
        written.check(written.files.to_vec()).await.unwrap().sound.len(),
        1,
        "it was written a moment ago"
    );
    flip(&written.files[0].path, 100);
    storage.close().await.unwrap();
    let storage = open(dir.path()).await;
    let read = view(&storage);
    assert_eq!(read.check(read.files.to_vec()).await.unwrap().sound.len(), 1);
    flip(&read.files[0].path, 100);
    assert_eq!(read.check(read.files.to_vec()).await.unwrap().sound.len(), 1, "it was read a moment ago");
}

#[tokio::test]
async fn a_merge_does_not_take_damage_over() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path()).await;
    for n in 0..9 {
        flush(&storage, n * 10..n * 10 + 10).await;
    }
    let path = view(&storage).files[4].path.clone();
    storage.close().await.unwrap();
    flip(&path, 50);
    let storage = open(dir.path()).await;
    storage.compact().await.unwrap();
    assert_eq!(view(&storage).files.len(), 1);
    let expected: Vec<u64> = (0..40).chain(50..90).collect();
    assert_eq!(seen(&storage), expected);
    assert_eq!(view(&storage).damaged.len(), 1);
}

#[tokio::test]
async fn a_missing_file_is_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let paths = three(dir.path()).await;
    fs::remove_file(&paths[1]).unwrap();
    let storage = open(dir.path()).await;
    assert_eq!(storage.check().await.unwrap(), 2);
    assert_eq!(reasons(&view(&storage).damaged), ["it is missing"]);
    assert_eq!(storage.check().await.unwrap(), 2);
    assert_eq!(seen(&storage), (0..10).chain(20..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_crash_interrupts_is_ended_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("default/samples");
    let paths = three(dir.path()).await;
    flip(&paths[0], 50);
    flip(&paths[1], 50);
    // Noted, and not yet out of the table.
    let storage = open(dir.path()).await;
    let files = view(&storage).files;
    note(Table::Samples, &root, &dir.path().join(STAGING), &files[0], "noted").unwrap();
    storage.close().await.unwrap();
    let storage = open(dir.path()).await;
    while storage.damaged().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!paths[0].exists());
    // Out of the table, and not yet in its place.
    assert_eq!(storage.check().await.unwrap(), 1);
    storage.close().await.unwrap();
    fs::rename(place(&root, &paths[1]), &paths[1]).unwrap();
    let storage = open(dir.path()).await;
    assert!(!paths[1].exists() && place(&root, &paths[1]).exists());
    let damaged = view(&storage).damaged;
    assert_eq!(damaged.iter().map(|damaged| &damaged.file.path).collect::<Vec<_>>(), [&paths[0], &paths[1]]);
    assert_eq!(
        values(&rows_of(&storage.snapshot(&TenantId::default()), Table::Samples)),
        (20..30).collect::<Vec<_>>()
    );
}

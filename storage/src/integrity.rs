//! Whether files are as they were written, and what becomes of those that are not.
//!
//! The log tells a file's length, its name its checksum; both are compared before this process first reads the file
//! (what it wrote itself it trusts). A damaged file is left out of the answer that came upon it and of all later
//! ones, and each says so. It leaves its table for the folder `_quarantine` beside the partitions, together with
//! what the table knew of it, by which later answers tell what they lack. Nothing removes it from there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::delta::Change;
use crate::files::{self, FileName};
use crate::lock::STAGING;
use crate::shared::{Shared, lock};
use crate::{DataFile, FlushError, Table, durable, stats};

/// The folder of damaged files within a table's.
const QUARANTINE: &str = "_quarantine";
/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;
/// Pause after damaged files could not be set aside.
const RETRY: Duration = Duration::from_secs(5);

/// A file that does not hold what was written.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// The file as its table knew it.
    pub file: DataFile,
    /// What is wrong with it.
    pub reason: String,
}

/// Files apart by whether they may be read.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// These hold what was written.
    pub sound: Vec<DataFile>,
    /// These do not.
    pub damaged: Vec<Damaged>,
}

/// What is known of the files of all tables.
#[derive(Debug, Default)]
pub(crate) struct Integrity {
    sound: Mutex<HashSet<PathBuf>>,
    /// Damaged files that have not been set aside, and what is wrong with them.
    found: Mutex<HashMap<PathBuf, String>>,
    noticed: Notify,
}

impl Integrity {
    /// Takes it that these files are as they were written: this process did it.
    pub(crate) fn trust(&self, files: &[DataFile]) {
        lock(&self.sound).extend(files.iter().map(|file| file.path.clone()));
    }

    /// Forgets files that are in no table any more.
    pub(crate) fn forget(&self, files: &[DataFile]) {
        let mut sound = lock(&self.sound);
        for file in files {
            sound.remove(&file.path);
        }
    }

    /// Whether all of `files` are known to be as they were written.
    pub(crate) fn are_sound(&self, files: &[DataFile]) -> bool {
        let sound = lock(&self.sound);
        files.iter().all(|file| sound.contains(&file.path))
    }

    /// Reads those of `files` that were not read before, to the end. An error is one of the disk or the system.
    pub(crate) fn check(&self, files: Vec<DataFile>) -> io::Result<Checked> {
        let mut checked = Checked::default();
        for file in files {
            let known = lock(&self.sound).contains(&file.path);
            match if known { None } else { self.damage(&file)? } {
                None => checked.sound.push(file),
                Some(reason) => checked.damaged.push(Damaged { file, reason }),
            }
        }
        Ok(checked)
    }

    fn damage(&self, file: &DataFile) -> io::Result<Option<String>> {
        if let Some(reason) = lock(&self.found).get(&file.path) {
            return Ok(Some(reason.clone()));
        }
        let Some(reason) = compare(file)? else {
            lock(&self.sound).insert(file.path.clone());
            return Ok(None);
        };
        tracing::error!(file = %file.path.display(), reason, "a file is damaged; answers go on without it");
        self.notice(file.path.clone(), reason.clone());
        Ok(Some(reason))
    }

    /// Takes note of a damaged file that is still in its table.
    fn notice(&self, path: PathBuf, reason: String) {
        lock(&self.found).insert(path, reason);
        self.noticed.notify_one();
    }
}

/// What is wrong with a file, by its length and its checksum.
fn compare(file: &DataFile) -> io::Result<Option<String>> {
    let mut open = match File::open(&file.path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Some("it is missing".to_owned())),
        opened => opened?,
    };
    let size = open.metadata()?.len();
    if size != file.size {
        return Ok(Some(format!("it has {size} bytes instead of {}", file.size)));
    }
    // A file that another program put into the table has no checksum.
    let Some(name) = FileName::of(&file.path) else { return Ok(None) };
    let mut bytes = vec![0; READ_BYTES];
    let mut checksum = 0;
    loop {
        match open.read(&mut bytes)? {
            0 => break,
            read => checksum = crc32c::crc32c_append(checksum, &bytes[..read]),
        }
    }
    let wrong = || format!("its checksum is {checksum:08x} instead of {:08x}", name.checksum);
    Ok((checksum != name.checksum).then(wrong))
}

/// Sets damaged files aside until cancelled.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        shared.integrity.noticed.notified().await;
        while let Err(e) = set_aside(&shared).await {
            if shared.health.refusal().is_some() {
                return;
            }
            tracing::warn!(error = %e, "a damaged file stays in its table for now");
            sleep(RETRY).await;
        }
    }
}

/// Takes the damaged files that were found out of their tables; returns how many.
pub(crate) async fn set_aside(shared: &Arc<Shared>) -> Result<usize, FlushError> {
    // In a task of its own: whoever loses interest must not leave a commit half known.
    let task = Arc::clone(shared);
    let setting = tokio::spawn(async move { set_all_aside(&task).await });
    setting.await.unwrap_or_else(|e| Err(FlushError::Stopped(format!("quarantine ended early: {e}"))))
}

async fn set_all_aside(shared: &Shared) -> Result<usize, FlushError> {
    let mut flusher = shared.flusher.lock().await;
    let open = flusher.as_mut().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let found = lock(&shared.integrity.found).clone();
    let staging = open.lock.dir.join(STAGING);
    let mut count = 0;
    let keys: Vec<_> = open.logs.keys().cloned().collect();
    for key in keys {
        let (table, root) = (key.1, open.root(&key.0, key.1));
        let Some(log) = open.logs.get_mut(&key) else { continue };
        let damaged =
            |file: &DataFile| Some(Damaged { file: file.clone(), reason: found.get(&file.path)?.clone() });
        let damaged: Vec<Damaged> = log.files.iter().filter_map(damaged).collect();
        if damaged.is_empty() {
            continue;
        }
        let failed = |source| FlushError::File { table, source };
        for Damaged { file, reason } in &damaged {
            note(table, &root, &staging, file, reason).map_err(failed)?;
        }
        let files: Vec<DataFile> = damaged.iter().map(|damaged| damaged.file.clone()).collect();
        if let Err(source) = log.replace(&files, &[], Change::Drop, shared.clock.now()).await {
            open.logs.remove(&key);
            return Err(FlushError::Commit { table, source: Box::new(source) });
        }
        count += damaged.len();
        lock(&shared.state).quarantine((&key.0, table), Arc::clone(&log.files), damaged);
        for file in &files {
            shift(&root, &file.path).map_err(failed)?;
        }
    }
    // Those that are in no table any more are as good as set aside.
    lock(&shared.integrity.found).retain(|path, _| !found.contains_key(path));
    Ok(count)
}

/// Where a damaged file goes.
fn place(root: &Path, path: &Path) -> PathBuf {
    root.join(QUARANTINE).join(path.strip_prefix(root).unwrap_or(path))
}

/// Writes beside the place of a damaged file what its table knew of it.
fn note(table: Table, root: &Path, staging: &Path, file: &DataFile, reason: &str) -> io::Result<()> {
    let known = stats::to_delta(table, file.rows, &file.bounds);
    let note = json!({ "reason": reason, "size": file.size, "stats": known }).to_string();
    let to = noted(place(root, &file.path));
    durable::create_dir(to.parent().unwrap_or(root))?;
    durable::write(&staging.join("damaged"), &to, &[note.as_bytes()])
}

fn noted(mut path: PathBuf) -> PathBuf {
    path.as_mut_os_string().push(".json");
    path
}

/// Moves a damaged file that is in no table to its place, if it is still there.
fn shift(root: &Path, path: &Path) -> io::Result<()> {
    match durable::rename(path, &place(root, path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}

/// The damaged files of a table that were set aside, ends of what a crash interrupted included: `files` are in
/// the table.
pub(crate) fn load(
    table: Table,
    root: &Path,
    files: &[DataFile],
    integrity: &Integrity,
) -> io::Result<Vec<Damaged>> {
    let mut aside = Vec::new();
    let quarantine = root.join(QUARANTINE);
    if !quarantine.is_dir() {
        return Ok(aside);
    }
    for partition in files::partitions(&quarantine)? {
        for entry in fs::read_dir(&partition)? {
            let note = entry?.path();
            let Some(damaged) = read_note(table, root, &note) else { continue };
            if files.iter().any(|file| file.path == damaged.file.path) {
                integrity.notice(damaged.file.path, damaged.reason);
            } else {
                shift(root, &damaged.file.path)?;
                aside.push(damaged);
            }
        }
    }
    aside.sort_by(|a, b| a.file.path.cmp(&b.file.path));
    Ok(aside)
}

/// What a note says; nothing where it is none.
fn read_note(table: Table, root: &Path, note: &Path) -> Option<Damaged> {
    let name = note.file_name()?.to_str()?.strip_suffix(".json")?;
    let partition = note.parent()?.file_name()?;
    let known: Value = serde_json::from_slice(&fs::read(note).ok()?).ok()?;
    let (rows, bounds) = stats::from_delta(table, known["stats"].as_str()?);
    let file = DataFile {
        path: root.join(partition).join(name),
        size: known["size"].as_u64()?,
        rows: rows?,
        date: files::day_in(partition.to_str()?)?,
        bounds,
    };
    Some(Damaged { file, reason: known["reason"].as_str()?.to_owned() })
}

#[cfg(test)]
mod tests;

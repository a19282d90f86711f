//! Files that left their table an hour ago, and files that never came to be in one, leave the disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weir_model::UnixNanos;

use crate::shared::Shared;
use crate::{FlushError, Table, files};

/// How long a file stays behind the last commit that named it: longer than any query takes.
const AGE: Duration = Duration::from_secs(3600);

/// Removes them; returns how many.
pub(crate) async fn sweep(shared: &Arc<Shared>) -> Result<u64, FlushError> {
    // While this is held nobody writes files that a commit is about to name.
    let mut flusher = shared.flusher.lock().await;
    let open = flusher.as_mut().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let tables: Vec<(Table, PathBuf, HashSet<PathBuf>)> = open
        .logs
        .iter()
        .map(|(key, log)| {
            let named = log.files.iter().map(|file| file.path.clone()).collect();
            (key.1, open.root(&key.0, key.1), named)
        })
        .collect();
    let now = shared.clock.now();
    open.departed.retain(|_, left| *left + AGE >= now);
    let lately: HashSet<PathBuf> = open.departed.keys().cloned().collect();
    let swept = tokio::task::spawn_blocking(move || {
        let mut removed = 0;
        for (table, root, named) in tables {
            removed += sweep_table(&root, &named, &lately, now)
                .map_err(|source| FlushError::File { table, source })?;
        }
        Ok(removed)
    });
    let removed = swept.await.unwrap_or_else(|e| Err(FlushError::Stopped(e.to_string())))?;
    drop(flusher);
    shared.metrics.vacuumed_files.add(removed);
    Ok(removed)
}

fn sweep_table(
    root: &Path,
    named: &HashSet<PathBuf>,
    lately: &HashSet<PathBuf>,
    now: UnixNanos,
) -> io::Result<u64> {
    let mut removed = 0;
    for path in files::all_of(root)? {
        if named.contains(&path) || lately.contains(&path) {
            continue;
        }
        let modified = fs::metadata(&path)?.modified()?.duration_since(SystemTime::UNIX_EPOCH);
        let modified = modified.unwrap_or_default().as_nanos();
        if modified + AGE.as_nanos() < u128::from(now.0) {
            fs::remove_file(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

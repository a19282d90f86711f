//! Targets in files, read again as soon as they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use weir_model::prometheus::Group;
use weir_model::prometheus::discovery::FileDiscovery;

use super::super::files;
use super::{Gone, Publish, pause};

/// How often files are looked at: a look costs a system call for each.
const LOOK: Duration = Duration::from_secs(1);

/// By which a changed file is known.
type Seen = (Option<SystemTime>, u64);

pub(super) async fn run(discovery: FileDiscovery, publish: Publish) -> Result<(), Gone> {
    let mut known: BTreeMap<PathBuf, (Seen, Vec<Group>)> = BTreeMap::new();
    let mut first = true;
    let mut read_all = Instant::now();
    loop {
        let everything = read_all.elapsed() >= discovery.refresh_interval;
        if everything {
            read_all = Instant::now();
        }
        let patterns = discovery.files.clone();
        let task = tokio::task::spawn_blocking(move || {
            let changed = look(&patterns, &mut known, everything);
            (known, changed)
        });
        let Ok((after, changed)) = task.await else { return Err(Gone) };
        known = after;
        if changed || first {
            publish.groups(known.values().flat_map(|(_, groups)| groups.clone()).collect()).await?;
        }
        first = false;
        pause(LOOK, &publish).await?;
    }
}

/// Reads what is new; a file that cannot be read keeps what it said before.
fn look(patterns: &[PathBuf], known: &mut BTreeMap<PathBuf, (Seen, Vec<Group>)>, everything: bool) -> bool {
    let files: Vec<PathBuf> = patterns.iter().flat_map(|pattern| files::matching(pattern)).collect();
    let before = known.len();
    known.retain(|path, _| files.contains(path));
    let mut changed = known.len() != before;
    for path in files {
        let seen =
            std::fs::metadata(&path).map(|data| (data.modified().ok(), data.len())).unwrap_or((None, 0));
        if !everything && known.get(&path).is_some_and(|(before, _)| *before == seen) {
            continue;
        }
        let groups = read(&path);
        match (groups, known.get_mut(&path)) {
            (Ok(groups), Some(entry)) => {
                changed |= entry.1 != groups;
                *entry = (seen, groups);
            }
            (Ok(groups), None) => {
                changed = true;
                known.insert(path, (seen, groups));
            }
            (Err(error), entry) => {
                tracing::error!(file = %path.display(), error, "a file of targets is left as it was before");
                match entry {
                    Some(entry) => entry.0 = seen,
                    None => {
                        known.insert(path, (seen, Vec::new()));
                    }
                }
            }
        }
    }
    changed
}

fn read(path: &Path) -> Result<Vec<Group>, String> {
    let text = files::read(path).map_err(|error| error.to_string())?;
    let mut groups = Group::parse(&text).map_err(|mistakes| mistakes.to_string())?;
    for group in &mut groups {
        group.labels.insert("__meta_filepath".to_owned(), path.display().to_string());
    }
    Ok(groups)
}

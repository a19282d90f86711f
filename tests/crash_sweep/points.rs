//! Where to kill: the scenes, the files that tell their phases apart, and how far each can be counted.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is going on when the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// `weir serve` makes a data directory.
    Begin,
    /// `weir serve` on one with files to merge, under load.
    Serve,
    /// `weir storage compact`.
    Compact,
    /// `weir storage vacuum` after a merge.
    Vacuum,
}

/// The files whose system calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Any, sockets and pipes included.
    Any,
    /// The write-ahead log: ingest.
    Wal,
    /// Data files and their folders: flush.
    Flush,
    /// The Delta log: commit, checkpoint, clean-up.
    Commit,
    /// Merged files: compaction.
    Merge,
    /// Files that a merge has replaced: vacuum.
    Replaced,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) scene: Scene,
    pub(crate) group: Group,
    pub(crate) syscall: &'static str,
    pub(crate) nth: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.scene, self.group, self.syscall, self.nth)
    }
}

/// What can be swept, and up to which call one thread gets.
const SWEEPS: [(Scene, Group, &str, u32); 39] = {
    use Group::{Any, Commit, Flush, Merge, Replaced, Wal};
    use Scene::{Begin, Compact, Serve, Vacuum};
    [
        (Begin, Any, "fsync", 8),
        (Begin, Any, "rename", 3),
        (Begin, Any, "unlink", 4),
        (Begin, Any, "mkdir", 6),
        (Begin, Wal, "writev", 3),
        (Begin, Flush, "write", 8),
        (Begin, Commit, "write", 2),
        (Begin, Commit, "linkat", 2),
        (Serve, Any, "fsync", 8),
        (Serve, Any, "rename", 3),
        (Serve, Any, "writev", 30),
        (Serve, Wal, "writev", 60),
        (Serve, Wal, "fdatasync", 60),
        (Serve, Wal, "fsync", 6),
        (Serve, Wal, "unlink", 5),
        (Serve, Flush, "write", 20),
        (Serve, Flush, "fsync", 5),
        (Serve, Flush, "rename", 3),
        (Serve, Commit, "write", 4),
        (Serve, Commit, "fsync", 6),
        (Serve, Commit, "linkat", 3),
        (Serve, Commit, "unlink", 6),
        (Serve, Commit, "rename", 2),
        (Serve, Merge, "write", 20),
        (Serve, Merge, "fsync", 1),
        (Serve, Merge, "rename", 1),
        (Compact, Any, "fsync", 5),
        (Compact, Any, "unlink", 5),
        (Compact, Merge, "write", 20),
        (Compact, Merge, "fsync", 1),
        (Compact, Merge, "rename", 1),
        (Compact, Commit, "write", 2),
        (Compact, Commit, "fsync", 3),
        (Compact, Commit, "linkat", 1),
        (Compact, Commit, "rename", 2),
        (Compact, Commit, "unlink", 5),
        (Vacuum, Any, "fsync", 5),
        (Vacuum, Any, "unlink", 12),
        (Vacuum, Replaced, "unlink", 12),
    ]
};

/// The twenty of `make test`: each phase, at its beginning and further in.
const FIXED: [&str; 20] = [
    "begin/any/fsync/3",
    "begin/commit/linkat/1",
    "serve/wal/writev/1",
    "serve/wal/writev/23",
    "serve/wal/fdatasync/2",
    "serve/wal/fdatasync/31",
    "serve/wal/fsync/2",
    "serve/wal/unlink/1",
    "serve/flush/write/3",
    "serve/flush/fsync/1",
    "serve/flush/rename/1",
    "serve/commit/write/1",
    "serve/commit/linkat/1",
    "serve/commit/fsync/2",
    "compact/merge/write/7",
    "compact/merge/rename/1",
    "compact/commit/linkat/1",
    "compact/commit/unlink/2",
    "vacuum/replaced/unlink/1",
    "vacuum/replaced/unlink/6",
];

/// The points of `make test`.
pub(crate) fn fixed() -> Vec<Point> {
    FIXED.iter().map(|name| named(name)).collect()
}

/// `count` points: the first call of every sweep, the second of every sweep that has one, and so on; from the
/// beginning again, with other loads, when all were had.
pub(crate) fn spread(count: usize) -> Vec<Point> {
    let last = SWEEPS.iter().map(|(.., last)| *last).max().unwrap();
    let all = (1..=last).flat_map(|nth| {
        let reaching = SWEEPS.into_iter().filter(move |(.., last)| nth <= *last);
        reaching.map(move |(scene, group, syscall, _)| Point { scene, group, syscall, nth })
    });
    all.cycle().take(count).collect()
}

/// The point that is shown as `name`.
pub(crate) fn named(name: &str) -> Point {
    let (sweep, nth) = name.rsplit_once('/').unwrap();
    let found =
        SWEEPS.iter().find(|(scene, group, syscall, _)| sweep == format!("{scene}/{group}/{syscall}"));
    let (scene, group, syscall, _) = *found.unwrap_or_else(|| panic!("there is no point `{name}`"));
    Point { scene, group, syscall, nth: nth.parse().unwrap() }
}

/// Writes that a point may get to.
const WRITES: u64 = 2_000;
/// Objects of the Delta log that a point may get to.
const OBJECTS: u64 = 200;

impl Group {
    /// The files of this group in the directory `data`, existing or to come: strace wants whole names.
    pub(crate) fn paths(self, data: &Path) -> Vec<PathBuf> {
        let tables = ["spans", "edges"].map(|table| (table, data.join("default").join(table)));
        let staging = data.join(".staging");
        let epoch =
            std::fs::read_to_string(data.join("EPOCH")).map_or(0, |text| text.trim().parse().unwrap());
        let epoch: u64 = epoch + 1;
        let days = days();
        match self {
            Self::Any => vec![],
            Self::Wal => {
                let segments = (0..WRITES).map(|seq| data.join(format!("wal/{seq:020}.wal")));
                segments.chain([data.join("wal")]).collect()
            }
            Self::Flush => {
                let mut paths = vec![];
                for (table, root) in &tables {
                    for (day, name) in &days {
                        paths.push(root.join(format!("date={name}")));
                        paths.extend(
                            (0..WRITES).map(|seq| {
                                staging.join(format!("{table}-{day}-wal-{seq:020}-{epoch}.parquet"))
                            }),
                        );
                    }
                }
                paths
            }
            Self::Commit => {
                let logs = tables.iter().map(|(_, root)| root.join("_delta_log"));
                let entries: Vec<PathBuf> = logs.clone().flat_map(|log| files_below(&log)).collect();
                let objects = (0..OBJECTS).map(|n| staging.join(format!("object-{n}")));
                objects.chain(logs).chain(entries).collect()
            }
            Self::Merge => {
                let mut paths = vec![];
                for (table, root) in &tables {
                    let writes: Vec<String> =
                        files_below(root).iter().filter_map(|path| write_of(path)).collect();
                    for (day, _) in &days {
                        for (at, first) in writes.iter().enumerate() {
                            paths.extend(writes[at..].iter().map(|last| {
                                staging
                                    .join(format!("{table}-{day}-compacted-{first}-{last}-{epoch}.parquet"))
                            }));
                        }
                    }
                }
                paths
            }
            Self::Replaced => tables
                .iter()
                .flat_map(|(_, root)| files_below(root))
                .filter(|path| write_of(path).is_some())
                .collect(),
        }
    }
}

/// Today and tomorrow, since 1970 and by name; the load makes spans of the present.
fn days() -> [(u64, String); 2] {
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    [today, today + 1].map(|day| {
        let date = chrono::DateTime::from_timestamp((day * 86_400) as i64, 0).unwrap();
        (day, date.format("%Y-%m-%d").to_string())
    })
}

/// The digits of the write up to which a flushed file goes.
fn write_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("wal-")?.strip_suffix(".parquet")?;
    Some(name.split_once('-')?.0.to_owned())
}

/// All files in a folder and in those in it, in the order of their names.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

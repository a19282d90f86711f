//! Reads the files on a thread of its own, a few requests ahead.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use weir_collector::import::{Pieces, Place, split};
use weir_model::limits;

use super::ImportError;
use super::batch::{Batch, Batches};
use super::progress::Progress;

/// A file that exists, and its size where that is known beforehand.
#[derive(Debug)]
pub(super) struct Input {
    path: PathBuf,
    pub(super) bytes: Option<u64>,
}

/// What reading comes upon.
#[derive(Debug)]
pub(super) enum Event {
    /// A request to store.
    Batch(Batch),
    /// Something that cannot be read: where, and why.
    Fault(String, String),
}

/// The thread that reads, and the names of what it reads.
#[derive(Debug)]
pub(super) struct Reader {
    events: mpsc::Receiver<Event>,
    names: Arc<[String]>,
}

/// Looks whether all files are there, before anything is imported.
pub(super) fn check(paths: &[PathBuf]) -> Result<Vec<Input>, ImportError> {
    let check = |path: &PathBuf| {
        let bytes = if is_stdin(path) { Ok(None) } else { size(path) };
        let unreadable = |source| ImportError::File { path: path.clone(), source };
        Ok(Input { path: path.clone(), bytes: bytes.map_err(unreadable)? })
    };
    paths.iter().map(check).collect()
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn size(path: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder, name the files in it"));
    }
    if metadata.is_file() {
        // Opened now, so that a lack of rights shows before the first row is stored.
        File::open(path)?;
    }
    Ok(metadata.is_file().then_some(metadata.len()))
}

impl Reader {
    /// Begins to read; ends early when this is dropped.
    pub(super) fn start(files: Vec<Input>, progress: Progress) -> Self {
        let name = |file: &Input| {
            if is_stdin(&file.path) { "stdin".to_owned() } else { file.path.display().to_string() }
        };
        let names: Arc<[String]> = files.iter().map(name).collect();
        let (sender, events) = mpsc::channel(limits::IMPORT_AHEAD);
        let thread = Thread { sender, names: Arc::clone(&names), batches: Batches::default(), progress };
        // Not a task: stdin may never end, and nobody waits for it.
        std::thread::spawn(move || thread.run(files));
        Self { events, names }
    }

    /// What comes next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// A place in a file, for people.
    pub(super) fn place(&self, file: usize, place: Place) -> String {
        shown(&self.names[file], place)
    }
}

fn shown(name: &str, place: Place) -> String {
    match place {
        Place::Line(..) => format!("{name}:{place}"),
        Place::Message(_) => format!("{name}, {place}"),
    }
}

struct Thread {
    sender: mpsc::Sender<Event>,
    names: Arc<[String]>,
    batches: Batches,
    progress: Progress,
}

/// Nobody listens any more.
struct Over;

impl Thread {
    fn run(mut self, files: Vec<Input>) {
        for (index, file) in files.into_iter().enumerate() {
            let done = if is_stdin(&file.path) {
                self.read(index, io::stdin())
            } else {
                match File::open(&file.path) {
                    Ok(open) => self.read(index, open),
                    Err(error) => self.send(Event::Fault(self.names[index].clone(), error.to_string())),
                }
            };
            if done.is_err() {
                return;
            }
        }
        for batch in std::mem::take(&mut self.batches).finish() {
            if self.send(Event::Batch(batch)).is_err() {
                return;
            }
        }
    }

    fn read(&mut self, index: usize, file: impl Read) -> Result<(), Over> {
        for piece in Pieces::new(self.progress.reading(file)) {
            let parts = match &piece {
                Ok(piece) => split(piece.signal, &piece.request)
                    .map(|parts| (piece, parts))
                    .map_err(|malformed| (piece.place, malformed.to_string())),
                Err(unreadable) => Err((unreadable.place, unreadable.why.clone())),
            };
            match parts {
                Ok((piece, parts)) => {
                    for part in parts {
                        if let Some(full) = self.batches.add(piece.signal, index, piece.place, &part) {
                            self.send(Event::Batch(full))?;
                        }
                    }
                }
                Err((place, why)) => self.send(Event::Fault(shown(&self.names[index], place), why))?,
            }
        }
        Ok(())
    }

    fn send(&self, event: Event) -> Result<(), Over> {
        self.sender.blocking_send(event).map_err(|_| Over)
    }
}

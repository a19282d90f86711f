//! The bar on a terminal: bytes read, how fast, and how long it will take. Nothing where stderr is no terminal.

use std::io::Read;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::reader::Input;

/// Counts bytes read, and shows them.
#[derive(Debug, Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(files: &[Input]) -> Self {
        let total = files.iter().map(|file| file.bytes).sum::<Option<u64>>();
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => {
                "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left, {msg}"
            }
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec}, {msg}",
        };
        // The templates are constant; one that were wrong would leave the default bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("nothing stored yet");
        Self(bar)
    }

    /// Counts what is read from `file`.
    pub(super) fn reading<R: Read>(&self, file: R) -> impl Read + use<R> {
        self.0.wrap_read(file)
    }

    /// Says how much is stored.
    pub(super) fn stored(&self, records: u64) {
        self.0.set_message(format!("{records} records stored"));
    }

    /// Lets something else be written to the terminal.
    pub(super) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.position()
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

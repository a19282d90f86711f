//! What the reader of an answer should know, as the plans for it find out.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::Session;
use weir_storage::{Damaged, Table};

/// Warnings that an answer lists; of further ones it says how many.
const LISTED: usize = 10;

/// The warnings of one answer.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<BTreeSet<String>>);

impl Warnings {
    /// Those of `session`; there are none where it was not made for a question.
    pub(super) fn of(session: &dyn Session) -> Option<Arc<Self>> {
        session.config().get_extension::<Self>()
    }

    /// Says that rows of a damaged file are missing.
    pub(crate) fn damaged(&self, table: Table, Damaged { file, reason }: &Damaged) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let warning = format!(
            "{} rows of `{}` of {} are missing: the file `{name}` is damaged ({reason})",
            file.rows,
            table.name(),
            file.day()
        );
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(warning);
    }

    /// The warnings so far.
    pub(crate) fn list(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<String> = all.iter().take(LISTED).cloned().collect();
        if all.len() > LISTED {
            list.push(format!(
                "{} more files are damaged; `weir storage check` lists them",
                all.len() - LISTED
            ));
        }
        list
    }
}

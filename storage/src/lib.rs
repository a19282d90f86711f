//! What is kept: one way in ([`Writer`]), one way out ([`Snapshot`]), and between them a write-ahead log,
//! hot rows in memory, and one Delta Lake table of sorted Parquet per [`Table`].
//!
//! In: [`WriteBatch`]es of Arrow record batches in the shapes that [`schema`] fixes. Out: immutable
//! snapshots (table version and the hot rows after it), and the [`SeriesIndex`] of label sets. A write is
//! acknowledged when it is synced to disk (unless its tenant asks for another [`Ack`]) and visible to the next
//! snapshot, never before.
//!
//! Nothing here knows about OTLP, SQL or PromQL, and nothing here depends on DataFusion.

pub mod columns;
/// For fuzzing alone.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod rows;
pub mod schema;

mod ack;
mod error;
mod series;
mod snapshot;
mod store;

// From a write to a file, in this order.
mod blocks;
mod coalesce;
mod compact;
mod delta;
mod files;
mod flush;
mod gather;
mod hot;
mod integrity;
mod order;
mod recent;
mod retention;
mod sampling;
mod series_files;
mod shared;
mod state;
mod stats;
mod wal;

// The data directory.
mod durable;
mod health;
mod lock;
mod metrics;
mod open;
mod reserve;

pub use ack::{Ack, Acks};
pub use blocks::{BlockFilters, Needle};
pub use compact::Compacted;
pub use error::{FlushError, OpenError, WriteError};
pub use integrity::{Checked, Damaged};
pub use retention::{Keep, Retention};
pub use sampling::{Sampling, Samplings, Slow};
pub use schema::Table;
pub use series::{Cardinality, Days, Known, LabelMatcher, Labels, MatchOp, SeriesIndex};
pub use series_files::{SeriesFiles, Stretch, Wanted};
pub use snapshot::{Bound, Cursor, DataFile, Snapshot, TableSnapshot};
pub use store::{Acked, Options, Status, Storage, TableStatus, WriteBatch, Writer};

#[cfg(test)]
mod tests;

//! DataFusion over a snapshot: sessions, the pruning table provider, views, functions, limits.

mod provider;

pub use provider::SnapshotTable;

//! The background task that keeps hot rows in few runs.

use std::sync::Arc;

use crate::hot;
use crate::shared::{Shared, lock};

/// Concatenates small neighbouring runs whenever there are some, until cancelled.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        shared.appended.notified().await;
        if lock(&shared.state).small_neighbours().is_none() {
            continue;
        }
        let task = Arc::clone(&shared);
        // Copies memory for milliseconds at a time: not on the runtime's threads.
        if let Err(e) = tokio::task::spawn_blocking(move || coalesce(&task)).await {
            tracing::error!(error = %e, "concatenating hot rows failed");
        }
    }
}

/// Concatenates until no table has small neighbours.
pub(crate) fn coalesce(shared: &Shared) {
    loop {
        let Some((tenant, table, parts)) = lock(&shared.state).small_neighbours() else { return };
        match hot::merge(table, &parts) {
            Ok(merged) => lock(&shared.state).replace((&tenant, table), &parts, merged),
            Err(e) => {
                tracing::error!(table = table.name(), error = %e, "hot rows cannot be concatenated");
                return;
            }
        }
    }
}

//! Stored samples as they are, for those who ask for series rather than for the answer of an expression.

use std::collections::BTreeMap;

use weir_storage::Labels;

use super::State;
use super::error::ApiError;
use crate::promql::snapshot::SnapshotSource;
use crate::promql::source::{SampleSource, Selection, too_many};
use crate::promql::{Error, SeriesSamples};

/// The samples of the series that any of `selections` matches, in order of labels, each series once. It is for
/// selections of one span of time.
pub(super) async fn select(
    state: &State,
    selections: Vec<Selection>,
) -> Result<Vec<SeriesSamples>, ApiError> {
    let settings = &state.prometheus;
    let (limit, series) = (settings.options.samples, settings.options.series);
    let snapshot = state.engine.snapshot(&state.tenant);
    let index = state.engine.series(&state.tenant);
    let source = SnapshotSource::new(snapshot, index).limited(series);
    let work = async move {
        let (mut left, mut found) = (limit, BTreeMap::<Labels, SeriesSamples>::new());
        for selection in &selections {
            let samples = source.select(selection, left).await?;
            let all = tokio::task::block_in_place(|| samples.whole(left))?;
            for series in all.into_iter().filter(|series| !series.is_empty()) {
                if !found.contains_key(&series.labels) {
                    left = left.checked_sub(series.len()).ok_or_else(|| too_many(limit))?;
                    found.insert(series.labels.clone(), series);
                }
            }
        }
        Ok::<_, Error>(found.into_values().collect())
    };
    Ok(state.engine.run_within(settings.timeout, work).await??)
}

//! What rules yield as rows, through the builder that everybody who stores metrics uses.

use std::sync::Arc;

use weir_model::TenantId;
use weir_storage::columns::At;
use weir_storage::rows::{MetricRows, Series};
use weir_storage::{SeriesIndex, WriteBatch};

use super::store::Point;
use crate::promql::Sample;

/// The rows that hold `points`, those of series that are new today among them.
pub(super) fn batch(
    index: &Arc<SeriesIndex>,
    tenant: &TenantId,
    points: &[Point],
) -> Result<WriteBatch, String> {
    let mut rows = MetricRows::new(index);
    for point in points {
        let (series, time) = (Series::new(point.labels.clone()), At::from_millis(point.time_ms));
        let stored = match &point.sample {
            Sample::Absent => Ok(()),
            Sample::Float(value) => rows.sample(&series, time, None, *value),
            Sample::Histogram(histogram) => rows.histogram(&series, time, None, &histogram.native()),
        };
        stored.map_err(|refused| format!("a result cannot be stored: {refused}"))?;
    }
    let parts = rows.finish().map_err(|error| error.to_string())?;
    Ok(WriteBatch { tenant: tenant.clone(), parts })
}

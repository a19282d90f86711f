//! Loaded series as the rows that a collector would have stored.

use arrow::error::ArrowError;
use weir_model::TenantId;
use weir_storage::columns::At;
use weir_storage::rows::{MetricRows, Series};
use weir_storage::{Labels, SeriesIndex, WriteBatch};

use super::points::Loaded;
use crate::promql::value::Sample;

/// The rows that hold all of `all`, of a tenant that has none yet.
pub(super) fn rows(tenant: TenantId, all: &[(Labels, Vec<Loaded>)]) -> Result<WriteBatch, ArrowError> {
    let index = SeriesIndex::default();
    let mut rows = MetricRows::new(&index);
    for (labels, loaded) in all {
        let series = Series::new(labels.clone());
        for point in loaded {
            let time = At::from_millis(point.time);
            let start = (point.start != 0).then(|| At::from_millis(point.start));
            let stored = match &point.sample {
                Sample::Absent => Ok(()),
                Sample::Float(value) => rows.sample(&series, time, start, *value),
                Sample::Histogram(histogram) => rows.histogram(&series, time, start, &histogram.native()),
            };
            stored.map_err(|refused| ArrowError::ExternalError(Box::new(refused)))?;
        }
    }
    Ok(WriteBatch { tenant, parts: rows.finish()? })
}

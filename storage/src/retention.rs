//! How long rows are kept: by age and by size, for each tenant and table as it was asked for.
//!
//! By age, a day leaves a table when all of it is older. By size, files leave, the oldest first, until the rest
//! fits: first of a table that has a bound of its own, then of all tables of a tenant together. `series` goes by
//! neither: it names what other tables hold, so a day of it stays while they have rows of that day or of an
//! earlier one. The rollups of the service graph are small and there to stay: only rules of their own bound them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{TenantId, UnixNanos};

use crate::delta::Change;
use crate::files::FileName;
use crate::series::day_of;
use crate::shared::Shared;
use crate::{DataFile, FlushError, Table};

/// How long the rows of `series` of a day stay at least: samples of that day may still be on their way.
const SERIES_GRACE: Duration = Duration::from_secs(2 * 86_400);
/// The tables whose series `series` names.
const MEASURED: [Table; 3] = [Table::Samples, Table::Histograms, Table::Exemplars];

/// What is asked for some tables of some tenants; absent is whatever a more general rule says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// How long rows are kept; for ever is [`Duration::MAX`].
    pub age: Option<Duration>,
    /// Bytes of files; any number is [`u64::MAX`].
    pub bytes: Option<u64>,
}

/// All rules. Of several that speak of a table's age, one of the tenant and the table wins over one of the tenant,
/// which wins over one of the table, which wins over one of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    rules: HashMap<(Option<TenantId>, Option<Table>), Keep>,
}

/// Why rows were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Age,
    Size,
}

/// Files that are to leave their tables.
type Expired<'a> = Vec<(Table, &'a DataFile, Reason)>;

impl Retention {
    /// Sets what is kept of `table`, or of any without a rule of its own, of `tenant`, or of any likewise. Bytes are
    /// those of the table, or of all tables of a tenant together.
    pub fn set(&mut self, tenant: Option<TenantId>, table: Option<Table>, keep: Keep) {
        let is_general = tenant.is_none() && table.is_none();
        let bounds_nothing =
            [None, Some(Duration::MAX)].contains(&keep.age) && [None, Some(u64::MAX)].contains(&keep.bytes);
        if !(is_general && bounds_nothing) {
            self.rules.insert((tenant, table), keep);
        }
    }

    fn age(&self, tenant: &TenantId, table: Table) -> Duration {
        let rules = [(Some(tenant), Some(table)), (Some(tenant), None), (None, Some(table)), (None, None)];
        let mut rules = rules.into_iter().filter(|(_, of)| of.is_some() || !table.is_rollup());
        rules.find_map(|rule| self.rule(rule)?.age).unwrap_or(Duration::MAX)
    }

    fn bytes(&self, tenant: &TenantId, table: Option<Table>) -> u64 {
        let rules = [(Some(tenant), table), (None, table)];
        rules.into_iter().find_map(|rule| self.rule(rule)?.bytes).unwrap_or(u64::MAX)
    }

    fn rule(&self, (tenant, table): (Option<&TenantId>, Option<Table>)) -> Option<&Keep> {
        self.rules.get(&(tenant.cloned(), table))
    }

    /// Which of the files of a tenant are to go.
    fn expired<'a>(&self, tenant: &TenantId, all: &'a [(Table, DataFile)], now: UnixNanos) -> Expired<'a> {
        let mut expired = Expired::new();
        let mut kept: Vec<(Table, &DataFile)> = Vec::with_capacity(all.len());
        for (table, file) in all {
            if *table == Table::Series || file.date >= day_before(now, self.age(tenant, *table)) {
                kept.push((*table, file));
            } else {
                expired.push((*table, file, Reason::Age));
            }
        }
        kept.sort_by_key(|(_, file)| (file.date, FileName::of(&file.path).map_or(0, |name| name.writes.1)));
        let bounded = Table::ALL.map(|table| (Some(table), self.bytes(tenant, Some(table))));
        for (only, bytes) in bounded.into_iter().chain([(None, self.bytes(tenant, None))]) {
            let of_bound = |table| only.is_none_or(|only| only == table);
            let sizes = kept.iter().filter(|(table, _)| of_bound(*table)).map(|(_, file)| file.size);
            let mut size: u64 = sizes.sum();
            kept.retain(|(table, file)| {
                let stays = *table == Table::Series || only.is_none() && table.is_rollup();
                let goes = size > bytes && of_bound(*table) && !stays;
                if goes {
                    size -= file.size;
                    expired.push((*table, *file, Reason::Size));
                }
                !goes
            });
        }
        if let Some(reason) =
            expired.iter().find_map(|(table, _, reason)| MEASURED.contains(table).then_some(*reason))
        {
            let measured = kept.iter().filter(|(table, _)| MEASURED.contains(table));
            let oldest = measured.map(|(_, file)| file.date).min().unwrap_or(i32::MAX);
            let first_kept = oldest.min(day_before(now, SERIES_GRACE));
            let series =
                kept.iter().filter(|(table, file)| *table == Table::Series && file.date < first_kept);
            expired.extend(series.map(|(table, file)| (*table, *file, reason)));
        }
        expired
    }
}

/// The first day that is not wholly older than `age`.
fn day_before(now: UnixNanos, age: Duration) -> i32 {
    let micros = (now - age).0 / 1_000;
    day_of(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Takes out of the tables what is to be kept no longer; returns how many rows.
pub(crate) async fn expire(shared: &Arc<Shared>) -> Result<u64, FlushError> {
    if shared.retention.rules.is_empty() {
        return Ok(0);
    }
    // In a task of its own: whoever loses interest must not leave a commit half known.
    let task = Arc::clone(shared);
    let expiry = tokio::spawn(async move { expire_all(&task).await });
    expiry.await.unwrap_or_else(|e| Err(FlushError::Stopped(format!("expiry ended early: {e}"))))
}

async fn expire_all(shared: &Shared) -> Result<u64, FlushError> {
    let mut flusher = shared.flusher.lock().await;
    let open = flusher.as_mut().ok_or_else(|| FlushError::Stopped("it is closed".to_owned()))?;
    let mut of_tenants: HashMap<TenantId, Vec<(Table, DataFile)>> = HashMap::new();
    for ((tenant, table), log) in &open.logs {
        let files = log.files.iter().map(|file| (*table, file.clone()));
        of_tenants.entry(tenant.clone()).or_default().extend(files);
    }
    let now = shared.clock.now();
    let mut rows = 0;
    for (tenant, all) in of_tenants {
        let expired = shared.retention.expired(&tenant, &all, now);
        for table in Table::ALL {
            let old: Vec<_> = expired.iter().filter(|(of, ..)| *of == table).collect();
            let Some((.., reason)) = old.first() else { continue };
            let key = (tenant.clone(), table);
            let gone: Vec<DataFile> = old.iter().map(|(_, file, _)| (*file).clone()).collect();
            if !open.exchange(shared, &key, &gone, &[], Change::Drop).await? {
                continue;
            }
            for (_, file, reason) in &old {
                let expired = shared.metrics.expired(*reason);
                expired.files.add(1);
                expired.rows.add(file.rows);
                expired.bytes.add(file.size);
                rows += file.rows;
            }
            if table == Table::Series {
                let first = open.logs.get(&key).into_iter().flat_map(|log| log.files.iter());
                let first = first.map(|file| file.date).min().unwrap_or(day_before(now, SERIES_GRACE));
                shared.series(&tenant).forget_before(first);
            }
            tracing::info!(
                %tenant,
                table = table.name(),
                files = gone.len(),
                ?reason,
                "files left their table because of their age or its size"
            );
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;

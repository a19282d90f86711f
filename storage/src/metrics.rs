//! What storage counts about itself, and the Prometheus text of it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_model::UnixNanos;

use crate::retention::Reason;
use crate::{Status, TableStatus};

/// A number that only storage changes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When something last happened; never, at first.
#[derive(Debug, Default)]
pub(crate) struct Moment(AtomicU64);

impl Moment {
    pub(crate) fn set(&self, now: UnixNanos) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<UnixNanos> {
        Some(UnixNanos(self.0.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }
}

/// The counters and gauges that are kept as they change; [`Status`] adds what is read off the state.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) wal_bytes: Count,
    pub(crate) acked_batches: Count,
    pub(crate) overloaded: Count,
    pub(crate) disk_full: Count,
    pub(crate) wal_quarantined: Count,
    pub(crate) wal_torn_tails: Count,
    pub(crate) flushes: Count,
    pub(crate) flush_errors: Count,
    pub(crate) flushed_rows: Count,
    pub(crate) flushed_bytes: Count,
    pub(crate) evicted_rows: Count,
    pub(crate) series_collisions: Count,
    pub(crate) compactions: Count,
    pub(crate) compaction_errors: Count,
    pub(crate) compacted_files: Count,
    pub(crate) compacted_rows: Count,
    pub(crate) duplicate_rows: Count,
    expired: [Expired; 2],
    pub(crate) sampled_rows: Count,
    pub(crate) sampled_out_rows: Count,
    pub(crate) vacuumed_files: Count,
    pub(crate) flushed_at: Moment,
    pub(crate) compacted_at: Moment,
    pub(crate) fsyncs: Count,
    fsync_nanos: Count,
    pub(crate) flush_nanos: Count,
}

/// What was dropped for one reason.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    pub(crate) files: Count,
    pub(crate) rows: Count,
    pub(crate) bytes: Count,
}

impl Metrics {
    pub(crate) fn expired(&self, reason: Reason) -> &Expired {
        &self.expired[reason as usize]
    }

    pub(crate) fn fsync(&self, took: Duration) {
        self.fsyncs.add(1);
        self.fsync_nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Appends all metrics in the Prometheus text format.
pub(crate) fn write_prometheus(metrics: &Metrics, status: &Status, out: &mut String) {
    let gauges = [
        ("wal_bytes", "Bytes of write-ahead log segments on disk.", status.wal_bytes),
        ("hot_rows", "Rows that are acknowledged and not yet in a file.", status.hot_rows),
        ("hot_bytes", "Bytes of those rows.", status.hot_bytes),
        ("series", "Series in the label index.", status.series),
        ("quarantined_files", "Damaged files that were set aside.", status.quarantined as u64),
        (
            "disk_full",
            "Whether writes are refused because there is no space to flush them.",
            u64::from(status.disk_full),
        ),
        (
            "stopped",
            "Whether storage has stopped because a sync failed.",
            u64::from(status.stopped.is_some()),
        ),
    ];
    for (name, help, value) in gauges {
        family(out, name, "gauge", help);
        let _ = writeln!(out, "weir_storage_{name} {value}");
    }
    family(out, "files", "gauge", "Published Parquet files.");
    for TableStatus { table, files, .. } in &status.tables {
        let _ = writeln!(out, "weir_storage_files{{table=\"{}\"}} {files}", table.name());
    }
    family(out, "file_bytes", "gauge", "Bytes of published Parquet files.");
    for TableStatus { table, bytes, .. } in &status.tables {
        let _ = writeln!(out, "weir_storage_file_bytes{{table=\"{}\"}} {bytes}", table.name());
    }
    let ages = [(
        "hot_age_seconds",
        "How long the oldest row has not been in a file.",
        status.hot_age.as_secs_f64(),
    )];
    let moments = [
        ("last_flush_timestamp_seconds", "When rows were last written to files.", status.flushed_at),
        ("last_compaction_timestamp_seconds", "When files were last merged.", status.compacted_at),
    ];
    let moments = moments.map(|(name, help, at)| (name, help, at.map_or(0.0, |at| at.0 as f64 / 1e9)));
    for (name, help, seconds) in ages.into_iter().chain(moments) {
        family(out, name, "gauge", help);
        let _ = writeln!(out, "weir_storage_{name} {seconds}");
    }
    let m = metrics;
    let counters = [
        ("acked_batches_total", "Writes that were acknowledged.", &m.acked_batches),
        ("overloaded_total", "Writes that were refused because too much was waiting.", &m.overloaded),
        ("disk_full_total", "Writes that were refused because the disk is full.", &m.disk_full),
        (
            "wal_frames_quarantined_total",
            "Damaged stretches of the log that were set aside.",
            &m.wal_quarantined,
        ),
        ("wal_torn_tails_total", "Log segments that ended in a torn write.", &m.wal_torn_tails),
        ("flushes_total", "Flushes that wrote rows.", &m.flushes),
        ("flush_errors_total", "Flushes that failed and will be tried again.", &m.flush_errors),
        ("flushed_rows_total", "Rows written to Parquet.", &m.flushed_rows),
        ("flushed_bytes_total", "Bytes of Parquet written.", &m.flushed_bytes),
        (
            "evicted_rows_total",
            "Flushed rows that left the reach of cursors early, for space.",
            &m.evicted_rows,
        ),
        ("compactions_total", "Merges of small files.", &m.compactions),
        ("compaction_errors_total", "Merges that failed and will be tried again.", &m.compaction_errors),
        ("compacted_files_total", "Files that were merged.", &m.compacted_files),
        ("compacted_rows_total", "Rows in files that were merged.", &m.compacted_rows),
        (
            "duplicate_rows_total",
            "Rows that a merge left out because they were there twice.",
            &m.duplicate_rows,
        ),
        ("sampled_rows_total", "Spans that tail sampling decided on.", &m.sampled_rows),
        ("sampled_out_rows_total", "Of these, spans that it dropped.", &m.sampled_out_rows),
        ("vacuumed_files_total", "Files without a table that were removed.", &m.vacuumed_files),
        ("series_collisions_total", "Series rows whose id belongs to other labels.", &m.series_collisions),
    ];
    for (name, help, count) in counters {
        family(out, name, "counter", help);
        let _ = writeln!(out, "weir_storage_{name} {}", count.get());
    }
    let [age, size] = &m.expired;
    let expired = [
        ("expired_files_total", "Files that left their table.", &age.files, &size.files),
        ("expired_rows_total", "Rows of these files.", &age.rows, &size.rows),
        ("expired_bytes_total", "Bytes of these files.", &age.bytes, &size.bytes),
    ];
    for (name, help, age, size) in expired {
        family(out, name, "counter", help);
        for (reason, count) in [("age", age), ("size", size)] {
            let _ = writeln!(out, "weir_storage_{name}{{reason=\"{reason}\"}} {}", count.get());
        }
    }
    let sums = [
        ("fsync_seconds", "Time spent syncing the write-ahead log.", &m.fsync_nanos, &m.fsyncs),
        ("flush_seconds", "Time spent flushing.", &m.flush_nanos, &m.flushes),
    ];
    for (name, help, nanos, count) in sums {
        family(out, name, "summary", help);
        let _ = writeln!(out, "weir_storage_{name}_sum {}", nanos.get() as f64 / 1e9);
        let _ = writeln!(out, "weir_storage_{name}_count {}", count.get());
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP weir_storage_{name} {help}\n# TYPE weir_storage_{name} {kind}");
}

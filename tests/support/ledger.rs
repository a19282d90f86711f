//! What a load generator was told is stored, against what is stored.

use std::collections::HashMap;
use std::path::Path;

use super::Server;

/// Rows that are asked for at once: below the row cap of an answer.
const SLICE_ROWS: u64 = 50_000;

/// The acknowledged ids, each with how often it was written down. A line that the kill cut short was not
/// acknowledged to anybody.
pub(crate) fn read(path: &Path) -> HashMap<String, u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default(); // nothing was acknowledged where it is missing
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut ids = HashMap::new();
    for line in whole.lines() {
        *ids.entry(line.replace(' ', "")).or_default() += 1;
    }
    ids
}

/// How often each span is stored, read in slices that fit the row cap.
pub(crate) async fn stored_spans(server: &Server) -> HashMap<String, u32> {
    let rows = server.sql_value("select count(*) from spans").await.as_u64().unwrap();
    let slices: Vec<String> = if rows < SLICE_ROWS {
        vec![String::new()]
    } else {
        "0123456789abcdef".chars().map(String::from).collect()
    };
    let mut found = HashMap::new();
    for first in slices {
        let rows = server
            .sql(&format!(
                "select trace_id || span_id as id, count(*) as n from spans where trace_id like '{first}%' group by 1"
            ))
            .await;
        assert!(rows.len() < 100_000, "a slice is as long as the row cap");
        for row in rows {
            found.insert(row["id"].as_str().unwrap().to_owned(), row["n"].as_u64().unwrap() as u32);
        }
    }
    found
}

/// The spans that were acknowledged and are not stored, and the spans that are stored more than once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Differences {
    pub(crate) missing: usize,
    pub(crate) doubled: usize,
}

/// Compares what was acknowledged with what is stored.
pub(crate) fn compare(acknowledged: &HashMap<String, u32>, stored: &HashMap<String, u32>) -> Differences {
    Differences {
        missing: acknowledged.keys().filter(|id| !stored.contains_key(*id)).count(),
        doubled: stored.values().filter(|n| **n > 1).count(),
    }
}
